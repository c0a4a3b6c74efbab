// SPDX-License-Identifier: Apache-2.0
// Errors as values. Everything that can fail returns Result<T> or Status; both warn when dropped.
//
// Three kinds of trouble, never mixed: an outsider's fault or the environment's becomes an Error; a bug of
// ours ends the process through MSB_CHECK (base/check.h); an absence that is normal is a std::optional.
// Error texts say what was attempted on what, in lower case and without a full stop; callers add context
// going up and the top logs or prints it once.
#pragma once

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"

namespace msb {

// What kind of failure it was, for callers that decide by it. The text is for people.
enum class Errc : std::uint8_t {
  kInvalid,      // an argument, flag or configuration is wrong
  kNotFound,     // the named thing does not exist
  kExists,       // the named thing exists already
  kPermission,   // access refused
  kBusy,         // locked or in use by another
  kUnavailable,  // a peer or facility is not there (gone, refused, not supported by this host)
  kTimeout,      // a deadline passed
  kLimit,        // a bound of ours was reached
  kProtocol,     // a peer (guest, registry, client) sent what the protocol does not allow
  kCorrupt,      // stored bytes are not what they must be
  kNoSpace,      // the disk or quota is full
  kCancelled,    // the caller or a signal ended it
  kUnsupported,  // understood, but not offered here
  kSystem,       // a system call failed in another way; see sys_errno
  kInternal,     // should not happen, yet must not end the process
};

// Stable lower-case name of a code ("not_found"), used in JSON errors.
[[nodiscard]] std::string_view errc_name(Errc code);

struct [[nodiscard]] Error {
  Errc code = Errc::kInternal;
  int sys_errno = 0;  // errno of the failed call, 0 when none is meant
  std::string text;   // "open /x/y: no such file or directory"

  // The same error with `context: ` put before its text.
  [[nodiscard]] Error with_context(std::string_view context) && {
    text.insert(0, ": ");
    text.insert(0, context);
    return std::move(*this);
  }
};

// Error of a failed system call: text "what: strerror", code chosen from the errno.
[[nodiscard]] Error sys_error(std::string_view what, int err = errno);
// Code that fits an errno: ENOENT -> kNotFound, EACCES/EPERM -> kPermission, ENOSPC/EDQUOT -> kNoSpace, ...
[[nodiscard]] Errc errc_from_errno(int err);
// printf-style construction.
[[nodiscard]] Error make_error(Errc code, const char* format, ...) __attribute__((format(printf, 2, 3)));

template <typename T>
class [[nodiscard]] Result {
  static_assert(!std::is_same_v<std::remove_cvref_t<T>, Error>);

 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  template <typename U>  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): constrained below
  requires(std::is_convertible_v<U&&, T> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
           !std::is_same_v<std::remove_cvref_t<U>, Error> && !std::is_same_v<std::remove_cvref_t<U>, Result>)
      Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  [[nodiscard]] T& value() & {
    MSB_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const T& value() const& {
    MSB_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] T&& value() && {
    MSB_CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  [[nodiscard]] T value_or(T fallback) && {
    return ok() ? std::move(*std::get_if<0>(&state_)) : std::move(fallback);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] Error& error() & {
    MSB_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] const Error& error() const& {
    MSB_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] Error&& error() && {
    MSB_CHECK(!ok());
    return std::move(*std::get_if<1>(&state_));
  }
  // The same result; a failure gets `context: ` before its text.
  [[nodiscard]] Result with_context(std::string_view context) && {
    if (ok()) return std::move(*this);
    return std::move(*this).error().with_context(context);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] Error& error() & {
    MSB_CHECK(!ok());
    return *error_;
  }
  [[nodiscard]] const Error& error() const& {
    MSB_CHECK(!ok());
    return *error_;
  }
  [[nodiscard]] Error&& error() && {
    MSB_CHECK(!ok());
    return std::move(*error_);
  }
  [[nodiscard]] Result with_context(std::string_view context) && {
    if (ok()) return {};
    return std::move(*error_).with_context(context);
  }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace msb

#define MSB_CONCAT_INNER(a, b) a##b
#define MSB_CONCAT(a, b) MSB_CONCAT_INNER(a, b)

// MSB_TRY(expr): returns the error of a Status or Result from the enclosing function; drops the value.
// The temporaries are numbered by __COUNTER__: `expr` may hold a lambda that uses these macros itself.
#define MSB_TRY(expr) MSB_TRY_INNER(MSB_CONCAT(msb_try_, __COUNTER__), expr)
#define MSB_TRY_INNER(temporary, expr)                        \
  do {                                                        \
    auto temporary = (expr);                                  \
    if (!temporary.ok()) return std::move(temporary).error(); \
  } while (false)

// MSB_ASSIGN(declaration, expr): e.g. MSB_ASSIGN(UniqueFd fd, open_file(path));
#define MSB_ASSIGN(declaration, expr) \
  MSB_ASSIGN_INNER(MSB_CONCAT(msb_assign_, __COUNTER__), declaration, expr)
#define MSB_ASSIGN_INNER(temporary, declaration, expr)      \
  auto temporary = (expr);                                  \
  if (!temporary.ok()) return std::move(temporary).error(); \
  declaration = std::move(temporary).value()
