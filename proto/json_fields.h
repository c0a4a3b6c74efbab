// SPDX-License-Identifier: Apache-2.0
// What the messages share: text that may not be UTF-8, and the two generic ends of every message.
//
// A message is a struct with `void write(JsonWriter&) const` (one JSON object) and
// `static Result<M> parse(const JsonView&)`. Paths, arguments, environment entries and names are byte strings
// on Linux. In JSON they are strings where they are valid UTF-8 and {"b64":"..."} otherwise.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace msb::proto {

// Messages are small and flat: a frame's cap on bytes, little depth.
inline constexpr JsonLimits kMessageLimits{
    .max_bytes = std::size_t{256} << 10, .max_depth = 8, .max_values = 65'536};

// A byte string value: a JSON string when `bytes` is UTF-8, {"b64":...} otherwise.
void write_byte_string(JsonWriter& out, std::string_view bytes);
void write_byte_strings(JsonWriter& out, const std::vector<std::string>& values);
inline void write_byte_field(JsonWriter& out, std::string_view key, std::string_view bytes) {
  out.key(key);
  write_byte_string(out, bytes);
}
inline void write_bytes_field(JsonWriter& out, std::string_view key, const std::vector<std::string>& values) {
  out.key(key);
  write_byte_strings(out, values);
}

// The reverse. A NUL byte is refused: none of the strings so written may hold one.
[[nodiscard]] Result<std::string> parse_byte_string(const JsonView& value);
[[nodiscard]] Result<std::vector<std::string>> parse_byte_strings(const JsonView& value);
[[nodiscard]] Result<std::string> get_byte_string(const JsonView& object, std::string_view key);
[[nodiscard]] Result<std::string> get_byte_string_or(const JsonView& object, std::string_view key,
                                                     std::string_view fallback);
[[nodiscard]] Result<std::vector<std::string>> get_byte_strings_or_empty(const JsonView& object,
                                                                         std::string_view key);
// A number, or nullopt where it is absent or null.
[[nodiscard]] Result<std::optional<std::uint64_t>> get_optional_uint(const JsonView& object,
                                                                     std::string_view key,
                                                                     std::uint64_t max = UINT64_MAX);
// A required unsigned integer of a narrower type.
template <typename T>
[[nodiscard]] Result<T> get_narrow_or(const JsonView& object, std::string_view key, T fallback, T max) {
  MSB_ASSIGN(const std::uint64_t value, object.get_uint_or(key, fallback, max));
  return static_cast<T>(value);
}

// Error of a wrong value: kInvalid "path: text".
[[nodiscard]] Error invalid_value(const JsonView& at, std::string_view text);

template <typename Message>
[[nodiscard]] std::string to_json(const Message& message) {
  JsonWriter out;
  message.write(out);
  return std::move(out).take();
}
template <typename Message>
[[nodiscard]] Result<Message> from_json(std::string_view text, const JsonLimits& limits = kMessageLimits) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(text, limits));
  return Message::parse(document.root());
}

}  // namespace msb::proto
