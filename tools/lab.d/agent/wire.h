// SPDX-License-Identifier: Apache-2.0
// The frames of lab.d/wire.py, which explains them. Both ends are always built from the same tree.
#pragma once

#include <cstddef>
#include <cstdint>

namespace msb::lab {

enum class Kind : std::uint32_t {
  kStart = 1,
  kStdin = 2,
  kSignal = 3,
  kResize = 4,
  kKill = 5,
  kClose = 7,
  kHello = 16,
  kStdout = 17,
  kStderr = 18,
  kExit = 19,
  kError = 20,
  kAck = 32,
};

struct Header {
  std::uint32_t kind;
  std::uint32_t session;
  std::uint32_t length;
};
static_assert(sizeof(Header) == 12);

// How a START frame begins; argc arguments, envc variables, ramc files to hold in memory, the directory and
// the --out directory follow, each with a NUL at its end.
struct StartHeader {
  std::uint32_t flags;
  std::uint32_t umask;
  std::uint32_t argc;
  std::uint32_t envc;
  std::uint32_t ramc;
  std::uint16_t rows;
  std::uint16_t columns;
};
static_assert(sizeof(StartHeader) == 24);
inline constexpr std::uint32_t kFlagStdin = 1;  // the client sends a standard input
inline constexpr std::uint32_t kFlagTty = 2;    // the command runs on a terminal
inline constexpr std::uint32_t kFlagFresh = 4;  // forget what is cached of the host's files

inline constexpr std::size_t kWindow = std::size_t{1} << 20;
inline constexpr std::size_t kMaxPayload = std::size_t{8} << 20;
// What one virtio-serial buffer carries beside the header.
inline constexpr std::size_t kChunk = (std::size_t{32} << 10) - sizeof(Header);

}  // namespace msb::lab
