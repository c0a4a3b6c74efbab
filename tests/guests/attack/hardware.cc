// SPDX-License-Identifier: Apache-2.0
#include "hardware.h"

extern "C" {
void* memcpy(void* to, const void* from, std::size_t count);
// entry.S
extern const std::uint8_t second_begin[];
extern const std::uint8_t second_end[];
void on_general_protection();
extern const std::uint8_t fault_entries[];
void tell_fault(std::uint64_t vector, std::uint64_t error, std::uint64_t instruction, std::uint64_t address);
extern volatile std::uint64_t general_protections;
}

namespace attack {
namespace {
void (*volatile second_body)() = nullptr;
volatile bool second_runs = false;
constexpr std::uint16_t kConsole = 0x3f8;
constexpr std::uint16_t kKeyboard = 0x64;
constexpr std::uint8_t kPulseReset = 0xfe;

struct Gate {
  std::uint16_t low;
  std::uint16_t segment;
  std::uint16_t kind;
  std::uint16_t middle;
  std::uint32_t high;
  std::uint32_t zero;
};
constexpr unsigned kVectors = 32;
Gate gates[kVectors];

void set_gate(unsigned vector, const void* handler) {
  const auto at = reinterpret_cast<std::uint64_t>(handler);
  gates[vector] = {static_cast<std::uint16_t>(at),       8, 0x8e00, static_cast<std::uint16_t>(at >> 16),
                   static_cast<std::uint32_t>(at >> 32), 0};
}

// An empty table makes the next exception a triple fault.
void load_gates(const Gate* table, std::uint16_t size) {
  const struct [[gnu::packed]] {
    std::uint16_t limit;
    const void* base;
  } pointer{static_cast<std::uint16_t>(size > 0 ? size - 1 : 0), table};
  asm volatile("lidt %0" ::"m"(pointer) : "memory");
}
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
  load_gates(nullptr, 0);
  while (true) asm volatile("ud2");
}

void hang() {
  while (true) asm volatile("pause");
}

bool start_second_cpu(void (*body)()) {
  constexpr std::uint32_t kPage = 9;  // of memory below 1 MiB, where nothing is needed any more
  constexpr std::uint64_t kSpurious = 0xfee000f0;
  constexpr std::uint64_t kCommand = 0xfee00300;
  constexpr std::uint64_t kDestination = 0xfee00310;
  constexpr std::uint32_t kInit = 0x4500;
  constexpr std::uint32_t kStartup = 0x4600;
  second_body = body;
  memcpy(reinterpret_cast<void*>(kPage * 0x1000), second_begin,
         static_cast<std::size_t>(second_end - second_begin));
  store<std::uint32_t>(kSpurious, 0x1ff);
  store<std::uint32_t>(kDestination, 1u << 24);
  store<std::uint32_t>(kCommand, kInit);
  for (int tries = 0; tries < 1000 && !second_runs; ++tries) {
    if (tries % 100 == 0) {
      store<std::uint32_t>(kDestination, 1u << 24);
      store<std::uint32_t>(kCommand, kStartup | kPage);
    }
    for (int wait = 0; wait < 10000 && !second_runs; ++wait) asm volatile("pause");
  }
  return second_runs;
}

void tell_faults() {
  constexpr unsigned kEntryBytes = 16;
  for (unsigned vector = 0; vector < kVectors; ++vector)
    set_gate(vector, fault_entries + vector * kEntryBytes);
  load_gates(gates, sizeof gates);
}

void survive_refusals() {
  constexpr unsigned kGeneralProtection = 13;
  set_gate(kGeneralProtection, reinterpret_cast<const void*>(&on_general_protection));
}

bool read_msr(std::uint32_t number, std::uint64_t& value) {
  const std::uint64_t before = general_protections;
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("rdmsr" : "+a"(low), "+d"(high) : "c"(number) : "memory");
  value = std::uint64_t{high} << 32 | low;
  return general_protections == before;
}

bool write_msr(std::uint32_t number, std::uint64_t value) {
  const std::uint64_t before = general_protections;
  asm volatile("wrmsr" ::"a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32)),
               "c"(number)
               : "memory");
  return general_protections == before;
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

// Where entry.S takes an exception: the guest broke itself, or the machine did it. The test shows what is
// told.
extern "C" void tell_fault(std::uint64_t vector, std::uint64_t error, std::uint64_t instruction,
                           std::uint64_t address) {
  attack::say("\nexception ");
  attack::say_number(vector);
  attack::say(" error ");
  attack::say_number(error);
  attack::say(" at ");
  attack::say_number(instruction);
  attack::say(" address ");
  attack::say_number(address);
  attack::say("\n");
  attack::triple_fault();
}

// Where entry.S takes the second CPU.
extern "C" void second_main() {
  attack::tell_faults();
  attack::second_runs = true;
  attack::second_body();
}

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
