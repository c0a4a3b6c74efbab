// SPDX-License-Identifier: Apache-2.0
// DNS messages (RFC 1035, EDNS RFC 6891, SVCB RFC 9460): parsed whole into values with every name expanded,
// and written anew, so that nothing of a resolver's or a guest's encoding is passed on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ip_address.h"
#include "base/result.h"

namespace msb::net {

inline constexpr std::uint16_t kDnsTypeA = 1;
inline constexpr std::uint16_t kDnsTypeNs = 2;
inline constexpr std::uint16_t kDnsTypeCname = 5;
inline constexpr std::uint16_t kDnsTypeSoa = 6;
inline constexpr std::uint16_t kDnsTypePtr = 12;
inline constexpr std::uint16_t kDnsTypeMx = 15;
inline constexpr std::uint16_t kDnsTypeTxt = 16;
inline constexpr std::uint16_t kDnsTypeAaaa = 28;
inline constexpr std::uint16_t kDnsTypeSrv = 33;
inline constexpr std::uint16_t kDnsTypeOpt = 41;
inline constexpr std::uint16_t kDnsTypeSvcb = 64;
inline constexpr std::uint16_t kDnsTypeHttps = 65;
inline constexpr std::uint16_t kDnsClassIn = 1;

inline constexpr std::uint8_t kDnsNoError = 0;
inline constexpr std::uint8_t kDnsFormErr = 1;
inline constexpr std::uint8_t kDnsServFail = 2;
inline constexpr std::uint8_t kDnsNxDomain = 3;
inline constexpr std::uint8_t kDnsNotImp = 4;
inline constexpr std::uint8_t kDnsRefused = 5;

// A name on the wire, expanded: length-prefixed labels and the root's zero byte, case as it came.
using DnsName = Bytes;
// "www.example.com" for labels without dots and special bytes; nullopt otherwise. The root is "".
[[nodiscard]] std::optional<std::string> dns_name_text(ByteView name);
// From a canonical host name.
[[nodiscard]] DnsName dns_name_from_text(std::string_view text);
// ASCII case does not count.
[[nodiscard]] bool dns_names_equal(ByteView a, ByteView b);

struct DnsRecord {
  DnsName name;
  std::uint16_t type = 0;
  std::uint16_t klass = kDnsClassIn;
  std::uint32_t ttl = 0;
  Bytes data;  // names inside are expanded for the types of RFC 1035 and SRV
  // The address of an A or AAAA record of the right length.
  [[nodiscard]] std::optional<IpAddress> address() const;
};

struct DnsMessage {
  std::uint16_t id = 0;
  bool response = false;
  std::uint8_t opcode = 0;
  bool authoritative = false;
  bool truncated = false;
  bool recursion_desired = false;
  bool recursion_available = false;
  bool authentic = false;          // AD
  bool checking_disabled = false;  // CD
  std::uint8_t rcode = 0;
  DnsName question;
  std::uint16_t question_type = 0;
  std::uint16_t question_class = kDnsClassIn;
  std::vector<DnsRecord> answers;
  std::vector<DnsRecord> authority;
  std::vector<DnsRecord> additional;  // without OPT
  std::optional<std::uint16_t> edns_size;
  bool dnssec_ok = false;
};

// Exactly one question; at most kMaxDnsRecords records; compression pointers only backwards. kProtocol
// otherwise.
inline constexpr std::size_t kMaxDnsRecords = 512;
[[nodiscard]] Result<DnsMessage> parse_dns(ByteView bytes);
// The message on the wire, owner names compressed. If it exceeds `limit`, header and question alone with TC
// set.
[[nodiscard]] Bytes write_dns(const DnsMessage& message, std::size_t limit = 65535);

// What to take out of an SVCB or HTTPS record.
struct SvcbFilter {
  bool drop_address_hints = false;
  bool drop_ech = false;
};
// The address hints of a record's data; nullopt if it is malformed.
[[nodiscard]] std::optional<std::vector<IpAddress>> svcb_hints(ByteView data);
// The data without the given parameters; nullopt if it is malformed or one of them is mandatory.
[[nodiscard]] std::optional<Bytes> filter_svcb(ByteView data, const SvcbFilter& filter);

}  // namespace msb::net
