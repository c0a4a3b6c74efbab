// SPDX-License-Identifier: Apache-2.0
#include "proto/json_fields.h"

#include "base/base64.h"

namespace msb::proto {

void write_byte_string(JsonWriter& out, std::string_view bytes) {
  if (is_utf8(bytes)) {
    out.string(bytes);
  } else {
    out.begin_object().field("b64", base64_encode(as_bytes(bytes))).end_object();
  }
}

void write_byte_strings(JsonWriter& out, const std::vector<std::string>& values) {
  out.begin_array();
  for (const std::string& value : values) write_byte_string(out, value);
  out.end_array();
}

Error invalid_value(const JsonView& at, std::string_view text) {
  std::string full = at.path().empty() ? "document" : at.path();
  full += ": ";
  full += text;
  return Error{Errc::kInvalid, 0, std::move(full)};
}

Result<std::string> parse_byte_string(const JsonView& value) {
  std::string bytes;
  if (value.is_object()) {
    MSB_TRY(value.only_keys({"b64"}));
    MSB_ASSIGN(const std::string text, value.get_string("b64"));
    const auto decoded = base64_decode(text);
    if (!decoded) return invalid_value(value, "is not base64");
    bytes.assign(as_text(*decoded));
  } else {
    MSB_ASSIGN(const std::string_view text, value.as_string());
    bytes.assign(text);
  }
  if (bytes.find('\0') != std::string::npos) return invalid_value(value, "holds a NUL byte");
  return bytes;
}

Result<std::vector<std::string>> parse_byte_strings(const JsonView& value) {
  MSB_ASSIGN(const std::vector<JsonView> elements, value.elements());
  std::vector<std::string> out;
  out.reserve(elements.size());
  for (const JsonView& element : elements) {
    MSB_ASSIGN(std::string bytes, parse_byte_string(element));
    out.push_back(std::move(bytes));
  }
  return out;
}

Result<std::string> get_byte_string(const JsonView& object, std::string_view key) {
  MSB_ASSIGN(const JsonView member, object.at(key));
  return parse_byte_string(member);
}

Result<std::string> get_byte_string_or(const JsonView& object, std::string_view key,
                                       std::string_view fallback) {
  const auto member = object.find(key);
  return member ? parse_byte_string(*member) : Result<std::string>(std::string(fallback));
}

Result<std::vector<std::string>> get_byte_strings_or_empty(const JsonView& object, std::string_view key) {
  const auto member = object.find(key);
  return member ? parse_byte_strings(*member) : Result<std::vector<std::string>>(std::vector<std::string>{});
}

Result<std::optional<std::uint64_t>> get_optional_uint(const JsonView& object, std::string_view key,
                                                       std::uint64_t max) {
  const auto member = object.find(key);
  if (!member) return std::optional<std::uint64_t>();
  MSB_ASSIGN(const std::uint64_t value, member->as_uint(max));
  return std::optional<std::uint64_t>(value);
}

}  // namespace msb::proto
