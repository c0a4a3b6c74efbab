// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm_check.h"

#include <cpuid.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "base/clock.h"
#include "base/json.h"
#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/arch/x86_64/registers.h"
#include "vmm/kvm/system.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

// Guest memory: 2 MiB at 0. The code runs in 64-bit mode over an identity map of its own.
constexpr std::uint64_t kMemory = 2 * kMiB;
constexpr std::uint64_t kCode = 0x1000;
constexpr std::uint64_t kBreakpointHandler = 0x1800;
constexpr std::uint64_t kIdt = 0x2000;
constexpr std::uint64_t kStack = 0x8000;
constexpr std::uint64_t kPml4 = 0x10000;
constexpr std::uint64_t kPdpt = 0x11000;
constexpr std::uint64_t kPageDirectory = 0x12000;
constexpr std::uint64_t kScratch = 0x20000;  // xrstor area, zeros but for what is legal
constexpr std::uint16_t kDonePort = 0x42;
constexpr std::uint32_t kLoopTurns = 2'000'000;
// A real CPU needs 300 to 1,000; one that interprets, over a million.
constexpr std::uint64_t kSlowLoopPs = 100'000;
constexpr std::uint16_t kCodeSelector = 0x08;
constexpr std::uint16_t kDataSelector = 0x10;

void put(Bytes& code, std::initializer_list<int> bytes) {
  for (const int byte : bytes) code.push_back(static_cast<std::uint8_t>(byte));
}
void put32(Bytes& code, std::uint32_t value) {
  for (unsigned shift = 0; shift < 32; shift += 8) code.push_back(static_cast<std::uint8_t>(value >> shift));
}

// Each step tells the host its number on kDonePort.
void put_step(Bytes& code, int number) {
  put(code, {0xb0, number, 0xe6, kDonePort});
}  // mov al, n; out 0x42, al

Bytes guest_code(bool xsave) {
  Bytes code;
  put(code, {0xcc});  // int3
  put_step(code, 1);
  put(code, {0xbf});  // mov edi, kScratch + 4096
  put32(code, kScratch + 4096);
  put(code, {0x31, 0xc0, 0x31, 0xd2, 0x31, 0xdb, 0x31, 0xc9});  // xor eax,eax; edx; ebx; ecx
  put(code, {0xf0, 0x48, 0x0f, 0xc7, 0x0f});                    // lock cmpxchg16b [rdi]
  put_step(code, 2);
  if (xsave) {
    put(code, {0xbf});  // mov edi, kScratch
    put32(code, kScratch);
    put(code, {0xb8, 0x03, 0, 0, 0, 0x31, 0xd2});  // mov eax, 3; xor edx, edx
    put(code, {0x48, 0x0f, 0xae, 0x2f});           // xrstor64 [rdi]
  }
  put_step(code, 3);
  put(code, {0xb9});  // mov ecx, turns
  put32(code, kLoopTurns);
  put(code, {0xff, 0xc9, 0x75, 0xfc});  // dec ecx; jnz -4
  put_step(code, 4);
  put(code, {0xf4});  // hlt
  return code;
}

kvm_segment segment(std::uint16_t selector, std::uint8_t type, bool code) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = 1;
  s.s = 1;
  s.g = 1;
  s.l = code ? 1 : 0;
  s.db = code ? 0 : 1;
  return s;
}

Status load(GuestMemory& memory, bool xsave) {
  const auto entry = [&](std::uint64_t table, std::uint64_t value) {
    return memory.write(Gpa{table}, Le64{value});
  };
  // An interrupt gate for vector 3: offset, selector, present, type 14.
  const std::uint64_t gate =
      (kBreakpointHandler & 0xffff) | std::uint64_t{kCodeSelector} << 16 | 0x8eULL << 40;
  const Bytes iret{0x48, 0xcf};
  const bool done = entry(kPml4, kPdpt | 3) && entry(kPdpt, kPageDirectory | 3) &&
                    entry(kPageDirectory, 0x83) && entry(kIdt + 3 * 16, gate) &&
                    memory.write(Gpa{kBreakpointHandler}, iret) &&
                    memory.write(Gpa{kScratch + 24}, Le32{0x1f80U}) &&  // MXCSR of the legacy area
                    memory.write(Gpa{kCode}, guest_code(xsave));
  if (!done) return make_error(Errc::kInternal, "place the test guest");
  return {};
}

Status set_registers(kvm::Vcpu& vcpu, bool xsave) {
  MSB_ASSIGN(kvm_sregs sregs, vcpu.sregs());
  sregs.cs = segment(kCodeSelector, 0xb, true);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(kDataSelector, 0x3, false);
  // No descriptor table: iret would need one, so there is a small one behind the code.
  sregs.gdt.base = kGdtAddress;
  sregs.gdt.limit = 3 * 8 - 1;
  sregs.idt.base = kIdt;
  sregs.idt.limit = 4 * 16 - 1;
  sregs.cr3 = kPml4;
  sregs.cr4 = 1U << 5 | 1U << 9 | (xsave ? 1U << 18 : 0);  // PAE, OSFXSR, OSXSAVE
  sregs.cr0 = 1U | 1U << 1 | 1U << 4 | 1U << 31;           // PE, MP, ET, PG
  sregs.efer = 1U << 8 | 1U << 10;                         // LME, LMA
  MSB_TRY(vcpu.set_sregs(sregs));
  kvm_regs regs{};
  regs.rip = kCode;
  regs.rsp = kStack;
  regs.rflags = 2;
  return vcpu.set_regs(regs);
}

