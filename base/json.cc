// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <cmath>
#include <cstdio>
#include <optional>
#include <unordered_set>

// RapidJSON asserts on misuse of its API; ours is checked before every call, so a failed assertion is our
// bug.
#define RAPIDJSON_ASSERT(x) MSB_CHECK(x)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#pragma GCC diagnostic pop

namespace msb {
namespace {

using Value = rapidjson::Value;

const Value& as_value(const void* value) { return *static_cast<const Value*>(value); }

// Stands between RapidJSON's reader and its document builder and stops at our limits. The key sets exist
// because two readers of one document must not see different values under a repeated key.
class LimitedHandler {
 public:
  using Ch = char;
  LimitedHandler(rapidjson::Document& document, const JsonLimits& limits)
      : document_(document), limits_(limits) {}
  [[nodiscard]] const std::optional<Error>& refused() const { return refused_; }

  bool Null() { return count() && document_.Null(); }
  bool Bool(bool value) { return count() && document_.Bool(value); }
  bool Int(int value) { return count() && document_.Int(value); }
  bool Uint(unsigned value) { return count() && document_.Uint(value); }
  bool Int64(std::int64_t value) { return count() && document_.Int64(value); }
  bool Uint64(std::uint64_t value) { return count() && document_.Uint64(value); }
  bool Double(double value) {
    return count() && (std::isfinite(value) || refuse(Errc::kLimit, "a number is too large")) &&
           document_.Double(value);
  }
  bool RawNumber(const char* text, rapidjson::SizeType length, bool copy) {
    return count() && document_.RawNumber(text, length, copy);
  }
  bool String(const char* text, rapidjson::SizeType length, bool copy) {
    return count() && whole(text, length) && document_.String(text, length, copy);
  }
  bool StartObject() {
    keys_.emplace_back();
    return enter() && document_.StartObject();
  }
  bool Key(const char* text, rapidjson::SizeType length, bool copy) {
    if (!keys_.back().emplace(text, length).second) return refuse(Errc::kProtocol, "an object repeats a key");
    return whole(text, length) && document_.Key(text, length, copy);
  }
  bool EndObject(rapidjson::SizeType members) {
    keys_.pop_back();
    --depth_;
    return document_.EndObject(members);
  }
  bool StartArray() { return enter() && document_.StartArray(); }
  bool EndArray(rapidjson::SizeType elements) {
    --depth_;
    return document_.EndArray(elements);
  }

 private:
  bool refuse(Errc code, const char* why) {
    refused_ = make_error(code, "parse JSON: %s", why);
    return false;
  }
  // On decoded strings: RapidJSON's own check lets a lone low surrogate ("\udc00") through.
  bool whole(const char* text, rapidjson::SizeType length) {
    return is_utf8({text, length}) || refuse(Errc::kProtocol, "a string is not UTF-8");
  }
  bool count() { return ++values_ <= limits_.max_values || refuse(Errc::kLimit, "too many values"); }
  bool enter() {
    return (++depth_ <= limits_.max_depth || refuse(Errc::kLimit, "nested too deeply")) && count();
  }

