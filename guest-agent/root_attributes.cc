// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/root_attributes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <string_view>

#include "base/file.h"

namespace msb::agent {
namespace {

constexpr std::size_t kMaxNames = 64U << 10;  // the kernel's own bound (XATTR_LIST_MAX)
constexpr std::size_t kMaxValue = 64U << 10;  // and XATTR_SIZE_MAX

void copy_xattrs(const std::string& from, const std::string& to) {
  std::string names(kMaxNames, '\0');
  const ssize_t listed = ::listxattr(from.c_str(), names.data(), names.size());
  if (listed <= 0) return;
  names.resize(static_cast<std::size_t>(listed));
  std::string value(kMaxValue, '\0');
  for (std::size_t at = 0; at < names.size(); at = names.find('\0', at) + 1) {
    const std::string name = names.c_str() + at;
    if (name.starts_with("trusted.overlay.")) continue;
    const ssize_t length = ::getxattr(from.c_str(), name.c_str(), value.data(), value.size());
    if (length < 0) continue;
    [[maybe_unused]] const int rc =
        ::setxattr(to.c_str(), name.c_str(), value.data(), static_cast<std::size_t>(length), 0);
  }
}

}  // namespace

Status copy_root_attributes(const std::string& from, const std::string& to, const std::string& mark) {
  struct stat info {};
  if (::stat(mark.c_str(), &info) == 0) return {};
  if (::stat(from.c_str(), &info) != 0) return sys_error("read the attributes of the image's root");
  if (::chown(to.c_str(), info.st_uid, info.st_gid) != 0 || ::chmod(to.c_str(), info.st_mode & 07777) != 0)
    return sys_error("set the owner and mode of the root");
  copy_xattrs(from, to);
  const std::array<timespec, 2> times{{{0, UTIME_OMIT}, info.st_mtim}};
  if (::utimensat(AT_FDCWD, to.c_str(), times.data(), 0) != 0) return sys_error("set the time of the root");
  MSB_TRY(open_file(mark, O_WRONLY | O_CREAT));
  return {};
}

}  // namespace msb::agent
