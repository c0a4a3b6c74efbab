// SPDX-License-Identifier: Apache-2.0
#include "net/wire/sniff.h"

#include <algorithm>
#include <array>
#include <string>

namespace msb::net {
namespace {

constexpr std::uint8_t kHandshakeRecord = 22;
constexpr std::uint8_t kClientHello = 1;
constexpr std::uint16_t kServerName = 0;
constexpr std::uint16_t kEncryptedClientHello = 0xfe0d;
constexpr std::size_t kMaxRecord = 16384;
constexpr std::size_t kMaxHead = 16384;

Sniff result(Sniff::Kind kind) { return {kind, std::nullopt}; }

// Network-order integers off a reader.
std::optional<std::uint32_t> take_number(ByteReader& reader, std::size_t bytes) {
  const auto view = reader.take(bytes);
  if (!view) return std::nullopt;
  std::uint32_t value = 0;
  for (const std::uint8_t byte : *view) value = value << 8 | byte;
  return value;
}
std::optional<ByteView> take_vector(ByteReader& reader, std::size_t length_bytes) {
  const auto length = take_number(reader, length_bytes);
  return length ? reader.take(*length) : std::nullopt;
}

Sniff read_server_name(ByteView extension) {
  ByteReader reader(extension);
  const auto list = take_vector(reader, 2);
  if (!list || !reader.empty()) return result(Sniff::Kind::kAmbiguous);
  ByteReader names(*list);
  const auto type = take_number(names, 1);
  const auto host = take_vector(names, 2);
  // Exactly one entry, a host name.
  if (!type || *type != 0 || !host || !names.empty()) return result(Sniff::Kind::kAmbiguous);
  auto name = Hostname::parse(as_text(*host));
  if (!name || as_text(*host).ends_with('.')) return result(Sniff::Kind::kAmbiguous);
  return {Sniff::Kind::kTls, std::move(name).value()};
}

Sniff read_client_hello(ByteView hello) {
  ByteReader reader(hello);
  const bool fixed = reader.skip(2 + 32);  // legacy version, random
  const auto session = fixed ? take_vector(reader, 1) : std::nullopt;
  const auto suites = session ? take_vector(reader, 2) : std::nullopt;
  const auto compression = suites ? take_vector(reader, 1) : std::nullopt;
  if (!compression) return result(Sniff::Kind::kAmbiguous);
  if (reader.empty()) return result(Sniff::Kind::kTls);  // before extensions existed
  const auto extensions = take_vector(reader, 2);
  if (!extensions || !reader.empty()) return result(Sniff::Kind::kAmbiguous);
  ByteReader rest(*extensions);
  Sniff out = result(Sniff::Kind::kTls);
  bool seen = false;
  while (!rest.empty()) {
    const auto type = take_number(rest, 2);
    const auto data = type ? take_vector(rest, 2) : std::nullopt;
    if (!data) return result(Sniff::Kind::kAmbiguous);
    if (*type == kEncryptedClientHello) return result(Sniff::Kind::kAmbiguous);
    if (*type != kServerName) continue;
    if (seen) return result(Sniff::Kind::kAmbiguous);
    seen = true;
    out = read_server_name(*data);
    if (out.kind == Sniff::Kind::kAmbiguous) return out;
  }
  return out;
}

Sniff sniff_tls(ByteView bytes) {
  if (bytes.size() < 6) return result(Sniff::Kind::kNeedMore);
  if (bytes[1] != 3) return result(Sniff::Kind::kOpaque);
  const std::size_t record = static_cast<std::size_t>(bytes[3] << 8 | bytes[4]);
  if (bytes[5] != kClientHello) return result(Sniff::Kind::kAmbiguous);
  if (record < 4 || record > kMaxRecord) return result(Sniff::Kind::kAmbiguous);
  if (bytes.size() < 9) return result(Sniff::Kind::kNeedMore);
  const std::size_t hello =
      static_cast<std::size_t>(bytes[6]) << 16 | static_cast<std::size_t>(bytes[7] << 8 | bytes[8]);
  // The hello and nothing else in one record: split or padded ones are read differently by different servers.
  if (hello != record - 4) return result(Sniff::Kind::kAmbiguous);
  if (record + 5 > kMaxSniff) return result(Sniff::Kind::kAmbiguous);
  if (bytes.size() < record + 5) return result(Sniff::Kind::kNeedMore);
  return read_client_hello(bytes.subspan(9, hello));
}

bool is_token(char c) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kOthers.find(c) != std::string_view::npos;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// "name" or "name:port".
std::optional<Hostname> authority_name(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon != std::string_view::npos) {
    const std::string_view port = text.substr(colon + 1);
    if (port.empty() || port.size() > 5 ||
        !std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }))
      return std::nullopt;
    text = text.substr(0, colon);
  }
  auto name = Hostname::parse(text);
  return name ? std::optional(std::move(name).value()) : std::nullopt;
}

