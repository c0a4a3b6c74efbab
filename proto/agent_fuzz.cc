// SPDX-License-Identifier: Apache-2.0
// Every message parser over arbitrary text: no crash, and what parses must survive writing and parsing again.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "proto/agent.h"
#include "proto/guest_config.h"

namespace {
template <typename Message>
void round_trip(std::string_view text) {
  auto parsed = msb::proto::from_json<Message>(text);
  if (!parsed.ok()) return;
  const std::string once = msb::proto::to_json(*parsed);
  auto again = msb::proto::from_json<Message>(once, msb::JsonLimits{.max_bytes = std::size_t{16} << 20});
  MSB_CHECK(again.ok());
  MSB_CHECK(msb::proto::to_json(*again) == once);
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::proto;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 18) {
    case 0:
      round_trip<Request>(text);
      break;
    case 1:
      round_trip<Hello>(text);
      break;
    case 2:
      round_trip<ErrorReply>(text);
      break;
    case 3:
      round_trip<Started>(text);
      break;
    case 4:
      round_trip<Exit>(text);
      break;
    case 5:
      round_trip<SessionList>(text);
      break;
    case 6:
      round_trip<GuestInfo>(text);
      break;
    case 7:
      round_trip<Ready>(text);
      break;
    case 8:
      round_trip<Shutdown>(text);
      break;
    case 9:
      round_trip<ClockMessage>(text);
      break;
    case 10:
      round_trip<ControlEvent>(text);
      break;
    case 11:
      round_trip<FileInfo>(text);
      break;
    case 12:
      round_trip<DirBatch>(text);
      break;
    case 13:
      round_trip<TreeEntry>(text);
      break;
    case 14:
      round_trip<WatchEvent>(text);
      break;
    case 15:
      round_trip<GuestConfig>(text);
      break;
    case 16:
      round_trip<SignalMessage>(text);
      break;
    default:
      round_trip<Resize>(text);
      (void)parse_log({data + 1, size - 1});
      (void)signal_number(text);
      break;
  }
  return 0;
}
