// SPDX-License-Identifier: Apache-2.0
// What supervisor role and machine role say to each other over their socket pair (SOCK_SEQPACKET: one message
// per packet, descriptors beside it). Both ends are this very program, so there is no version; but the
// supervisor treats what comes from the machine role as hostile, since that role runs the guest.
//
//   to the machine:      start {spec} + descriptors   pause   resume   connected {id, ok} + socket
//   to the supervisor:   running {confinement}   failed {code, stage, text}   connect {id, port}
//                        paused   resumed   ended {reason, detail}
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/socket.h"
#include "proto/exit_reason.h"
#include "vmm/machine_spec.h"

namespace msb::vmm {

inline constexpr std::size_t kMaxLinkMessage = std::size_t{192} << 10;

// start: the values in JSON, the descriptors beside it in the order the JSON refers to by index. The guest's
// configuration can be large and travels as a memfd. `spec` keeps its descriptors.
[[nodiscard]] Status send_start(int link, const MachineSpec& spec, bool require_confinement);
struct StartMessage {
  MachineSpec spec;
  bool require_confinement = false;
};
// Waits for the start message; kProtocol for anything else.
[[nodiscard]] Result<StartMessage> receive_start(int link);

namespace to_machine {
struct Pause {};
struct Resume {};
struct Connected {
  std::uint64_t id = 0;
  UniqueFd socket;  // none: refused
};
using Message = std::variant<Pause, Resume, Connected>;
}  // namespace to_machine

namespace from_machine {
struct Running {
  std::string confinement;  // JSON of confine::Report
};
struct Failed {
  std::string code;  // errc_name
  std::string stage;
  std::string text;
};
struct Connect {
  std::uint64_t id = 0;
  std::uint32_t port = 0;
};
struct Paused {};
struct Resumed {};
struct Ended {
  proto::ExitReason reason = proto::ExitReason::kVmmError;
  std::string detail;
};
using Message = std::variant<Running, Failed, Connect, Paused, Resumed, Ended>;
}  // namespace from_machine

[[nodiscard]] Status send(int link, const to_machine::Message& message);
[[nodiscard]] Status send(int link, const from_machine::Message& message);
// kUnavailable at end of stream or when a non-blocking link has nothing now (sys_errno EAGAIN).
[[nodiscard]] Result<to_machine::Message> receive_to_machine(int link);
[[nodiscard]] Result<from_machine::Message> receive_from_machine(int link);

}  // namespace msb::vmm
