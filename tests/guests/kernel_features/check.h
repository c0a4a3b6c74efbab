// SPDX-License-Identifier: Apache-2.0
//
// What the parts of kernel_features share: how a check is declared, and the helpers most of them use.
//
// A check is a function that returns an empty string when the feature is usable and else a sentence saying
// what was tried and what refused. Every check runs in a child of its own, so that it may unshare, restrict
// or kill itself.

#pragma once

#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace features {

using CheckFn = std::string (*)();

struct Check {
  const char* name;
  CheckFn run;
};

// The checks of each part, in the order they are run.
std::span<const Check> syscall_checks();
std::span<const Check> security_checks();
std::span<const Check> filesystem_checks();
std::span<const Check> machine_checks();
std::span<const Check> network_checks();
std::span<const Check> netfilter_checks();
std::span<const Check> closed_checks();

// Where the disk images for the mount checks are (ext4.img, squashfs.img, erofs.img); set by main.
extern std::string images_dir;

// "WHAT: text of errno".
inline std::string failed(std::string_view what) { return std::string(what) + ": " + std::strerror(errno); }

// Passes when a call returned a value that is not negative.
template <typename T>
std::string want_ok(T value, std::string_view what) {
  return value < 0 ? failed(what) : std::string();
}

// The first 64 KiB of a file; empty when it cannot be read.
std::string read_file(const char* path);

// Writes text to a file in one write; returns an error sentence or nothing.
std::string write_file(const char* path, std::string_view text);

// A fresh empty directory below the work directory (a tmpfs).
std::string make_dir(std::string_view name);

// True when path names something, without following a final link.
bool exists(const char* path);

}  // namespace features
