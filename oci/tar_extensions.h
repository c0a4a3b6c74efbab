// SPDX-License-Identifier: Apache-2.0
// PAX extension records ("30 mtime=1350244992.023960108\n") and what they say about the entry that follows.
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/tar_numbers.h"
#include "oci/tar_reader.h"

namespace msb::oci {

struct PaxExtensions {
  std::optional<std::string> path, link;          // PAX
  std::optional<std::string> gnu_path, gnu_link;  // GNU 'L' and 'K' headers
  std::optional<std::uint64_t> size, uid, gid, dev_major, dev_minor;
  std::optional<PaxTime> mtime;
  std::vector<Xattr> xattrs;
  // GNU sparse files, formats 0.0, 0.1 and 1.0.
  std::optional<std::string> sparse_name;
  std::optional<std::uint64_t> sparse_size;
  bool sparse_map_in_data = false;  // format 1.0
  bool sparse_map_seen = false;
  std::vector<SparseRange> sparse_ranges;

  // Takes in one extended header. Errors (kProtocol) are phrased to follow "tar entry at byte N: ".
  [[nodiscard]] Status parse(std::string_view records);
  [[nodiscard]] bool is_sparse() const {
    return sparse_map_in_data || sparse_map_seen || sparse_size.has_value();
  }
  // Whether any record was one that changes an entry.
  [[nodiscard]] bool says_anything() const;

 private:
  [[nodiscard]] Status apply(std::string_view key, std::string_view value);
  [[nodiscard]] Status apply_sparse(std::string_view key, std::string_view value);
  std::optional<std::uint64_t> pending_offset_;  // format 0.0: an offset waiting for its length
};

}  // namespace msb::oci
