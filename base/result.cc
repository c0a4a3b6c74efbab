// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace msb {

std::string_view errc_name(Errc code) {
  switch (code) {
    case Errc::kInvalid:
      return "invalid";
    case Errc::kNotFound:
      return "not_found";
    case Errc::kExists:
      return "exists";
    case Errc::kPermission:
      return "permission";
    case Errc::kBusy:
      return "busy";
    case Errc::kUnavailable:
      return "unavailable";
    case Errc::kTimeout:
      return "timeout";
    case Errc::kLimit:
      return "limit";
    case Errc::kProtocol:
      return "protocol";
    case Errc::kCorrupt:
      return "corrupt";
    case Errc::kNoSpace:
      return "no_space";
    case Errc::kCancelled:
      return "cancelled";
    case Errc::kUnsupported:
      return "unsupported";
    case Errc::kSystem:
      return "system";
    case Errc::kInternal:
      return "internal";
  }
  return "internal";
}

Errc errc_from_errno(int err) {
  switch (err) {
    case ENOENT:
    case ENOTDIR:
      return Errc::kNotFound;
    case EEXIST:
      return Errc::kExists;
    case EACCES:
    case EPERM:
    case EROFS:
      return Errc::kPermission;
    case EBUSY:
    case ETXTBSY:
      return Errc::kBusy;
    case ETIMEDOUT:
      return Errc::kTimeout;
    case ENOSPC:
    case EDQUOT:
      return Errc::kNoSpace;
    case EINVAL:
    case ENAMETOOLONG:
      return Errc::kInvalid;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ENOTCONN:
    case ENETUNREACH:
    case EHOSTUNREACH:
      return Errc::kUnavailable;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return Errc::kLimit;
    case EOPNOTSUPP:
    case ENOSYS:
      return Errc::kUnsupported;
    default:
      return Errc::kSystem;
  }
}

Error sys_error(std::string_view what, int err) {
  char buffer[128];
  const char* reason = ::strerror_r(err, buffer, sizeof buffer);  // GNU variant: returns the text
  std::string text(what);
  text += ": ";
  text += reason;
  return Error{errc_from_errno(err), err, std::move(text)};
}

Error make_error(Errc code, const char* format, ...) {
  char buffer[1024];
  va_list args;
  va_start(args, format);
  const int length = std::vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  if (length < 0) return Error{code, 0, format};
  const auto wanted = static_cast<std::size_t>(length);
  return Error{code, 0, std::string(buffer, wanted < sizeof buffer ? wanted : sizeof buffer - 1)};
}

}  // namespace msb
