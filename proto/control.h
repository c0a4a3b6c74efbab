// SPDX-License-Identifier: Apache-2.0
// The control socket of a sandbox (run/control.sock), served by msb-vmm's supervisor role. Frames of
// proto/frame.h: HELLO both ways, then REQUEST -> REPLY or ERROR, any number one after the other.
//
//   {"op":"status"}   -> {"state","name","pid","machine_pid","net_pid","since_ns","cpus","memory_mib",
//                         "confinement":{...}}
//   {"op":"stop","grace_ms":N,"force":false}  -> {} once the guest has synced and ended its sessions
//   {"op":"kill"}     -> {} at once; nothing is synced
//   {"op":"pause"} {"op":"resume"}            -> {} when done
//   {"op":"wait"}     -> {"reason","detail","code"|"signal"} when the sandbox ends
//   {"op":"events"}   -> {} and then EVENT frames {"event":"state","state":...}
//   {"op":"touch"}    -> {}; counts as activity for the idle time
//   {"op":"net","request":{...}}              -> what msb-net answers (net/net_process.h lists its requests)
// Unknown operations are answered with ERROR code "unsupported".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace msb::proto {

inline constexpr std::string_view kControlSocketName = "control.sock";
inline constexpr std::string_view kVsockSocketName = "vsock.sock";

enum class ControlOp : std::uint8_t { kStatus, kStop, kKill, kPause, kResume, kWait, kEvents, kTouch, kNet };

struct ControlRequest {
  ControlOp op = ControlOp::kStatus;
  std::optional<std::uint64_t> grace_ms;  // stop: nullopt means as the sandbox was configured
  bool force = false;                     // stop: do not ask the guest
  std::string net;                        // net: the request's JSON, not looked into
  // kUnsupported for an unknown operation, kInvalid for wrong members.
  [[nodiscard]] static Result<ControlRequest> parse(std::string_view json);
};

}  // namespace msb::proto
