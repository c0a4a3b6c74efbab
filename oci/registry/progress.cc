// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "oci/output.h"

namespace msb::oci {
namespace {
constexpr std::int64_t kRedrawNs = 100'000'000;
constexpr std::size_t kBarWidth = 30;
}  // namespace

Progress::Style Progress::style_of(bool quiet) {
  if (quiet) return Style::kQuiet;
  return ::isatty(STDERR_FILENO) == 1 ? Style::kBars : Style::kLines;
}

void Progress::say(const std::string& line) {
  if (style_ == Style::kQuiet) return;
  const std::lock_guard lock(mutex_);
  std::fprintf(stderr, "%s\n", line.c_str());
}

std::size_t Progress::add(const std::string& name, std::uint64_t total_bytes) {
  const std::lock_guard lock(mutex_);
  layers_.push_back({name, "", total_bytes, 0});
  return layers_.size() - 1;
}

void Progress::advance(std::size_t layer, std::uint64_t bytes) {
  if (style_ != Style::kBars) return;
  const std::lock_guard lock(mutex_);
  layers_[layer].have += bytes;
  draw(false);
}

void Progress::finish(std::size_t layer, const char* how) {
  if (style_ == Style::kQuiet) return;
  const std::lock_guard lock(mutex_);
  layers_[layer].state = how;
  if (style_ == Style::kLines) {
    std::fprintf(stderr, "%s: %s (%s)\n", layers_[layer].name.c_str(), how,
                 format_bytes(layers_[layer].total).c_str());
  } else {
    draw(true);
  }
}

// Over the lines drawn last time.
void Progress::draw(bool now) {
  const std::int64_t time = wall_clock_ns();
  if (!now && time - drawn_ns_ < kRedrawNs) return;
  drawn_ns_ = time;
  std::string text;
  if (drawn_lines_ > 0) text = "\r\x1b[" + std::to_string(drawn_lines_) + "A";
  for (const Layer& layer : layers_) {
    text += layer.name + ": ";
    if (!layer.state.empty()) {
      text += layer.state;
    } else {
      const std::uint64_t have = std::min(layer.have, layer.total);
      const auto filled = static_cast<std::size_t>(
          layer.total == 0
              ? 0
              : static_cast<double>(have) / static_cast<double>(layer.total) * double{kBarWidth});
      text += "[" + std::string(filled, '=') + std::string(kBarWidth - filled, ' ') + "] " +
              format_bytes(have) + " / " + format_bytes(layer.total);
    }
    text += "\x1b[K\n";
  }
  drawn_lines_ = layers_.size();
  std::fputs(text.c_str(), stderr);
}

}  // namespace msb::oci
