// SPDX-License-Identifier: Apache-2.0
// A DNS message is refused, or can be written and read again with the same meaning. Service-binding records
// are filtered without a word more than they had.
#include <cstdlib>

#include "net/wire/dns.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::net;  // NOLINT: a fuzz target is one function
  const auto message = parse_dns({data, size});
  if (!message) return 0;
  (void)dns_name_text(message->question);
  const msb::Bytes written = write_dns(*message);
  const auto again = parse_dns(written);
  if (!again || again->id != message->id || again->rcode != message->rcode) std::abort();
  if (!dns_names_equal(again->question, message->question)) std::abort();
  if (!again->truncated && again->answers.size() != message->answers.size()) std::abort();
  if (write_dns(*message, 512).size() > 512) std::abort();
  for (const DnsRecord& record : message->answers) {
    (void)record.address();
    (void)dns_name_text(record.name);
    const auto filtered = filter_svcb(record.data, {.drop_address_hints = true, .drop_ech = true});
    if (!filtered) continue;
    const auto left = svcb_hints(*filtered);
    if (filtered->size() > record.data.size() || !left || !left->empty()) std::abort();
  }
  return 0;
}
