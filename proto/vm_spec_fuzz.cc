// SPDX-License-Identifier: Apache-2.0
#include "proto/control.h"
#include "proto/vm_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static_cast<void>(msb::proto::VmSpec::parse(text).ok());
  static_cast<void>(msb::proto::ControlRequest::parse(text).ok());
  return 0;
}
