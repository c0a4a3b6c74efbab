// SPDX-License-Identifier: Apache-2.0
#include "oci/options.h"

#include <cstdio>

#include "oci/tar_numbers.h"

namespace msb::oci {

Result<std::uint64_t> parse_size(std::string_view text) {
  const std::string shown(text.substr(0, 40));
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  const auto number = parse_decimal(text.substr(0, digits));
  std::string_view unit = text.substr(digits);
  unsigned shift = 0;
  if (!unit.empty() && unit != "B") {
    constexpr std::string_view kUnits = "KMGT";
    const std::size_t index = kUnits.find(static_cast<char>(unit[0] & ~0x20));
    unit.remove_prefix(1);
    if (index == std::string_view::npos || (!unit.empty() && unit != "iB" && unit != "B")) {
      return make_error(Errc::kInvalid, "size \"%s\": expected a number and K, M, G or T", shown.c_str());
    }
    shift = static_cast<unsigned>(10 * (index + 1));
  }
  if (!number || *number > (UINT64_MAX >> shift)) {
    return make_error(Errc::kInvalid, "size \"%s\": expected a number and K, M, G or T", shown.c_str());
  }
  return *number << shift;
}

void Options::flag(std::string name, bool& value, std::string alias) {
  options_.push_back({std::move(name), std::move(alias), false, [&value](std::string_view) {
                        value = true;
                        return Status{};
                      }});
}
void Options::text(std::string name, std::string& value, std::string alias) {
  options_.push_back({std::move(name), std::move(alias), true, [&value](std::string_view text) {
                        value = text;
                        return Status{};
                      }});
}
void Options::list(std::string name, std::vector<std::string>& values, std::string alias) {
  options_.push_back({std::move(name), std::move(alias), true, [&values](std::string_view text) {
                        values.emplace_back(text);
                        return Status{};
                      }});
}
void Options::number(const std::string& name, std::uint64_t& value, std::uint64_t max) {
  options_.push_back({name, "", true, [&value, max, name](std::string_view text) -> Status {
                        const auto parsed = parse_decimal(text);
                        if (!parsed || *parsed > max) {
                          return make_error(Errc::kInvalid, "--%s: expected a number up to %llu",
                                            name.c_str(), static_cast<unsigned long long>(max));
                        }
                        value = *parsed;
                        return {};
                      }});
}
void Options::number32(const std::string& name, std::uint32_t& value) {
  options_.push_back({name, "", true, [&value, name](std::string_view text) -> Status {
                        const auto parsed = parse_decimal(text);
                        if (!parsed || *parsed > UINT32_MAX) {
                          return make_error(Errc::kInvalid, "--%s: expected a number below 2^32",
                                            name.c_str());
                        }
                        value = static_cast<std::uint32_t>(*parsed);
                        return {};
                      }});
}
void Options::size(const std::string& name, std::uint64_t& bytes) {
  options_.push_back({name, "", true, [&bytes, name](std::string_view text) -> Status {
                        auto parsed = parse_size(text);
                        if (!parsed) return std::move(parsed).error().with_context("--" + name);
                        bytes = *parsed;
                        return {};
                      }});
}
const Options::Option* Options::find(std::string_view name) const {
  for (const Option& option : options_) {
    if (!name.empty() && (option.name == name || option.alias == name)) return &option;
  }
  return nullptr;
}

Status Options::parse(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view argument = arguments[i];
    if (argument == "--") {
      positional_.insert(positional_.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                         arguments.end());
      return {};
    }
    if (argument.size() < 2 || argument[0] != '-') {
      positional_.emplace_back(argument);
      continue;
    }
    if (argument == "--help" || argument == "-h") {
      std::printf("usage: msb-image %s\n", usage_.c_str());
      return Error{Errc::kCancelled, 0, ""};
    }
    const bool is_long = argument.starts_with("--");
    std::string_view name = argument.substr(is_long ? 2 : 1);
    std::string_view value;
    const std::size_t equals = name.find('=');
    const bool has_value = is_long && equals != std::string_view::npos;
    if (has_value) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    const Option* option = find(name);
    if (option == nullptr || (is_long && name.size() == 1)) {
      return make_error(Errc::kInvalid, "unknown option %s\nusage: msb-image %s", arguments[i].c_str(),
                        usage_.c_str());
    }
    if (option->takes_value && !has_value) {
      if (i + 1 == arguments.size())
        return make_error(Errc::kInvalid, "option %s needs a value", arguments[i].c_str());
      value = arguments[++i];
    } else if (!option->takes_value && has_value) {
      return make_error(Errc::kInvalid, "option %.*s takes no value", static_cast<int>(name.size()),
                        name.data());
    }
    MSB_TRY(option->set(value));
  }
  return {};
}

}  // namespace msb::oci
