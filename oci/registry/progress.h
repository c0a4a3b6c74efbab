// SPDX-License-Identifier: Apache-2.0
// What `pull` shows meanwhile, on stderr: a line with a bar for each layer on a terminal, redrawn in place;
// plain lines otherwise; nothing when quiet. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace msb::oci {

class Progress {
 public:
  enum class Style : std::uint8_t { kQuiet, kLines, kBars };
  // kBars if stderr is a terminal, kLines if not; kQuiet when asked.
  [[nodiscard]] static Style style_of(bool quiet);
  explicit Progress(Style style) : style_(style) {}

  void say(const std::string& line);
  // Layers are known by the number that this returns.
  [[nodiscard]] std::size_t add(const std::string& name, std::uint64_t total_bytes);
  void advance(std::size_t layer, std::uint64_t bytes);
  void finish(std::size_t layer, const char* how);  // "done", "already there"

 private:
  struct Layer {
    std::string name, state;
    std::uint64_t total = 0, have = 0;
  };
  void draw(bool now);
  Style style_;
  std::mutex mutex_;
  std::vector<Layer> layers_;
  std::size_t drawn_lines_ = 0;
  std::int64_t drawn_ns_ = 0;
};

}  // namespace msb::oci
