// SPDX-License-Identifier: Apache-2.0
// NetworkSpec in its two written forms: the "network" member of a spec or configuration file, and the
// configuration that msb-net reads (proto/net_spec.h).
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "supervisor/spec.h"

namespace msb::supervisor {

// `view`: a profile's name ("none" and "open" too) or an object. Ports stand beside it, not in it.
[[nodiscard]] Result<NetworkSpec> read_network(const JsonView& view, UnknownKeys unknown);
// Writes the object that read_network() reads back, without the ports.
void write_network(const NetworkSpec& network, JsonWriter& out);

// What msb-net is told. The link's addresses are the same in every sandbox: each has a link of its own.
void write_net_config(const NetworkSpec& network, JsonWriter& out);
[[nodiscard]] std::string net_config_json(const NetworkSpec& network);
// The document for its --secrets-fd, with the password out of proxy_password_file (which is read: one line of
// 1 to 255 bytes of UTF-8 without control characters). Wipe it after use.
[[nodiscard]] Result<std::string> net_secrets_json(const NetworkSpec& network);
// Its member "policy" alone, as the control operation that replaces it sends it.
void write_net_policy(const NetworkSpec& network, JsonWriter& out);

// Whether msb-net could enforce it: kInvalid names the member that is wrong.
[[nodiscard]] Status check_network(const NetworkSpec& network);

inline constexpr std::string_view kGuestMac = "02:6d:73:62:00:02";
inline constexpr std::uint16_t kGuestMtu = 65520;  // the largest a TCP-terminating link can use

}  // namespace msb::supervisor
