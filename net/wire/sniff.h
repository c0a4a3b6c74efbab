// SPDX-License-Identifier: Apache-2.0
// Which host a client asks for in its first bytes: TLS ClientHello (RFC 8446 4.1.2, SNI RFC 6066 3) or an
// HTTP/1 request head (RFC 9112). Whatever two readers might understand differently is "ambiguous", never a
// name.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/hostname.h"

namespace msb::net {

inline constexpr std::size_t kMaxSniff = 16384;

struct Sniff {
  enum class Kind : std::uint8_t {
    kNeedMore,   // could still become a ClientHello or a request; not with kMaxSniff bytes
    kTls,        // name, if there is one, is the SNI
    kHttp,       // name is the Host
    kOpaque,     // neither
    kAmbiguous,  // one of them, but split over records, encrypted, malformed, contradictory, or HTTP/2 in
                 // clear
  };
  Kind kind = Kind::kNeedMore;
  std::optional<Hostname> name;
};
[[nodiscard]] Sniff sniff_name(ByteView first_bytes);

// The requests of one HTTP/1 connection after the first: all must name the same host, and nothing may stand
// between them that a server could read as another request. Pure.
//
// Theory of operation. Bytes are consumed as: request head, body by Content-Length or chunked, next head, … A
// request that asks for an upgrade stops the flow of guest bytes until the server has answered 101 (then all
// is opaque) or anything else (then the next request is expected).
class HttpGuard {
 public:
  explicit HttpGuard(Hostname host) : host_(std::move(host)) {}
  enum class Result : std::uint8_t { kFine, kDenied };
  // How many of `bytes` may be passed on now. Bytes not passed must be offered again with more behind them.
  // kDenied: another host or something unclear; the connection must end.
  [[nodiscard]] Result from_guest(ByteView bytes, std::size_t& pass);
  // The server's bytes, for the answer to an upgrade.
  void from_server(ByteView bytes);
  // Bytes held back because of an upgrade may be passed now.
  [[nodiscard]] bool waits_for_server() const { return state_ == State::kUpgrade; }

 private:
  enum class State : std::uint8_t {
    kHead,
    kBody,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailer,
    kUpgrade,
    kOpaque
  };
  [[nodiscard]] bool take_head(ByteView head);
  Hostname host_;
  State state_ = State::kHead;
  std::uint64_t body_left_ = 0;
  std::array<std::uint8_t, 12> status_line_{};
  std::size_t status_bytes_ = 0;
};

}  // namespace msb::net
