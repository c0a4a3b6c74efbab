// SPDX-License-Identifier: Apache-2.0
// Unix sockets: pairs, listening and connecting by directory descriptor, passing descriptors.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb {

// `type` is SOCK_STREAM or SOCK_SEQPACKET, SOCK_NONBLOCK may be added; CLOEXEC is.
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> socket_pair(int type);

// Unix stream sockets named `name` inside the directory `dir_fd`, reached through /proc/self/fd so that the
// length of the directory's path does not matter. Listening replaces a stale socket file; mode 0600. With
// SOCK_NONBLOCK in `flags` the connected socket is non-blocking, and a server that is behind with accepting
// is an error (EAGAIN) instead of a wait.
[[nodiscard]] Result<UniqueFd> listen_unix(int dir_fd, const std::string& name, int backlog = 128);
[[nodiscard]] Result<UniqueFd> connect_unix(int dir_fd, const std::string& name, int flags = 0);

// Sends `data` (at least one byte) with descriptors (at most kMaxPassedFds, borrowed) as one message.
inline constexpr std::size_t kMaxPassedFds = 64;
[[nodiscard]] Status send_with_fds(int socket, ByteView data, std::span<const int> fds);
struct ReceivedMessage {
  Bytes data;                 // empty at end of stream
  std::vector<UniqueFd> fds;  // close-on-exec
};
// Receives one message of up to `max_bytes`. A truncated control part is kProtocol.
[[nodiscard]] Result<ReceivedMessage> receive_with_fds(int socket, std::size_t max_bytes);

[[nodiscard]] Status set_nonblocking(int fd, bool on);
// Clears close-on-exec, for a descriptor that the next program is to inherit.
[[nodiscard]] Status keep_on_exec(int fd);

}  // namespace msb
