// SPDX-License-Identifier: Apache-2.0
#include "net/wire/dns.h"

#include <algorithm>
#include <array>
#include <map>

namespace msb::net {
namespace {

constexpr std::size_t kHeaderSize = 12;
constexpr std::size_t kMaxNameBytes = 255;
constexpr int kMaxPointers = 32;
constexpr std::uint16_t kEdnsDo = 0x8000;

Error bad(const char* why) { return make_error(Errc::kProtocol, "DNS message: %s", why); }

std::uint16_t u16_at(ByteView bytes, std::size_t at) {
  return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

std::uint8_t lower(std::uint8_t c) { return c >= 'A' && c <= 'Z' ? static_cast<std::uint8_t>(c + 32) : c; }

// Expands the name at `at`, which moves behind it. Each pointer must lead before the place it was read at or
// jumped from, so that the walk ends.
bool take_name(ByteView message, std::size_t& at, DnsName& out) {
  out.clear();
  std::size_t position = at;
  std::size_t lowest = at;
  bool jumped = false;
  int pointers = 0;
  while (position < message.size()) {
    const std::uint8_t length = message[position];
    if ((length & 0xc0) == 0xc0) {
      if (message.size() - position < 2 || ++pointers > kMaxPointers) return false;
      const std::size_t target = static_cast<std::size_t>(u16_at(message, position) & 0x3fff);
      if (!jumped) at = position + 2;
      jumped = true;
      if (target >= lowest) return false;
      lowest = target;
      position = target;
      continue;
    }
    if (length > 63) return false;
    if (length >= message.size() - position) return false;
    if (out.size() + length + 1 > kMaxNameBytes) return false;
    out.insert(out.end(), message.begin() + static_cast<std::ptrdiff_t>(position),
               message.begin() + static_cast<std::ptrdiff_t>(position + length + 1));
    position += length + 1U;
    if (length == 0) {
      if (!jumped) at = position;
      return true;
    }
  }
  return false;
}

// Record data with its names expanded. `fixed` bytes, then `names` names, then `tail` bytes, nothing more.
bool expand_data(ByteView message, std::size_t at, std::size_t end, std::size_t fixed, int names,
                 std::size_t tail, Bytes& out) {
  if (end - at < fixed) return false;
  out.assign(message.begin() + static_cast<std::ptrdiff_t>(at),
             message.begin() + static_cast<std::ptrdiff_t>(at + fixed));
  at += fixed;
  for (int i = 0; i < names; ++i) {
    DnsName name;
    if (!take_name(message.first(end), at, name)) return false;
    out.insert(out.end(), name.begin(), name.end());
  }
  if (at > end || end - at != tail) return false;
  out.insert(out.end(), message.begin() + static_cast<std::ptrdiff_t>(at),
             message.begin() + static_cast<std::ptrdiff_t>(end));
  return true;
}

bool take_record(ByteView message, std::size_t& at, DnsRecord& out) {
  if (!take_name(message, at, out.name)) return false;
  if (message.size() - at < 10) return false;
  out.type = u16_at(message, at);
  out.klass = u16_at(message, at + 2);
  out.ttl = static_cast<std::uint32_t>(u16_at(message, at + 4)) << 16 | u16_at(message, at + 6);
  if ((out.ttl & 0x80000000U) != 0) out.ttl = 0;  // RFC 2181 section 8
  const std::size_t length = u16_at(message, at + 8);
  at += 10;
  if (length > message.size() - at) return false;
  const std::size_t end = at + length;
  bool fine = true;
  switch (out.type) {
    case kDnsTypeNs:
    case kDnsTypeCname:
    case kDnsTypePtr:
      fine = expand_data(message, at, end, 0, 1, 0, out.data);
      break;
    case kDnsTypeSoa:
      fine = expand_data(message, at, end, 0, 2, 20, out.data);
      break;
    case kDnsTypeMx:
      fine = expand_data(message, at, end, 2, 1, 0, out.data);
      break;
    case kDnsTypeSrv:
      fine = expand_data(message, at, end, 6, 1, 0, out.data);
      break;
    case kDnsTypeA:
      fine = length == 4 || out.klass != kDnsClassIn;
      [[fallthrough]];
    default:
      if (out.type == kDnsTypeAaaa && length != 16) fine = false;
      out.data.assign(message.begin() + static_cast<std::ptrdiff_t>(at),
                      message.begin() + static_cast<std::ptrdiff_t>(end));
      break;
  }
  at = end;
  return fine;
}

class Writer {
 public:
  explicit Writer(std::size_t reserve) { out_.reserve(reserve); }
  void u16(std::uint16_t value) {
    out_.push_back(static_cast<std::uint8_t>(value >> 8));
    out_.push_back(static_cast<std::uint8_t>(value));
  }
  void bytes(ByteView data) { out_.insert(out_.end(), data.begin(), data.end()); }
  // Points at an earlier spelling of the same suffix where there is one (RFC 1035 4.1.4).
  void name(ByteView wire) {
    std::size_t at = 0;
    while (at < wire.size() && wire[at] != 0) {
      Bytes rest(wire.begin() + static_cast<std::ptrdiff_t>(at), wire.end());
      for (std::uint8_t& c : rest) c = lower(c);
      if (const auto it = known_.find(rest); it != known_.end())
        return u16(static_cast<std::uint16_t>(0xc000 | it->second));
      if (out_.size() < 0x4000) known_.emplace(std::move(rest), static_cast<std::uint16_t>(out_.size()));
      const std::size_t label = wire[at] + 1U;
      bytes(wire.subspan(at, label));
      at += label;
    }
    out_.push_back(0);
  }
  void record(const DnsRecord& record) {
    name(record.name);
    u16(record.type);
    u16(record.klass);
    u16(static_cast<std::uint16_t>(record.ttl >> 16));
    u16(static_cast<std::uint16_t>(record.ttl));
    u16(static_cast<std::uint16_t>(record.data.size()));
    bytes(record.data);
  }
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  [[nodiscard]] Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
  std::map<Bytes, std::uint16_t> known_;
};

Bytes write_all_of(const DnsMessage& message, bool truncate) {
  Writer out(512);
  const auto bit = [](bool on, unsigned shift) { return (on ? 1U : 0U) << shift; };
  out.u16(message.id);
  out.u16(static_cast<std::uint16_t>(
      bit(message.response, 15) | static_cast<unsigned>(message.opcode & 15) << 11 |
      bit(message.authoritative, 10) | bit(message.truncated || truncate, 9) |
      bit(message.recursion_desired, 8) | bit(message.recursion_available, 7) | bit(message.authentic, 5) |
      bit(message.checking_disabled, 4) | (message.rcode & 15U)));
  out.u16(message.question.empty() ? 0 : 1);
  out.u16(truncate ? std::uint16_t{0} : static_cast<std::uint16_t>(message.answers.size()));
  out.u16(truncate ? std::uint16_t{0} : static_cast<std::uint16_t>(message.authority.size()));
  out.u16(
      static_cast<std::uint16_t>((truncate ? 0 : message.additional.size()) + (message.edns_size ? 1U : 0U)));
  if (!message.question.empty()) {
    out.name(message.question);
    out.u16(message.question_type);
    out.u16(message.question_class);
  }
  if (!truncate) {
    for (const DnsRecord& record : message.answers) out.record(record);
    for (const DnsRecord& record : message.authority) out.record(record);
    for (const DnsRecord& record : message.additional) out.record(record);
  }
  if (message.edns_size) {
    const std::array<std::uint8_t, 1> root{0};
    out.bytes(root);
    out.u16(kDnsTypeOpt);
    out.u16(*message.edns_size);
    out.u16(0);
    out.u16(message.dnssec_ok ? kEdnsDo : std::uint16_t{0});
    out.u16(0);
  }
  return out.take();
}

constexpr std::uint16_t kSvcbMandatory = 0;
constexpr std::uint16_t kSvcbIpv4Hint = 4;
constexpr std::uint16_t kSvcbEch = 5;
constexpr std::uint16_t kSvcbIpv6Hint = 6;

struct SvcbParameter {
  std::uint16_t key;
  ByteView value;
  ByteView whole;
};
struct Svcb {
  ByteView lead;  // priority and target
  std::vector<SvcbParameter> parameters;
};

std::optional<Svcb> parse_svcb(ByteView data) {
  if (data.size() < 3) return std::nullopt;
  std::size_t at = 2;
  std::size_t name_bytes = 0;
  while (true) {  // the target is never compressed (RFC 9460 2.2)
    if (at >= data.size()) return std::nullopt;
    const std::uint8_t length = data[at];
    if (length > 63 || length >= data.size() - at || (name_bytes += length + 1U) > kMaxNameBytes)
      return std::nullopt;
    at += length + 1U;
    if (length == 0) break;
  }
  Svcb out;
  out.lead = data.first(at);
  int last_key = -1;
  while (at < data.size()) {
    if (data.size() - at < 4) return std::nullopt;
    const std::uint16_t key = u16_at(data, at);
    const std::size_t length = u16_at(data, at + 2);
    if (length > data.size() - at - 4 || static_cast<int>(key) <= last_key) return std::nullopt;
    out.parameters.push_back({key, data.subspan(at + 4, length), data.subspan(at, length + 4)});
    last_key = key;
    at += length + 4;
  }
  return out;
}

}  // namespace

std::optional<std::string> dns_name_text(ByteView name) {
  std::string out;
  std::size_t at = 0;
  while (at < name.size() && name[at] != 0) {
    const std::size_t length = name[at];
    if (length >= name.size() - at) return std::nullopt;
    if (!out.empty()) out += '.';
    for (std::size_t i = 1; i <= length; ++i) {
      const std::uint8_t c = name[at + i];
      if (c <= ' ' || c >= 0x7f || c == '.') return std::nullopt;
      out += static_cast<char>(c);
    }
    at += length + 1;
  }
  return out;
}

DnsName dns_name_from_text(std::string_view text) {
  DnsName out;
  while (!text.empty()) {
    const std::size_t dot = text.find('.');
    const std::string_view label = text.substr(0, dot);
    out.push_back(static_cast<std::uint8_t>(label.size()));
    out.insert(out.end(), label.begin(), label.end());
    text = dot == std::string_view::npos ? std::string_view{} : text.substr(dot + 1);
  }
  out.push_back(0);
  return out;
}

bool dns_names_equal(ByteView a, ByteView b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(),
                    [](std::uint8_t x, std::uint8_t y) { return lower(x) == lower(y); });
}

std::optional<IpAddress> DnsRecord::address() const {
  if (klass != kDnsClassIn) return std::nullopt;
  if ((type == kDnsTypeA && data.size() == 4) || (type == kDnsTypeAaaa && data.size() == 16))
    return IpAddress::from_bytes(data);
  return std::nullopt;
}

Result<DnsMessage> parse_dns(ByteView bytes) {
  if (bytes.size() < kHeaderSize) return bad("shorter than its header");
  if (bytes.size() > 65535) return bad("too long");
  DnsMessage out;
  out.id = u16_at(bytes, 0);
  const std::uint16_t flags = u16_at(bytes, 2);
  out.response = (flags & 0x8000) != 0;
  out.opcode = static_cast<std::uint8_t>(flags >> 11 & 15);
  out.authoritative = (flags & 0x0400) != 0;
  out.truncated = (flags & 0x0200) != 0;
  out.recursion_desired = (flags & 0x0100) != 0;
  out.recursion_available = (flags & 0x0080) != 0;
  out.authentic = (flags & 0x0020) != 0;
  out.checking_disabled = (flags & 0x0010) != 0;
  out.rcode = static_cast<std::uint8_t>(flags & 15);
  if (u16_at(bytes, 4) != 1) return bad("not exactly one question");
  const std::array<std::size_t, 3> counts{u16_at(bytes, 6), u16_at(bytes, 8), u16_at(bytes, 10)};
  if (counts[0] + counts[1] + counts[2] > kMaxDnsRecords) return bad("too many records");
  std::size_t at = kHeaderSize;
  if (!take_name(bytes, at, out.question) || bytes.size() - at < 4) return bad("malformed question");
  out.question_type = u16_at(bytes, at);
  out.question_class = u16_at(bytes, at + 2);
  at += 4;
  const std::array<std::vector<DnsRecord>*, 3> sections{&out.answers, &out.authority, &out.additional};
  for (std::size_t section = 0; section < 3; ++section) {
    for (std::size_t i = 0; i < counts[section]; ++i) {
      DnsRecord record;
      if (!take_record(bytes, at, record)) return bad("malformed record");
      if (record.type == kDnsTypeOpt) {
        if (section != 2 || out.edns_size || record.name.size() != 1) return bad("misplaced OPT record");
        out.edns_size = std::max<std::uint16_t>(record.klass, 512);
        out.dnssec_ok = (record.ttl & kEdnsDo) != 0;
        continue;
      }
      sections[section]->push_back(std::move(record));
    }
  }
  return out;
}

Bytes write_dns(const DnsMessage& message, std::size_t limit) {
  Bytes out = write_all_of(message, false);
  return out.size() <= limit ? out : write_all_of(message, true);
}

std::optional<std::vector<IpAddress>> svcb_hints(ByteView data) {
  const auto svcb = parse_svcb(data);
  if (!svcb) return std::nullopt;
  std::vector<IpAddress> out;
  for (const SvcbParameter& parameter : svcb->parameters) {
    const std::size_t size = parameter.key == kSvcbIpv4Hint ? 4 : (parameter.key == kSvcbIpv6Hint ? 16 : 0);
    if (size == 0) continue;
    if (parameter.value.empty() || parameter.value.size() % size != 0) return std::nullopt;
    for (std::size_t at = 0; at < parameter.value.size(); at += size)
      out.push_back(*IpAddress::from_bytes(parameter.value.subspan(at, size)));
  }
  return out;
}

std::optional<Bytes> filter_svcb(ByteView data, const SvcbFilter& filter) {
  const auto svcb = parse_svcb(data);
  if (!svcb) return std::nullopt;
  const auto dropped = [&](std::uint16_t key) {
    if (key == kSvcbEch) return filter.drop_ech;
    return filter.drop_address_hints && (key == kSvcbIpv4Hint || key == kSvcbIpv6Hint);
  };
  Bytes out(svcb->lead.begin(), svcb->lead.end());
  for (const SvcbParameter& parameter : svcb->parameters) {
    if (parameter.key == kSvcbMandatory) {
      if (parameter.value.size() % 2 != 0) return std::nullopt;
      for (std::size_t at = 0; at < parameter.value.size(); at += 2) {
        if (dropped(u16_at(parameter.value, at))) return std::nullopt;
      }
    }
    if (!dropped(parameter.key)) out.insert(out.end(), parameter.whole.begin(), parameter.whole.end());
  }
  return out;
}

}  // namespace msb::net
