// SPDX-License-Identifier: Apache-2.0
// The root of an overlay is the upper's directory: it shows that one's owner, mode and attributes, not the
// image's.
#pragma once

#include <string>

#include "base/result.h"

namespace msb::agent {

// Gives the directory `to` the owner, mode, extended attributes and modification time of `from`, unless the
// empty file `mark` says that this was done before: what the guest changed since must stay. Attributes that
// the file system of `to` cannot hold are left out.
[[nodiscard]] Status copy_root_attributes(const std::string& from, const std::string& to,
                                          const std::string& mark);

}  // namespace msb::agent
