// SPDX-License-Identifier: Apache-2.0
//
// Just enough netlink to ask the kernel for one thing and read its verdict.

#pragma once

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace features {

// One request under construction. Attributes are appended; nests are closed in reverse order.
class NetlinkRequest {
 public:
  NetlinkRequest(std::uint16_t type, std::uint16_t flags);

  // Starts another message in the same request (nftables batches).
  void next_message(std::uint16_t type, std::uint16_t flags);

  // Appends the family's fixed header.
  void header(const void* bytes, std::size_t size);

  void attr(std::uint16_t type, const void* bytes, std::size_t size);
  void attr_u32(std::uint16_t type, std::uint32_t value);
  void attr_be32(std::uint16_t type, std::uint32_t value);
  void attr_text(std::uint16_t type, std::string_view text);

  // Returns the nest's offset for end_nest.
  std::size_t begin_nest(std::uint16_t type);
  void end_nest(std::size_t at);

  // Sends to the protocol; returns 0 or the first errno the kernel answers with, over all messages that asked
  // for an acknowledgement (`acks` of them).
  int send(int protocol, int acks = 1);

 private:
  void append(const void* bytes, std::size_t size);
  void finish_message();

  alignas(NLMSG_ALIGNTO) std::array<unsigned char, 4096> buffer_{};
  std::size_t used_ = 0;
  std::size_t message_ = 0;  // where the current message starts
  std::uint32_t sequence_ = 1;
};

}  // namespace features
