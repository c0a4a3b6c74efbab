// SPDX-License-Identifier: Apache-2.0
// The name in a stream's first bytes. What is decided stays decided when more comes: otherwise the pace of
// the guest's writes would choose the verdict.
#include <cstdlib>

#include "net/wire/sniff.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::net;  // NOLINT: a fuzz target is one function
  if (size > kMaxSniff) size = kMaxSniff;
  const Sniff whole = sniff_name({data, size});
  if (size == kMaxSniff && whole.kind == Sniff::Kind::kNeedMore) std::abort();
  if (whole.name && whole.kind != Sniff::Kind::kTls && whole.kind != Sniff::Kind::kHttp) std::abort();
  for (std::size_t length = 0; length < size && length < 512; ++length) {
    const Sniff part = sniff_name({data, length});
    if (part.kind == Sniff::Kind::kNeedMore) continue;
    // Only this may change: what is opaque may turn out to be a misspelt request.
    const bool misspelt = part.kind == Sniff::Kind::kOpaque && whole.kind == Sniff::Kind::kAmbiguous;
    if (part.kind != whole.kind && !misspelt) std::abort();
    if (part.name.has_value() != whole.name.has_value() || (part.name && *part.name != *whole.name))
      std::abort();
  }
  return 0;
}
