// SPDX-License-Identifier: Apache-2.0
// The guard over a stream of requests says the same however the stream is cut: the first byte sets the size
// of the pieces, and the verdict must be that of one piece.
#include <cstdlib>

#include "net/wire/sniff.h"

namespace {

using namespace msb::net;  // NOLINT: a fuzz target is one file

struct Seen {
  bool denied = false;
  std::size_t passed = 0;
};

Seen feed(msb::ByteView stream, std::size_t piece) {
  HttpGuard guard(*msb::Hostname::parse("good.test"));
  Seen seen;
  std::size_t offered = 0;
  while (offered < stream.size() && !seen.denied && !guard.waits_for_server()) {
    offered = std::min(stream.size(), offered + piece);
    for (;;) {
      const msb::ByteView held = stream.subspan(seen.passed, offered - seen.passed);
      std::size_t pass = 0;
      seen.denied = guard.from_guest(held, pass) == HttpGuard::Result::kDenied;
      if (pass > held.size()) std::abort();
      seen.passed += pass;
      if (pass == 0 || seen.denied || seen.passed == offered) break;
    }
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const msb::ByteView stream(data + 1, std::min<std::size_t>(size - 1, 8192));
  const Seen whole = feed(stream, stream.size());
  const Seen pieces = feed(stream, 1 + data[0] % 64U);
  if (whole.denied != pieces.denied) std::abort();
  if (!whole.denied && whole.passed != pieces.passed) std::abort();
  return 0;
}
