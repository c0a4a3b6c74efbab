// SPDX-License-Identifier: Apache-2.0
// JSON with limits: the only place that sees RapidJSON. Input is parsed iteratively with a cap on bytes,
// depth and values, must be valid UTF-8, and may not repeat a key in one object. Access is typed and returns
// Result, so hostile documents end as errors. Errors name the path of the offending value ("net.ports[2]:
// ...").
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace msb {

struct JsonLimits {
  std::size_t max_bytes = std::size_t{1} << 20;
  std::size_t max_depth = 32;
  std::size_t max_values = 250'000;  // scalars, objects and arrays together
};

// A borrowed look at one value of a JsonDocument; valid while the document lives unchanged. Cheap to copy.
class JsonView {
 public:
  enum class Kind : std::uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
  [[nodiscard]] Kind kind() const;
  [[nodiscard]] bool is_null() const { return kind() == Kind::kNull; }
  [[nodiscard]] bool is_string() const { return kind() == Kind::kString; }
  [[nodiscard]] bool is_object() const { return kind() == Kind::kObject; }
  [[nodiscard]] bool is_array() const { return kind() == Kind::kArray; }
  // Where it stands in the document, for error texts: "net.ports[2]", or "document" for the root.
  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] Result<bool> as_bool() const;
  [[nodiscard]] Result<std::string_view> as_string() const;
  // Integers only, here and everywhere: 1.0 and 1e3 are refused, as is what lies outside [min, max].
  [[nodiscard]] Result<std::int64_t> as_int(std::int64_t min = INT64_MIN, std::int64_t max = INT64_MAX) const;
  [[nodiscard]] Result<std::uint64_t> as_uint(std::uint64_t max = UINT64_MAX) const;

  // Objects. find(): absent and null both read as nullopt. at(): absent is an error; null is a value.
  [[nodiscard]] std::optional<JsonView> find(std::string_view key) const;
  [[nodiscard]] Result<JsonView> at(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::pair<std::string_view, JsonView>>> members() const;
  // Refuses a non-object and any key not listed: kInvalid "x: unknown key "y" (known: a, b)".
  [[nodiscard]] Status only_keys(std::initializer_list<std::string_view> known) const;
  // Arrays.
  [[nodiscard]] Result<std::vector<JsonView>> elements() const;
  [[nodiscard]] Result<std::vector<std::string>> as_strings() const;

  // Typed members. get_*: required; the _or forms yield the fallback when absent or null, and still refuse a
  // wrong type.
  [[nodiscard]] Result<std::string> get_string(std::string_view key) const;
  [[nodiscard]] Result<std::string> get_string_or(std::string_view key, std::string_view fallback) const;
  [[nodiscard]] Result<bool> get_bool_or(std::string_view key, bool fallback) const;
  [[nodiscard]] Result<std::uint64_t> get_uint(std::string_view key, std::uint64_t max = UINT64_MAX) const;
  [[nodiscard]] Result<std::uint64_t> get_uint_or(std::string_view key, std::uint64_t fallback,
                                                  std::uint64_t max = UINT64_MAX) const;
  [[nodiscard]] Result<std::int64_t> get_int_or(std::string_view key, std::int64_t fallback) const;
  [[nodiscard]] Result<std::vector<std::string>> get_strings_or_empty(std::string_view key) const;

  // This value as compact JSON text.
  [[nodiscard]] std::string dump() const;

 private:
  friend class JsonDocument;
  JsonView(const void* value, std::string path) : value_(value), path_(std::move(path)) {}
  [[nodiscard]] Error wrong(std::string_view wanted) const;
  const void* value_;  // rapidjson value
  std::string path_;
};

// A parsed document; move-only owner of the values that its views look at.
class JsonDocument {
 public:
  // kProtocol for text that is not JSON (with byte offset), kLimit beyond a limit.
  [[nodiscard]] static Result<JsonDocument> parse(std::string_view text, const JsonLimits& limits = {});
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();
  [[nodiscard]] JsonView root() const;

 private:
  struct Impl;
  explicit JsonDocument(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Writes JSON text front to back. Misuse (a value without key in an object, unbalanced ends) is a bug:
// MSB_CHECK. Strings must be valid UTF-8 (see put_bytes_field in proto for those that may not be); invalid
// bytes are written as U+FFFD so that the output always parses.
class JsonWriter {
 public:
  enum class Style : std::uint8_t { kCompact, kPretty };
  explicit JsonWriter(Style style = Style::kCompact) : style_(style) {}
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);
  JsonWriter& string(std::string_view value);
  JsonWriter& integer(std::int64_t value);
  JsonWriter& unsigned_integer(std::uint64_t value);
  JsonWriter& boolean(bool value);
  JsonWriter& null();
  // Inserts `json`, one complete JSON value made by a JsonWriter or JsonView::dump, as it stands.
  JsonWriter& raw(std::string_view json);
  JsonWriter& strings(const std::vector<std::string>& values);
  // key + value in one call.
  JsonWriter& field(std::string_view name, std::string_view value) { return key(name).string(value); }
  JsonWriter& field(std::string_view name, const char* value) { return key(name).string(value); }
  JsonWriter& field(std::string_view name, const std::string& value) { return key(name).string(value); }
  JsonWriter& field(std::string_view name, bool value) { return key(name).boolean(value); }
  template <std::integral T>
  requires(!std::same_as<T, bool>) JsonWriter& field(std::string_view name, T value) {
    if constexpr (std::signed_integral<T>)
      return key(name).integer(value);
    else
      return key(name).unsigned_integer(value);
  }
  JsonWriter& field(std::string_view name, const std::vector<std::string>& values) {
    return key(name).strings(values);
  }
  // The finished text; everything opened must be closed.
  [[nodiscard]] std::string take() &&;

 private:
  void before_value();
  void newline();
  Style style_;
  std::string out_;
  struct Level {
    bool object;
    bool empty;
  };
  std::vector<Level> levels_;
  bool after_key_ = false;
};

// True if `text` is valid UTF-8 (RFC 3629: no surrogates, no overlong forms).
[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace msb
