// SPDX-License-Identifier: Apache-2.0
// What the attack guest has of the machine: memory, ports, text on the early console, an end, random numbers.
// Nothing of the standard library is there; addresses below 4 GiB are mapped one to one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace attack {

inline constexpr std::uint64_t kDevices = 0xd0000000;  // the machine's virtio windows, vmm/memory_map.h
inline constexpr std::uint64_t kDeviceStride = 0x1000;
inline constexpr std::uint64_t kDeviceWindow = 0x200;
inline constexpr unsigned kMaxDevices = 19;

template <typename T>
T load(std::uint64_t address) {
  return *reinterpret_cast<volatile T*>(address);
}
template <typename T>
void store(std::uint64_t address, T value) {
  *reinterpret_cast<volatile T*>(address) = value;
}
inline void out8(std::uint16_t port, std::uint8_t value) {
  asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void out16(std::uint16_t port, std::uint16_t value) {
  asm volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
inline void out32(std::uint16_t port, std::uint32_t value) {
  asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
inline std::uint32_t in32(std::uint16_t port) {
  std::uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
// `count` accesses by one instruction.
inline void out8_string(std::uint16_t port, const void* from, std::size_t count) {
  asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}
inline void in32_string(std::uint16_t port, void* to, std::size_t count) {
  asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}
inline std::uint64_t cycles() {
  std::uint32_t low;
  std::uint32_t high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return std::uint64_t{high} << 32 | low;
}

// The early console, a line at most a call.
void say(const char* text);
void say_number(std::uint64_t value);
[[noreturn]] void reset();
// Ends by an exception that has no handler.
[[noreturn]] void triple_fault();
[[noreturn]] void hang();

// Starts the second CPU, which runs `body` once. False if it does not come; then the machine has none.
[[nodiscard]] bool start_second_cpu(void (*body)());

// From here on an exception is told on the early console before it ends the guest.
void tell_faults();

// Model-specific registers. An access that the CPU refuses returns false, after survive_refusals().
void survive_refusals();
[[nodiscard]] bool read_msr(std::uint32_t number, std::uint64_t& value);
[[nodiscard]] bool write_msr(std::uint32_t number, std::uint64_t value);

// The same numbers at every run (xorshift64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  // Mostly the numbers at which checks go wrong.
  std::uint64_t nasty();

 private:
  std::uint64_t state_;
};

}  // namespace attack
