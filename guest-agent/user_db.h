// SPDX-License-Identifier: Apache-2.0
// Users and groups of the image, read from its own /etc/passwd and /etc/group text: getpwnam would need the
// image's libc plugins.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace msb::agent {

struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary
  std::string name;           // empty for a uid that passwd does not know
  std::string home = "/";
  std::string shell;
};

inline constexpr std::size_t kMaxGroups = 1024;

// Resolves "user[:group]" as container runtimes do: each part a name or a number; an empty user is uid 0; a
// number need not be listed; a name must be. Without a group, the user's own group and the supplementary
// groups listed for the user apply; with one, that group and none but `extra`. Errors: kInvalid, saying which
// name is unknown.
[[nodiscard]] Result<Identity> resolve_user(std::string_view passwd, std::string_view group,
                                            std::string_view spec, const std::vector<std::string>& extra);

// "user[:group]" for chown: a part that is not given is -1. Number or listed name.
struct Owner {
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
};
[[nodiscard]] Result<Owner> resolve_owner(std::string_view passwd, std::string_view group,
                                          std::string_view spec);

// The text of /etc/passwd or /etc/group below "/"; empty when there is none or it is unreasonably large.
[[nodiscard]] std::string read_passwd();
[[nodiscard]] std::string read_group();

}  // namespace msb::agent