Bytes long_mode_gdt() {
  ByteWriter out;
  out.put(Le64{0UL});
  out.put(Le64{0x00af9b000000ffffUL});  // 64-bit code
  out.put(Le64{0x00cf93000000ffffUL});  // data
  return std::move(out).take();
}

// A timer that ends KVM_RUN after a second.
class Deadline {
 public:
  Deadline() {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, &before_);
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGALRM;
    made_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    const itimerspec once{{0, 100'000'000}, {1, 0}};  // again and again, in case the first comes too early
    if (made_) ::timer_settime(timer_, 0, &once, nullptr);
  }
  ~Deadline() {
    if (made_) ::timer_delete(timer_);
    ::sigaction(SIGALRM, &before_, nullptr);
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  struct sigaction before_ {};
  timer_t timer_{};
  bool made_ = false;
};

const char* step_name(int step) {
  static constexpr std::array<const char*, 5> kNames{"int3", "cmpxchg16b", "xrstor", "a loop", "hlt"};
  return kNames[static_cast<std::size_t>(step)];
}

Result<KvmReport> run_guest(const kvm::System& system) {
  MSB_ASSIGN(const auto memory, GuestMemory::create(kMemory));
  MSB_ASSIGN(kvm::Vm vm, system.create_vm());
  const RegionInfo region = memory->regions().front();
  MSB_TRY(vm.set_memory(0, 0, region.size, reinterpret_cast<void*>(region.host)));
  MSB_TRY(vm.set_identity_map_address(kIdentityMapAddress));
  MSB_TRY(vm.set_tss_address(kTssAddress));
  MSB_TRY(vm.enable_split_irqchip(kMaxIoapicPins));
  MSB_ASSIGN(kvm::Vcpu vcpu, vm.create_vcpu(0));
  MSB_ASSIGN(const auto supported, system.supported_cpuid());
  const bool hide_xsave = host_loses_xcr0();
  const auto cpuid = make_cpuid(supported, {.hide_xsave = hide_xsave});
  bool xsave = false;
  for (const kvm_cpuid_entry2& entry : cpuid) xsave |= entry.function == 1 && (entry.ecx & 1U << 26) != 0;
  MSB_TRY(vcpu.set_cpuid(cpuid));
  MSB_TRY(load(*memory, xsave));
  if (!memory->write(Gpa{kGdtAddress}, long_mode_gdt()))
    return make_error(Errc::kInternal, "place the test guest");
  MSB_TRY(set_registers(vcpu, xsave));

  const Deadline deadline;
  const SteadyClock clock;
  int step = 0;
  Instant loop_began;
  while (step < 4) {
    MSB_ASSIGN(const kvm::RunOutcome outcome, vcpu.run());
    KvmReport failed{KvmVerdict::kInterpreting, "", 0};
    if (outcome == kvm::RunOutcome::kInterrupted) {
      failed.detail = std::string("a test guest did not get through ") + step_name(step) +
                      " in a second: this KVM interprets guest code; use a host with hardware virtualisation";
      return failed;
    }
    const std::uint32_t reason = vcpu.exit().exit_reason;
    if (reason != KVM_EXIT_IO) {
      failed.detail = std::string("a test guest failed at ") + step_name(step) + " (exit " +
                      std::to_string(reason) +
                      "): this KVM interprets guest code; use a host with hardware virtualisation";
      return failed;
    }
    const auto bytes = vcpu.io_bytes();
    step = bytes.empty() ? step : bytes[0];
    if (step == 3) loop_began = clock.now();
    if (step < 0 || step > 4) return make_error(Errc::kInternal, "the test guest said something strange");
  }
  KvmReport report{KvmVerdict::kGood, "guests run at the CPU's speed", 0};
  report.loop_ps = static_cast<std::uint64_t>((clock.now() - loop_began).count()) * 1000 / kLoopTurns;
  if (report.loop_ps > kSlowLoopPs) {
    report.verdict = KvmVerdict::kInterpreting;
    report.detail = "a loop in a guest takes " + std::to_string(report.loop_ps / 1000) +
                    " ns a turn: this KVM interprets guest code; use a host with hardware virtualisation";
  }
  return report;
}

}  // namespace

std::string_view kvm_verdict_name(KvmVerdict verdict) {
  static constexpr std::array<std::string_view, 5> kNames{"good", "absent", "forbidden", "interpreting",
                                                          "broken"};
  return kNames[static_cast<std::size_t>(verdict)];
}

std::string KvmReport::json() const {
  JsonWriter out;
  out.begin_object()
      .field("verdict", kvm_verdict_name(verdict))
      .field("detail", detail)
      .field("loop_ps", loop_ps);
  out.end_object();
  return std::move(out).take();
}

KvmReport check_kvm() {
  auto system = kvm::System::open();
  if (!system) {
    KvmVerdict verdict = KvmVerdict::kBroken;
    if (system.error().code == Errc::kNotFound) verdict = KvmVerdict::kAbsent;
    if (system.error().code == Errc::kPermission) verdict = KvmVerdict::kForbidden;
    return {verdict, system.error().text, 0};
  }
  auto report = run_guest(*system);
  if (!report) return {KvmVerdict::kBroken, "make a test guest: " + report.error().text, 0};
  return std::move(report).value();
}

}  // namespace msb::vmm
