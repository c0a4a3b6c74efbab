// SPDX-License-Identifier: Apache-2.0
// Randomness as an argument: services take a source, tests give a seeded one.
#pragma once

#include <sys/random.h>

#include <cstdint>

namespace msb::net {

class RandomSource {
 public:
  virtual ~RandomSource() = default;
  [[nodiscard]] virtual std::uint64_t next() = 0;
};

// The kernel's generator, fetched in blocks.
class SystemRandom final : public RandomSource {
 public:
  [[nodiscard]] std::uint64_t next() override {
    if (left_ == 0) {
      while (::getrandom(block_, sizeof block_, 0) != static_cast<ssize_t>(sizeof block_)) {
      }
      left_ = kBlock;
    }
    return block_[--left_];
  }

 private:
  static constexpr std::size_t kBlock = 32;  // 256 bytes: getrandom never returns less at once
  std::uint64_t block_[kBlock] = {};
  std::size_t left_ = 0;
};

// SplitMix64; for tests only.
class SeededRandom final : public RandomSource {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  [[nodiscard]] std::uint64_t next() override {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

}  // namespace msb::net
