// SPDX-License-Identifier: Apache-2.0
#include "hardware.h"

namespace attack {
namespace {
constexpr std::uint16_t kConsole = 0x3f8;
constexpr std::uint16_t kKeyboard = 0x64;
constexpr std::uint8_t kPulseReset = 0xfe;
}  // namespace

void say(const char* text) {
  for (; *text != '\0'; ++text) out8(kConsole, static_cast<std::uint8_t>(*text));
}

void say_number(std::uint64_t value) {
  char digits[21];
  char* at = digits + sizeof digits - 1;
  *at = '\0';
  do {
    *--at = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  say(at);
}

void reset() {
  while (true) out8(kKeyboard, kPulseReset);
}

void triple_fault() {
  while (true) asm volatile("ud2");  // there is no table of handlers
}

void hang() {
  while (true) asm volatile("pause");
}

std::uint64_t Random::nasty() {
  static constexpr std::uint64_t kNasty[] = {0,
                                             1,
                                             2,
                                             3,
                                             0x7f,
                                             0xff,
                                             0x7fff,
                                             0x8000,
                                             0xffff,
                                             0x10000,
                                             0xfffff,
                                             0x7fffffff,
                                             0x80000000,
                                             0xfffffffe,
                                             0xffffffff,
                                             0x100000000,
                                             0x7fffffffffffffff,
                                             0x8000000000000000,
                                             0xfffffffffffff000,
                                             0xffffffffffffffff};
  const std::uint64_t kind = next();
  if (kind % 4 == 0) return next();
  return kNasty[kind / 4 % (sizeof kNasty / sizeof kNasty[0])];
}

}  // namespace attack

// What the compiler may call on its own.
extern "C" void* memset(void* to, int value, std::size_t count) {
  void* const whole = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  return whole;
}
extern "C" void* memcpy(void* to, const void* from, std::size_t count) {
  void* const whole = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  return whole;
}
