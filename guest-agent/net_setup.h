// SPDX-License-Identifier: Apache-2.0
// The guest's network over rtnetlink: loopback, and the interface with its addresses and default routes.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "proto/guest_config.h"

namespace msb::agent {

// Configures the network of the calling process's namespace. `net` may be null: loopback only. What fails is
// added to `warnings`: a guest without network can still be worked in.
void set_up_network(const proto::GuestConfig::Net* net, std::vector<std::string>& warnings);

// The contents of resolv.conf, and of hosts for `hostname`.
[[nodiscard]] std::string resolv_conf(const proto::GuestConfig::Net& net);
[[nodiscard]] std::string hosts_file(const proto::GuestConfig& config);

}  // namespace msb::agent
