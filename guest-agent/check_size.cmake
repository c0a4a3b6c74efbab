# SPDX-License-Identifier: Apache-2.0
file(SIZE ${FILE} size)
message("${FILE}: ${size} bytes")
if(size GREATER MAX)
  message(FATAL_ERROR "larger than ${MAX} bytes")
endif()
