// SPDX-License-Identifier: Apache-2.0
// The command line of msb-image: options declared by the command that has them, everything else refused.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace msb::oci {

class Options {
 public:
  // `usage` is shown by --help and after errors: "load [-i FILE] ...".
  explicit Options(std::string usage) : usage_(std::move(usage)) {}

  // `alias` is one letter more that means the same: -q for --quiet.
  void flag(std::string name, bool& value, std::string alias = "");
  void text(std::string name, std::string& value, std::string alias = "");                // --tag X, --tag=X
  void list(std::string name, std::vector<std::string>& values, std::string alias = "");  // may be repeated
  void number(const std::string& name, std::uint64_t& value, std::uint64_t max);
  void number32(const std::string& name, std::uint32_t& value);
  void size(const std::string& name, std::uint64_t& bytes);  // 64M, 2GiB, 1048576

  // Options may stand anywhere before "--". Errors: kInvalid; kCancelled after --help was printed.
  [[nodiscard]] Status parse(const std::vector<std::string>& arguments);
  // What was no option.
  [[nodiscard]] const std::vector<std::string>& positional() const { return positional_; }

 private:
  struct Option {
    std::string name;
    std::string alias;
    bool takes_value;
    std::function<Status(std::string_view)> set;
  };
  [[nodiscard]] const Option* find(std::string_view name) const;
  std::string usage_;
  std::vector<Option> options_;
  std::vector<std::string> positional_;
};

// "4096", "64K", "16M", "2G", "1T", with an optional "iB" or "B"; units are powers of 1024.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);

}  // namespace msb::oci