struct Head {
  std::optional<Hostname> host;
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
  bool upgrade = false;
};

// A strict reading of a request head that ends in an empty line: CRLF everywhere, no obsolete folding, no
// blank before a colon, one Host, framing by at most one of Content-Length and chunked. nullopt: unclear.
std::optional<Head> parse_head(std::string_view head) {
  for (std::size_t i = 0; i < head.size(); ++i) {
    const auto c = static_cast<unsigned char>(head[i]);
    if (c == '\n' && (i == 0 || head[i - 1] != '\r')) return std::nullopt;
    if (c == '\r' && (i + 1 == head.size() || head[i + 1] != '\n')) return std::nullopt;
    if ((c < ' ' && c != '\r' && c != '\n' && c != '\t') || c == 0x7f) return std::nullopt;
  }
  std::size_t end = head.find("\r\n");
  const std::string_view request = head.substr(0, end);
  const std::size_t first = request.find(' ');
  const std::size_t last = request.rfind(' ');
  if (first == std::string_view::npos || first == 0 || last == first) return std::nullopt;
  const std::string_view method = request.substr(0, first);
  const std::string_view target = request.substr(first + 1, last - first - 1);
  const std::string_view version = request.substr(last + 1);
  if (!std::all_of(method.begin(), method.end(), is_token) || method == "CONNECT" || method == "PRI")
    return std::nullopt;
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return std::nullopt;
  if (target.empty() || target.find_first_of(" \t") != std::string_view::npos) return std::nullopt;
  std::optional<Hostname> in_target;
  if (target[0] != '/' && target != "*") {
    const std::string scheme = lower(target.substr(0, 7));
    if (scheme != "http://") return std::nullopt;
    const std::string_view rest = target.substr(7);
    in_target = authority_name(rest.substr(0, rest.find_first_of("/?#")));
    if (!in_target) return std::nullopt;
  }
  Head out;
  head.remove_prefix(end + 2);
  while (true) {
    end = head.find("\r\n");
    if (end == std::string_view::npos) return std::nullopt;
    if (end == 0) break;
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end + 2);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 ||
        !std::all_of(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(colon), is_token))
      return std::nullopt;
    const std::string name = lower(line.substr(0, colon));
    const std::string_view value = trim(line.substr(colon + 1));
    if (name == "host") {
      if (out.host) return std::nullopt;
      out.host = authority_name(value);
      if (!out.host) return std::nullopt;
    } else if (name == "content-length") {
      if (out.content_length || value.empty() || value.size() > 18 ||
          !std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; }))
        return std::nullopt;
      std::uint64_t length = 0;
      for (const char c : value) length = length * 10 + static_cast<std::uint64_t>(c - '0');
      out.content_length = length;
    } else if (name == "transfer-encoding") {
      if (out.chunked || lower(value) != "chunked") return std::nullopt;
      out.chunked = true;
    } else if (name == "upgrade") {
      if (lower(value).find("h2c") != std::string::npos) return std::nullopt;
      out.upgrade = true;
    }
  }
  if (!out.host || (in_target && *in_target != *out.host)) return std::nullopt;
  if (out.chunked && (out.content_length || version == "HTTP/1.0")) return std::nullopt;
  return out;
}

Sniff sniff_http(ByteView bytes) {
  const std::string_view text = as_text(bytes);
  // Blank lines before a request are skipped by servers, other spellings accepted by some: unclear, not
  // opaque.
  if (text[0] == '\r' || text[0] == '\n' || text[0] == ' ' || text[0] == '\t')
    return result(Sniff::Kind::kAmbiguous);
  // A method is a token of capitals; the longest in use has 16 letters.
  const std::size_t space = text.find(' ');
  const std::string_view method = text.substr(0, std::min<std::size_t>(space, 24));
  const bool capitals = std::all_of(method.begin(), method.end(),
                                    [](char c) { return (c >= 'A' && c <= 'Z') || c == '-' || c == '_'; });
  if (!capitals || method.empty())
    return result(text.find(" HTTP/1.") != std::string_view::npos ? Sniff::Kind::kAmbiguous
                                                                  : Sniff::Kind::kOpaque);
  if (space == std::string_view::npos)
    return result(text.size() <= 24 ? Sniff::Kind::kNeedMore : Sniff::Kind::kOpaque);
  if (space > 24) return result(Sniff::Kind::kOpaque);
  const std::size_t line_end = text.find('\n');
  if (line_end != std::string_view::npos && text.substr(0, line_end).find(" HTTP/") == std::string_view::npos)
    return result(Sniff::Kind::kOpaque);
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (text.find("\n\n") != std::string_view::npos || text.find("\n\r\n") != std::string_view::npos)
      return result(Sniff::Kind::kAmbiguous);
    return result(text.size() < kMaxSniff ? Sniff::Kind::kNeedMore : Sniff::Kind::kAmbiguous);
  }
  auto head = parse_head(text.substr(0, end + 4));
  if (!head) return result(Sniff::Kind::kAmbiguous);
  return {Sniff::Kind::kHttp, std::move(head->host)};
}

}  // namespace

