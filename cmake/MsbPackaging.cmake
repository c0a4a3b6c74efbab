# SPDX-License-Identifier: Apache-2.0
# `cmake --install` and CPack (.deb, .tar.zst) carry the tree that build/ has: bin, libexec/msb, share/msb. The kernel
# and the default image are made by scripts after the build (tools/quickstart runs them), hence OPTIONAL.
install(DIRECTORY ${MSB_DATADIR}/ DESTINATION ${CMAKE_INSTALL_DATADIR}/msb OPTIONAL
  FILES_MATCHING PATTERN "vmlinux" PATTERN "agent.cpio" PATTERN "*.oci.tar")
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE ${CMAKE_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CPACK_GENERATOR "DEB;TZST")
set(CPACK_PACKAGE_NAME msb)
set(CPACK_PACKAGE_VENDOR "the msb authors")
set(CPACK_PACKAGE_CONTACT "the msb authors <msb@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "microVM sandboxes for untrusted code")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
set(CPACK_PACKAGE_FILE_NAME "msb-${PROJECT_VERSION}-${CMAKE_SYSTEM_PROCESSOR}")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
include(CPack)
