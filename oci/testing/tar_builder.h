// SPDX-License-Identifier: Apache-2.0
// Tar streams made by hand for tests: every header field can be given, the wrong way too.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace msb::oci::testing {

struct Member {
  std::string name;
  char type = '0';
  std::string data = {};
  std::string link = {};
  std::uint32_t mode = 0644;
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::int64_t mtime = 0;
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  // Records of a PAX header put before the member.
  std::vector<std::pair<std::string, std::string>> pax = {};
  // The size field, where it is to differ from data.size().
  std::int64_t size = -1;
};

class TarBuilder {
 public:
  TarBuilder& add(const Member& member);
  // A GNU 'L' or 'K' header: the name or link target of the member that follows.
  TarBuilder& gnu_long(char type, const std::string& text);
  // Bytes as they are.
  TarBuilder& raw(std::string_view bytes);
  // The stream so far, with the two zero blocks that end it.
  [[nodiscard]] std::string end() const { return stream_ + std::string(1024, '\0'); }
  // Without them.
  [[nodiscard]] const std::string& open_end() const { return stream_; }

 private:
  void header(const Member& member, std::uint64_t size);
  void content(std::string_view data);
  std::string stream_;
};

// One PAX record, its length included.
[[nodiscard]] std::string pax_record(const std::string& key, const std::string& value);

}  // namespace msb::oci::testing