  rapidjson::Document& document_;
  const JsonLimits& limits_;
  std::size_t values_ = 0;
  std::size_t depth_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;
  std::optional<Error> refused_;
};

struct LimitedGenerator {
  rapidjson::Reader& reader;
  rapidjson::MemoryStream& stream;
  LimitedHandler& handler;
  bool operator()(rapidjson::Document&) {
    // Not kParseFullPrecisionFlag: RapidJSON's exact reading shifts by an undefined amount at a zero with an
    // exponent ("0e172"), and nothing here needs the last bit of a fraction.
    constexpr unsigned kFlags = rapidjson::kParseIterativeFlag;
    return !reader.Parse<kFlags>(stream, handler).IsError();
  }
};

// Length of the valid UTF-8 sequence at the start of `text`, 0 if there is none.
std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  if (text.size() < length || byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const std::size_t length = utf8_sequence(text);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      text.remove_prefix(1);
      continue;
    }
    const char c = text.front();
    if (length > 1) {
      out += text.substr(0, length);
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += escape;
    } else {
      out += c;
    }
    text.remove_prefix(length);
  }
  out += '"';
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

struct JsonDocument::Impl {
  rapidjson::Document document;
};

JsonDocument::JsonDocument(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::parse(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return make_error(Errc::kLimit, "parse JSON: %zu bytes, at most %zu are allowed", text.size(),
                      limits.max_bytes);
  }
  auto impl = std::make_unique<Impl>();
  LimitedHandler handler(impl->document, limits);
  rapidjson::Reader reader;
  rapidjson::MemoryStream stream(text.data(), text.size());
  LimitedGenerator generator{reader, stream, handler};
  impl->document.Populate(generator);
  if (handler.refused()) return *handler.refused();
  if (reader.HasParseError()) {
    return make_error(Errc::kProtocol, "parse JSON: %s (at byte %zu)",
                      rapidjson::GetParseError_En(reader.GetParseErrorCode()), reader.GetErrorOffset());
  }
  return JsonDocument(std::move(impl));
}

JsonView JsonDocument::root() const { return JsonView(&static_cast<const Value&>(impl_->document), ""); }

JsonView::Kind JsonView::kind() const {
  switch (as_value(value_).GetType()) {
    case rapidjson::kNullType:
      return Kind::kNull;
    case rapidjson::kFalseType:
    case rapidjson::kTrueType:
      return Kind::kBool;
    case rapidjson::kObjectType:
      return Kind::kObject;
    case rapidjson::kArrayType:
      return Kind::kArray;
    case rapidjson::kStringType:
      return Kind::kString;
    case rapidjson::kNumberType:
      return Kind::kNumber;
  }
  return Kind::kNull;
}

Error JsonView::wrong(std::string_view wanted) const {
  std::string text = path_.empty() ? "document" : path_;
  text += ": must be ";
  text += wanted;
  return Error{Errc::kInvalid, 0, std::move(text)};
}

Result<bool> JsonView::as_bool() const {
  if (kind() != Kind::kBool) return wrong("true or false");
  return as_value(value_).GetBool();
}

Result<std::string_view> JsonView::as_string() const {
  if (kind() != Kind::kString) return wrong("a string");
  const Value& value = as_value(value_);
  return std::string_view(value.GetString(), value.GetStringLength());
}

Result<std::int64_t> JsonView::as_int(std::int64_t min, std::int64_t max) const {
  const Value& value = as_value(value_);
  if (!value.IsInt64()) return wrong("an integer");
  const std::int64_t number = value.GetInt64();
  if (number < min || number > max) {
    return wrong("an integer from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return number;
}

Result<std::uint64_t> JsonView::as_uint(std::uint64_t max) const {
  const Value& value = as_value(value_);
  if (!value.IsUint64()) return wrong("an integer of 0 or more");
  const std::uint64_t number = value.GetUint64();
  if (number > max) return wrong("an integer from 0 to " + std::to_string(max));
  return number;
}

std::optional<JsonView> JsonView::find(std::string_view key) const {
  const Value& value = as_value(value_);
  if (!value.IsObject()) return std::nullopt;
  const Value name(rapidjson::StringRef(key.data(), static_cast<rapidjson::SizeType>(key.size())));
  const auto member = value.FindMember(name);
  if (member == value.MemberEnd() || member->value.IsNull()) return std::nullopt;
  std::string path = path_;
  if (!path.empty()) path += '.';
  path += key;
  return JsonView(&member->value, std::move(path));
}

Result<JsonView> JsonView::at(std::string_view key) const {
  if (!is_object()) return wrong("an object");
  const Value& value = as_value(value_);
  const Value name(rapidjson::StringRef(key.data(), static_cast<rapidjson::SizeType>(key.size())));
  const auto member = value.FindMember(name);
  std::string path = path_;
  if (!path.empty()) path += '.';
  path += key;
  if (member == value.MemberEnd()) return Error{Errc::kInvalid, 0, path + ": is missing"};
  return JsonView(&member->value, std::move(path));
}

Result<std::vector<std::pair<std::string_view, JsonView>>> JsonView::members() const {
  if (!is_object()) return wrong("an object");
  std::vector<std::pair<std::string_view, JsonView>> out;
  for (const auto& member : as_value(value_).GetObject()) {
    const std::string_view name(member.name.GetString(), member.name.GetStringLength());
    std::string path = path_;
    if (!path.empty()) path += '.';
    path += name;
    out.emplace_back(name, JsonView(&member.value, std::move(path)));
  }
  return out;
}

Status JsonView::only_keys(std::initializer_list<std::string_view> known) const {
  if (!is_object()) return wrong("an object");
  for (const auto& member : as_value(value_).GetObject()) {
    const std::string_view name(member.name.GetString(), member.name.GetStringLength());
    bool found = false;
    std::string list;
    for (const std::string_view key : known) {
      found = found || key == name;
      if (!list.empty()) list += ", ";
      list += key;
    }
    if (found) continue;
    std::string text = path_.empty() ? "document" : path_;
    text += ": unknown key ";
    append_quoted(text, name);
    text += " (known: " + list + ")";
    return Error{Errc::kInvalid, 0, std::move(text)};
  }
  return {};
}

Result<std::vector<JsonView>> JsonView::elements() const {
  if (!is_array()) return wrong("an array");
  std::vector<JsonView> out;
  std::size_t index = 0;
  for (const auto& element : as_value(value_).GetArray()) {
    out.push_back(JsonView(&element, path_ + "[" + std::to_string(index++) + "]"));
  }
  return out;
}

Result<std::vector<std::string>> JsonView::as_strings() const {
  MSB_ASSIGN(const std::vector<JsonView> views, elements());
  std::vector<std::string> out;
  out.reserve(views.size());
  for (const JsonView& view : views) {
    MSB_ASSIGN(const std::string_view text, view.as_string());
    out.emplace_back(text);
  }
  return out;
}

Result<std::string> JsonView::get_string(std::string_view key) const {
  MSB_ASSIGN(const JsonView member, at(key));
  MSB_ASSIGN(const std::string_view text, member.as_string());
  return std::string(text);
}

Result<std::string> JsonView::get_string_or(std::string_view key, std::string_view fallback) const {
  const auto member = find(key);
  if (!member) return std::string(fallback);
  MSB_ASSIGN(const std::string_view text, member->as_string());
  return std::string(text);
}

Result<bool> JsonView::get_bool_or(std::string_view key, bool fallback) const {
  const auto member = find(key);
  return member ? member->as_bool() : Result<bool>(fallback);
}

Result<std::uint64_t> JsonView::get_uint(std::string_view key, std::uint64_t max) const {
  MSB_ASSIGN(const JsonView member, at(key));
  return member.as_uint(max);
}

Result<std::uint64_t> JsonView::get_uint_or(std::string_view key, std::uint64_t fallback,
                                            std::uint64_t max) const {
  const auto member = find(key);
  return member ? member->as_uint(max) : Result<std::uint64_t>(fallback);
}

Result<std::int64_t> JsonView::get_int_or(std::string_view key, std::int64_t fallback) const {
  const auto member = find(key);
  return member ? member->as_int() : Result<std::int64_t>(fallback);
}

Result<std::vector<std::string>> JsonView::get_strings_or_empty(std::string_view key) const {
  const auto member = find(key);
  return member ? member->as_strings() : Result<std::vector<std::string>>(std::vector<std::string>{});
}

std::string JsonView::dump() const {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  as_value(value_).Accept(writer);  // recursion is bounded by JsonLimits::max_depth
  return {buffer.GetString(), buffer.GetSize()};
}

void JsonWriter::newline() {
  if (style_ == Style::kCompact) return;
  out_ += '\n';
  out_.append(levels_.size() * 2, ' ');
}

void JsonWriter::before_value() {
  if (levels_.empty()) {
    MSB_CHECK(out_.empty());
    return;
  }
  if (levels_.back().object) {
    MSB_CHECK(after_key_);
    after_key_ = false;
    return;
  }
  if (!levels_.back().empty) out_ += ',';
  levels_.back().empty = false;
  newline();
}

JsonWriter& JsonWriter::begin_object() {
  before_value();
  out_ += '{';
  levels_.push_back({true, true});
  return *this;
}

JsonWriter& JsonWriter::end_object() {
  MSB_CHECK(!levels_.empty() && levels_.back().object && !after_key_);
  const bool empty = levels_.back().empty;
  levels_.pop_back();
  if (!empty) newline();
  out_ += '}';
  return *this;
}

JsonWriter& JsonWriter::begin_array() {
  before_value();
  out_ += '[';
  levels_.push_back({false, true});
  return *this;
}

JsonWriter& JsonWriter::end_array() {
  MSB_CHECK(!levels_.empty() && !levels_.back().object);
  const bool empty = levels_.back().empty;
  levels_.pop_back();
  if (!empty) newline();
  out_ += ']';
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  MSB_CHECK(!levels_.empty() && levels_.back().object && !after_key_);
  if (!levels_.back().empty) out_ += ',';
  levels_.back().empty = false;
  newline();
  append_quoted(out_, name);
  out_ += style_ == Style::kPretty ? ": " : ":";
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view value) {
  before_value();
  append_quoted(out_, value);
  return *this;
}

JsonWriter& JsonWriter::integer(std::int64_t value) {
  before_value();
  out_ += std::to_string(value);
  return *this;
}

JsonWriter& JsonWriter::unsigned_integer(std::uint64_t value) {
  before_value();
  out_ += std::to_string(value);
  return *this;
}

JsonWriter& JsonWriter::boolean(bool value) {
  before_value();
  out_ += value ? "true" : "false";
  return *this;
}

JsonWriter& JsonWriter::null() {
  before_value();
  out_ += "null";
  return *this;
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  before_value();
  out_ += json;
  return *this;
}

JsonWriter& JsonWriter::strings(const std::vector<std::string>& values) {
  begin_array();
  for (const std::string& value : values) string(value);
  return end_array();
}

std::string JsonWriter::take() && {
  MSB_CHECK(levels_.empty() && !out_.empty());
  if (style_ == Style::kPretty) out_ += '\n';
  return std::move(out_);
}

}  // namespace msb
