# SPDX-License-Identifier: Apache-2.0
# How every room declares its targets: msb_library, msb_executable, msb_program, msb_tests, msb_fuzzers, msb_benches.
include(GNUInstallDirs)
find_package(Threads REQUIRED)

# The build tree has the shape of an installation, so that programs find each other relative to themselves.
set(MSB_BINDIR ${CMAKE_BINARY_DIR}/bin)
set(MSB_LIBEXECDIR ${CMAKE_BINARY_DIR}/libexec/msb)
set(MSB_DATADIR ${CMAKE_BINARY_DIR}/share/msb)

find_program(MSB_CCACHE ccache)
if(MSB_CCACHE)
  # Paths inside the tree are hashed as relative ones, so that clones and worktrees share what was compiled.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=true
    ${MSB_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
find_program(MSB_MOLD mold)

add_library(msb_flags INTERFACE)
target_include_directories(msb_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(msb_flags INTERFACE
  -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=
  -Wall -Wextra -Wpedantic -Werror -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast
  -Wimplicit-fallthrough -Wnon-virtual-dtor -Wnull-dereference -Wformat=2 -Wno-missing-field-initializers
  -fno-strict-aliasing -ffunction-sections -fdata-sections)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports null dereferences and overflows inside its own headers when it inlines them.
  target_compile_options(msb_flags INTERFACE -Wno-null-dereference -Wno-restrict -Wno-stringop-overflow
    -Wno-array-bounds -Wno-maybe-uninitialized)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  target_compile_options(msb_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -D_GLIBCXX_ASSERTIONS
    -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -ftrivial-auto-var-init=zero)
  target_link_options(msb_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections)
endif()
if(MSB_SANITIZE)
  # vptr needs RTTI, which our libraries are built without.
  target_compile_options(msb_flags INTERFACE -fsanitize=${MSB_SANITIZE} -fno-sanitize=vptr
    -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(msb_flags INTERFACE -fsanitize=${MSB_SANITIZE})
endif()
if(MSB_COVERAGE)
  target_compile_options(msb_flags INTERFACE --coverage)
  target_link_options(msb_flags INTERFACE --coverage)
endif()
if(MSB_FUZZ)
  target_compile_options(msb_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(MSB_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_link_options(msb_flags INTERFACE -fuse-ld=mold)
endif()
# Programs are PIE through CMAKE_POSITION_INDEPENDENT_CODE and -pie; the static agent is static-pie.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()

set(MSB_NO_EXCEPTIONS $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)

# msb_library(NAME [EXCEPTIONS] SOURCES a.cc ... [DEPS targets...])
function(msb_library name)
  cmake_parse_arguments(ARG "EXCEPTIONS" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC msb_flags Threads::Threads ${ARG_DEPS})
  if(NOT ARG_EXCEPTIONS)
    target_compile_options(${name} PRIVATE ${MSB_NO_EXCEPTIONS})
  endif()
endfunction()

# msb_executable(NAME [EXCEPTIONS] [STATIC] SOURCES ... DEPS ...): a program built as ours are, wherever it then goes.
# STATIC for what starts on the hot path: loading the C++ library costs more than many a command does
# (record 0091). Sanitizers and coverage need their runtimes, so those builds stay dynamic.
function(msb_executable name)
  cmake_parse_arguments(ARG "EXCEPTIONS;STATIC" "" "SOURCES;DEPS" ${ARGN})
  if(ARG_STATIC AND NOT MSB_SANITIZE AND NOT MSB_COVERAGE AND NOT MSB_FUZZ)
    # CMake would add -pie behind our -static-pie, which makes the program dynamic.
    unset(CMAKE_POSITION_INDEPENDENT_CODE)
    add_executable(${name} ${ARG_SOURCES})
    target_compile_options(${name} PRIVATE -fPIE)
    target_link_options(${name} PRIVATE -static-pie -Wl,-z,pack-relative-relocs)
  else()
    add_executable(${name} ${ARG_SOURCES})
  endif()
  target_link_libraries(${name} PRIVATE msb_flags Threads::Threads ${ARG_DEPS})
  if(NOT ARG_EXCEPTIONS)
    target_compile_options(${name} PRIVATE ${MSB_NO_EXCEPTIONS})
  endif()
endfunction()

# msb_program(NAME [EXCEPTIONS] [LIBEXEC] [STATIC] SOURCES ... DEPS ...): an executable that is installed, as bin/NAME or,
# with LIBEXEC, libexec/msb/NAME.
function(msb_program name)
  cmake_parse_arguments(ARG "LIBEXEC" "" "" ${ARGN})
  msb_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  if(ARG_LIBEXEC)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${MSB_LIBEXECDIR})
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/msb)
  else()
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${MSB_BINDIR})
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()

# msb_tests(ROOM DEPS ... [LABELS ...]): every *_test.cc of this folder becomes one binary ROOM_test, one ctest test.
# A room whose tests use threads says LABELS threads; the target msb_threaded_tests builds just those, for TSan.
add_custom_target(msb_threaded_tests)
function(msb_tests room)
  if(NOT MSB_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "DEPS;LABELS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  find_package(GTest REQUIRED)
  add_executable(${room}_test ${sources})
  target_link_libraries(${room}_test PRIVATE msb_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  set_target_properties(${room}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(threads IN_LIST ARG_LABELS)
    add_dependencies(msb_threaded_tests ${room}_test)
  endif()
  add_test(NAME unit.${room} COMMAND ${room}_test WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(unit.${room} PROPERTIES TIMEOUT 300 LABELS "unit;${ARG_LABELS}")
endfunction()

# msb_fuzzers(DEPS ...): every x_fuzz.cc becomes x_fuzz, with MSB_FUZZ a libFuzzer program. As a test it replays
# corpus/x/* of this folder, so that a crash once found stays fixed.
function(msb_fuzzers)
  if(NOT MSB_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_fuzz.cc)
  foreach(source ${sources})
    get_filename_component(target ${source} NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" subject ${target})
    set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${subject})
    add_executable(${target} ${source})
    target_link_libraries(${target} PRIVATE msb_flags ${ARG_DEPS})
    if(MSB_FUZZ)
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
      set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
      file(APPEND ${CMAKE_BINARY_DIR}/fuzz-targets.txt "${target} ${corpus}\n")
      add_test(NAME corpus.${subject} COMMAND ${target} -runs=0 ${corpus})
    else()
      target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tools/testing/fuzz_replay_main.cc)
      set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
      add_test(NAME corpus.${subject} COMMAND ${target} ${corpus})
    endif()
    set_tests_properties(corpus.${subject} PROPERTIES TIMEOUT 120 LABELS "corpus")
  endforeach()
endfunction()

# msb_benches(DEPS ...): every x_bench.cc becomes x_bench, a Google Benchmark program; never run by ctest.
function(msb_benches)
  if(NOT MSB_TESTS OR MSB_FUZZ OR MSB_SANITIZE)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_bench.cc)
  foreach(source ${sources})
    find_package(benchmark REQUIRED)
    get_filename_component(target ${source} NAME_WE)
    add_executable(${target} ${source})
    target_link_libraries(${target} PRIVATE msb_flags ${ARG_DEPS} benchmark::benchmark_main)
    set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
  endforeach()
endfunction()

if(MSB_FUZZ)
  file(WRITE ${CMAKE_BINARY_DIR}/fuzz-targets.txt "")
endif()
