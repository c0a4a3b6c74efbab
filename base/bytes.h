// SPDX-License-Identifier: Apache-2.0
// Bounds-checked cursors over bytes: the only way outside bytes are taken apart or put together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/wire.h"

namespace msb {

using ByteView = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;
using Bytes = std::vector<std::uint8_t>;

[[nodiscard]] inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
[[nodiscard]] inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads forward through a view. A read past the end yields nullopt and leaves the cursor where it was.
// The view is borrowed and must outlive the reader.
class ByteReader {
 public:
  explicit ByteReader(ByteView data) : data_(data) {}
  [[nodiscard]] std::size_t position() const { return position_; }
  [[nodiscard]] std::size_t remaining() const { return data_.size() - position_; }
  [[nodiscard]] bool empty() const { return remaining() == 0; }

  [[nodiscard]] std::optional<ByteView> take(std::size_t length) {
    if (length > remaining()) return std::nullopt;
    const ByteView view = data_.subspan(position_, length);
    position_ += length;
    return view;
  }
  template <WireStruct T>
  [[nodiscard]] std::optional<T> take() {
    const auto view = take(sizeof(T));
    if (!view) return std::nullopt;
    T value;
    std::memcpy(&value, view->data(), sizeof value);
    return value;
  }
  [[nodiscard]] std::optional<std::uint8_t> take_u8() {
    const auto view = take(1);
    return view ? std::optional<std::uint8_t>((*view)[0]) : std::nullopt;
  }
  [[nodiscard]] ByteView rest() const { return data_.subspan(position_); }
  [[nodiscard]] bool skip(std::size_t length) { return take(length).has_value(); }

 private:
  ByteView data_;
  std::size_t position_ = 0;
};

// Appends to a growing buffer it owns.
class ByteWriter {
 public:
  ByteWriter() = default;
  void put_u8(std::uint8_t value) { buffer_.push_back(value); }
  template <WireStruct T>
  void put(const T& value) {
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&value);
    buffer_.insert(buffer_.end(), raw, raw + sizeof value);
  }
  void put_bytes(ByteView bytes) { buffer_.insert(buffer_.end(), bytes.begin(), bytes.end()); }
  void put_text(std::string_view text) { put_bytes(as_bytes(text)); }
  void put_zeros(std::size_t count) { buffer_.resize(buffer_.size() + count); }
  // Zeros up to the next multiple of `alignment` (a power of two).
  void align(std::size_t alignment) { buffer_.resize((buffer_.size() + alignment - 1) & ~(alignment - 1)); }
  [[nodiscard]] std::size_t size() const { return buffer_.size(); }
  [[nodiscard]] ByteView view() const { return buffer_; }
  // For filling in a length or checksum after the fact. `offset + length` must lie within what was written.
  [[nodiscard]] MutableBytes at(std::size_t offset, std::size_t length) {
    return MutableBytes(buffer_).subspan(offset, length);
  }
  [[nodiscard]] Bytes take() && { return std::move(buffer_); }

 private:
  Bytes buffer_;
};

}  // namespace msb
