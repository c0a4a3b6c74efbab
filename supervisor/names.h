// SPDX-License-Identifier: Apache-2.0
// What may stand for a name: sandboxes, hosts, users, guest paths, signals.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace msb::supervisor {

// A sandbox's name: 1 to 128 of [A-Za-z0-9._-], starting with a letter or digit.
[[nodiscard]] Status check_name(std::string_view name);
// A host name: 1 to 64 of letters, digits, '-' and '.', starting and ending with a letter or digit.
[[nodiscard]] Status check_hostname(std::string_view name);
// "name", "uid", "name:group", "uid:gid": what the guest resolves. Refuses empty parts and control
// characters.
[[nodiscard]] Status check_user(std::string_view user);
// An absolute guest path without ".." parts and NUL, at most 4095 bytes.
[[nodiscard]] Status check_guest_path(std::string_view path);
// "SIGTERM", "TERM", "15", "SIGRTMIN+3" -> number.
[[nodiscard]] Result<int> parse_signal(std::string_view text);
// "SIGTERM" for 15; "signal 99" for what has no name.
[[nodiscard]] std::string signal_name(int number);

// True when `text` should be read as a path and not as an image reference: "." ".." "/..." "./..." "../...".
[[nodiscard]] bool looks_like_path(std::string_view text);

}  // namespace msb::supervisor
