// SPDX-License-Identifier: Apache-2.0
// The host's Unix sockets that a guest may reach over vsock. Only what the specification names can be
// reached, by its port; the guest chooses nothing but that number.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/vm_spec.h"

namespace msb::vmm {

class HostSockets {
 public:
  explicit HostSockets(std::vector<proto::VmSpec::HostSocket> sockets);
  // A connected, non-blocking stream socket for a guest that asked for `port`. Never waits: kNotFound for a
  // port that nobody exposed, else the system's error. The path is looked up each time, with this process's
  // rights, so that a service may come back under its name. The first success and the first failure of each
  // are logged: a guest cannot fill the log.
  [[nodiscard]] Result<UniqueFd> connect(std::uint32_t port);

 private:
  struct Entry {
    proto::VmSpec::HostSocket socket;
    bool told_success = false;
    bool told_failure = false;
  };
  std::vector<Entry> entries_;
};

}  // namespace msb::vmm
