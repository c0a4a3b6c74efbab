// SPDX-License-Identifier: Apache-2.0
#include "oci/erofs_xattr.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "oci/erofs_format.h"

namespace msb::oci::erofs {
namespace {

struct Prefix {
  std::uint8_t index;
  std::string_view text;
  bool whole;  // the text is the whole name
};
constexpr std::array<Prefix, 6> kPrefixes = {{
    {1, "user.", false},
    {2, "system.posix_acl_access", true},
    {3, "system.posix_acl_default", true},
    {4, "trusted.", false},
    {5, "lustre.", false},
    {6, "security.", false},
}};
constexpr std::size_t kMaxXattrName = 255;
constexpr std::size_t kMaxXattrValue = 65535;

const Prefix* prefix_of(std::string_view name) {
  for (const Prefix& prefix : kPrefixes) {
    if (prefix.whole ? name == prefix.text
                     : name.size() > prefix.text.size() && name.starts_with(prefix.text)) {
      return &prefix;
    }
  }
  return nullptr;
}

}  // namespace

bool can_store_xattr(std::string_view name) { return prefix_of(name) != nullptr; }

Result<std::string> encode_xattrs(std::vector<Xattr> xattrs) {
  std::sort(xattrs.begin(), xattrs.end(), [](const Xattr& a, const Xattr& b) { return a.name < b.name; });
  ByteWriter out;
  for (const Xattr& xattr : xattrs) {
    const Prefix* prefix = prefix_of(xattr.name);
    MSB_CHECK(prefix != nullptr);
    const std::string_view rest = std::string_view(xattr.name).substr(prefix->text.size());
    if (rest.size() > kMaxXattrName)
      return make_error(Errc::kLimit, "an extended attribute's name has %zu bytes (at most %zu)", rest.size(),
                        kMaxXattrName);
    if (xattr.value.size() > kMaxXattrValue) {
      return make_error(Errc::kLimit, "an extended attribute's value has %zu bytes (at most %zu)",
                        xattr.value.size(), kMaxXattrValue);
    }
    XattrEntry entry;
    entry.name_length = static_cast<std::uint8_t>(rest.size());
    entry.prefix = prefix->index;
    entry.value_size = static_cast<std::uint16_t>(xattr.value.size());
    out.put(entry);
    out.put_text(rest);
    out.put_text(xattr.value);
    out.align(kXattrAlign);
    if (out.size() > kMaxXattrBody)
      return make_error(Errc::kLimit, "the extended attributes of one file take more than %zu bytes",
                        kMaxXattrBody);
  }
  return std::string(as_text(out.view()));
}

Result<std::vector<Xattr>> decode_xattrs(std::string_view entries) {
  const Error corrupt{Errc::kCorrupt, 0, "damaged extended attributes"};
  std::vector<Xattr> list;
  ByteReader in(as_bytes(entries));
  while (!in.empty()) {
    const auto entry = in.take<XattrEntry>();
    if (!entry) return corrupt;
    const auto name = in.take(entry->name_length);
    const auto value = in.take(entry->value_size.get());
    if (!name || !value) return corrupt;
    const std::size_t used = entry->name_length + std::size_t{entry->value_size.get()};
    if (!in.skip((kXattrAlign - used % kXattrAlign) % kXattrAlign)) return corrupt;
    const auto* prefix = std::find_if(kPrefixes.begin(), kPrefixes.end(),
                                      [&](const Prefix& p) { return p.index == entry->prefix; });
    if (prefix == kPrefixes.end()) return corrupt;
    list.push_back({std::string(prefix->text) + std::string(as_text(*name)), std::string(as_text(*value))});
  }
  return list;
}

}  // namespace msb::oci::erofs
