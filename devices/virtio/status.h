// SPDX-License-Identifier: Apache-2.0
// Device status bits (virtio 1.2, 2.1) and interrupt status bits (4.2.2).
#pragma once

#include <cstdint>

namespace msb::devices {

inline constexpr std::uint32_t kStatusAcknowledge = 1;
inline constexpr std::uint32_t kStatusDriver = 2;
inline constexpr std::uint32_t kStatusDriverOk = 4;
inline constexpr std::uint32_t kStatusFeaturesOk = 8;
inline constexpr std::uint32_t kStatusNeedsReset = 64;
inline constexpr std::uint32_t kStatusFailed = 128;

inline constexpr std::uint32_t kInterruptQueue = 1;
inline constexpr std::uint32_t kInterruptConfig = 2;

}  // namespace msb::devices
