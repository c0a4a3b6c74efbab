// SPDX-License-Identifier: Apache-2.0
// What commands print for people: tables and amounts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace msb::oci {

// "123 B", "4.5 MB", in powers of 1000 as image sizes usually are.
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);
// "12 seconds ago", "3 days ago"; `ns` and `now_ns` are wall-clock times.
[[nodiscard]] std::string format_age(std::int64_t ns, std::int64_t now_ns);
// Rows of equal length; columns are padded to their widest cell, the last one not.
[[nodiscard]] std::string format_columns(const std::vector<std::vector<std::string>>& rows);

}  // namespace msb::oci
