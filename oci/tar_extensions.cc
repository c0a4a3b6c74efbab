// SPDX-License-Identifier: Apache-2.0
#include "oci/tar_extensions.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxRanges = 1U << 17;  // more cannot stand in one header of kMaxTarExtension
constexpr std::size_t kMaxXattrs = 4096;
constexpr std::string_view kXattrPrefix = "SCHILY.xattr.";
constexpr std::string_view kSparsePrefix = "GNU.sparse.";

Error bad(const char* what) { return Error{Errc::kProtocol, 0, what}; }

Status set_number(std::string_view value, std::optional<std::uint64_t>& out) {
  const auto number = parse_decimal(value);
  if (!number) return bad("a PAX record whose value is not a number");
  out = *number;
  return {};
}

Status set_name(std::string_view value, std::optional<std::string>& out) {
  if (value.find('\0') != std::string_view::npos) return bad("a PAX name with a zero byte");
  out = std::string(value);
  return {};
}

}  // namespace

Status PaxExtensions::parse(std::string_view records) {
  while (!records.empty()) {
    const std::size_t blank = records.find(' ');
    if (blank == std::string_view::npos || blank > 10) return bad("a PAX record without its length");
    const auto length = parse_decimal(records.substr(0, blank));
    if (!length || *length > records.size() || *length < blank + 3)
      return bad("a PAX record with a wrong length");
    const std::string_view record = records.substr(0, static_cast<std::size_t>(*length));
    if (record.back() != '\n') return bad("a PAX record with a wrong length");
    const std::string_view body = record.substr(blank + 1, record.size() - blank - 2);
    const std::size_t equals = body.find('=');
    if (equals == std::string_view::npos || equals == 0) return bad("a PAX record without a key");
    MSB_TRY(apply(body.substr(0, equals), body.substr(equals + 1)));
    records.remove_prefix(record.size());
  }
  if (pending_offset_) return bad("a sparse map with an offset but no length");
  return {};
}

bool PaxExtensions::says_anything() const {
  return path || link || size || uid || gid || dev_major || dev_minor || mtime || !xattrs.empty() ||
         is_sparse() || sparse_name;
}

// An empty value takes back an earlier record of the same key (POSIX); later records win over earlier ones.
Status PaxExtensions::apply(std::string_view key, std::string_view value) {
  if (key.starts_with(kXattrPrefix)) {
    const std::string_view name = key.substr(kXattrPrefix.size());
    if (name.empty() || name.find('\0') != std::string_view::npos)
      return bad("an extended attribute without a name");
    std::erase_if(xattrs, [&](const Xattr& x) { return x.name == name; });
    if (xattrs.size() >= kMaxXattrs) return bad("too many extended attributes");
    xattrs.push_back({std::string(name), std::string(value)});
    return {};
  }
  if (key.starts_with(kSparsePrefix)) return apply_sparse(key.substr(kSparsePrefix.size()), value);
  const bool reset = value.empty();
  if (key == "path") return reset ? (path.reset(), Status{}) : set_name(value, path);
  if (key == "linkpath") return reset ? (link.reset(), Status{}) : set_name(value, link);
  if (key == "size") return reset ? (size.reset(), Status{}) : set_number(value, size);
  if (key == "uid") return reset ? (uid.reset(), Status{}) : set_number(value, uid);
  if (key == "gid") return reset ? (gid.reset(), Status{}) : set_number(value, gid);
  if (key == "SCHILY.devmajor") return set_number(value, dev_major);
  if (key == "SCHILY.devminor") return set_number(value, dev_minor);
  if (key == "mtime") {
    if (reset) return (mtime.reset(), Status{});
    mtime = parse_pax_time(value);
    if (!mtime) return bad("a PAX time that is not a number");
    return {};
  }
  // Others (atime, ctime, uname, gname, comment, vendors' own) change nothing that a root filesystem keeps.
  return {};
}

Status PaxExtensions::apply_sparse(std::string_view key, std::string_view value) {
  if (key == "major" || key == "minor") {
    // 0.0, 0.1 and 1.0 exist; only 1.0 keeps its map in the data.
    if (value != "0" && value != "1") return bad("an unknown sparse format");
    if (key == "major") sparse_map_in_data = value == "1";
    return {};
  }
  if (key == "name") return set_name(value, sparse_name);
  if (key == "realsize" || key == "size") return set_number(value, sparse_size);
  if (key == "numblocks") {
    sparse_map_seen = true;
    return {};
  }
  if (key == "offset" || key == "numbytes") {
    sparse_map_seen = true;
    std::optional<std::uint64_t> number;
    MSB_TRY(set_number(value, number));
    if ((key == "offset") == pending_offset_.has_value())
      return bad("a sparse map whose numbers do not pair up");
    if (key == "offset") {
      pending_offset_ = number;
      return {};
    }
    if (sparse_ranges.size() >= kMaxRanges) return bad("a sparse map with too many ranges");
    sparse_ranges.push_back({*pending_offset_, *number});
    pending_offset_.reset();
    return {};
  }
  if (key == "map") {
    sparse_map_seen = true;
    sparse_ranges.clear();
    while (!value.empty()) {
      SparseRange range;
      for (std::uint64_t* out : {&range.offset, &range.length}) {
        const std::size_t comma = value.find(',');
        const auto number = parse_decimal(value.substr(0, comma));
        if (!number) return bad("a sparse map with what is not a number");
        *out = *number;
        value.remove_prefix(comma == std::string_view::npos ? value.size() : comma + 1);
      }
      if (sparse_ranges.size() >= kMaxRanges) return bad("a sparse map with too many ranges");
      sparse_ranges.push_back(range);
    }
  }
  return {};
}

}  // namespace msb::oci