Sniff sniff_name(ByteView bytes) {
  if (bytes.empty()) return result(Sniff::Kind::kNeedMore);
  if (bytes[0] == kHandshakeRecord) {
    if (bytes.size() >= 2 && bytes[1] != 3) return result(Sniff::Kind::kOpaque);
    return sniff_tls(bytes);
  }
  if (bytes[0] >= 0x80) {
    if (bytes.size() < 3) return result(Sniff::Kind::kNeedMore);
    if (bytes[2] == kClientHello) return result(Sniff::Kind::kAmbiguous);  // SSLv2 hello
  }
  return sniff_http(bytes);
}

bool HttpGuard::take_head(ByteView head) {
  const auto parsed = parse_head(as_text(head));
  if (!parsed || *parsed->host != host_) return false;
  status_bytes_ = 0;
  if (parsed->chunked) {
    state_ = State::kChunkSize;
  } else if (parsed->content_length.value_or(0) > 0) {
    state_ = State::kBody;
    body_left_ = *parsed->content_length;
  } else {
    state_ = State::kHead;
  }
  if (parsed->upgrade) {
    if (state_ != State::kHead) return false;  // an upgrade with a body is nothing anyone needs
    state_ = State::kUpgrade;
  }
  return true;
}

HttpGuard::Result HttpGuard::from_guest(ByteView bytes, std::size_t& pass) {
  pass = 0;
  // Every round consumes at least a byte or returns.
  while (pass < bytes.size()) {
    const ByteView rest = bytes.subspan(pass);
    const std::string_view text = as_text(rest);
    const auto line_end = text.find("\r\n");
    switch (state_) {
      case State::kOpaque:
        pass = bytes.size();
        return Result::kFine;
      case State::kUpgrade:
        return Result::kFine;
      case State::kHead: {
        const std::size_t end = text.find("\r\n\r\n");
        if (end == std::string_view::npos) return rest.size() > kMaxHead ? Result::kDenied : Result::kFine;
        if (!take_head(rest.first(end + 4))) return Result::kDenied;
        pass += end + 4;
        break;
      }
      case State::kBody:
      case State::kChunkData: {
        const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(body_left_, rest.size()));
        pass += count;
        body_left_ -= count;
        if (body_left_ == 0) state_ = state_ == State::kBody ? State::kHead : State::kChunkEnd;
        break;
      }
      case State::kChunkSize: {
        if (line_end == std::string_view::npos) return rest.size() > 64 ? Result::kDenied : Result::kFine;
        const std::string_view size = text.substr(0, line_end);
        if (size.empty() || size.size() > 15) return Result::kDenied;  // extensions are refused as well
        std::uint64_t value = 0;
        for (const char c : lower(size)) {
          if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return Result::kDenied;
          value = value << 4 | static_cast<std::uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        pass += line_end + 2;
        body_left_ = value;
        state_ = value == 0 ? State::kTrailer : State::kChunkData;
        break;
      }
      case State::kChunkEnd:
        if (rest.size() < 2) return rest[0] == '\r' ? Result::kFine : Result::kDenied;
        if (line_end != 0) return Result::kDenied;
        pass += 2;
        state_ = State::kChunkSize;
        break;
      case State::kTrailer:
        if (line_end == std::string_view::npos)
          return rest.size() > kMaxHead ? Result::kDenied : Result::kFine;
        if (text.substr(0, line_end).find_first_of("\n\r") != std::string_view::npos) return Result::kDenied;
        pass += line_end + 2;
        if (line_end == 0) state_ = State::kHead;
        break;
    }
  }
  return Result::kFine;
}

void HttpGuard::from_server(ByteView bytes) {
  if (state_ != State::kUpgrade) return;
  for (const std::uint8_t byte : bytes) {
    if (status_bytes_ == status_line_.size()) break;
    status_line_[status_bytes_++] = byte;
  }
  if (status_bytes_ < status_line_.size()) return;
  const std::string_view line = as_text(status_line_);
  // An interim "100 Continue" does not settle it, but no upgrade request of ours carries a body that would
  // ask.
  state_ = line.starts_with("HTTP/1.1 101") ? State::kOpaque : State::kHead;
}

}  // namespace msb::net
