// SPDX-License-Identifier: Apache-2.0
// kvm::Vcpu: one virtual CPU's descriptor and its shared kvm_run page. Thin typed ioctls, no policy.
//
// Threads: run() and the state calls belong to one thread, the vCPU's (KVM takes the vCPU's mutex around
// each). request_exit() may be called from any thread, and from a signal handler. Facts: Linux
// Documentation/virt/kvm/api.rst, "vcpu ioctls" and "The kvm_run structure".
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::vmm::kvm {

enum class RunOutcome : std::uint8_t {
  kExit,         // the guest left for a reason: see Vcpu::exit()
  kInterrupted,  // a signal or request_exit() ended the run; nothing to handle
};

// A vCPU's whole state as plain values, in the order it must be restored (docs: api.rst; FPU before XCRs,
// MSRs after CPUID and LAPIC). Sizes are those of KVM's own structures.
struct VcpuState {
  std::vector<kvm_cpuid_entry2> cpuid;
  kvm_mp_state mp_state{};
  kvm_regs regs{};
  kvm_sregs sregs{};
  std::vector<std::uint32_t> xsave;  // as long as KVM_CAP_XSAVE2 says, at least 4096 bytes
  kvm_xcrs xcrs{};
  kvm_debugregs debug{};
  kvm_lapic_state lapic{};
  kvm_vcpu_events events{};
  std::vector<kvm_msr_entry> msrs;
  std::uint64_t tsc_khz = 0;
};

class Vcpu {
 public:
  [[nodiscard]] static Result<Vcpu> create(UniqueFd fd, std::size_t run_size);
  Vcpu(Vcpu&& other) noexcept;
  Vcpu& operator=(Vcpu&&) = delete;
  Vcpu(const Vcpu&) = delete;
  ~Vcpu();

  // Enters the guest until it exits. Errors are the host's: EFAULT (memory gone), EINVAL...
  [[nodiscard]] Result<RunOutcome> run();
  // What the last run() that returned kExit left for; data for I/O is read and written in place.
  [[nodiscard]] kvm_run& exit() { return *run_; }
  // The bytes of a KVM_EXIT_IO, as they lie in the shared page; empty if KVM named a place outside of it.
  [[nodiscard]] std::span<std::uint8_t> io_bytes();
  // Makes the current or next run() return kInterrupted at once, and every one after, until cleared. A thread
  // that is inside run() also needs a signal to come out.
  void request_exit() { __atomic_store_n(&run_->immediate_exit, 1, __ATOMIC_SEQ_CST); }
  void clear_exit_request() { __atomic_store_n(&run_->immediate_exit, 0, __ATOMIC_SEQ_CST); }

  [[nodiscard]] Status set_cpuid(std::span<const kvm_cpuid_entry2> table);
  [[nodiscard]] Result<kvm_regs> regs() const;
  [[nodiscard]] Status set_regs(const kvm_regs& regs);
  [[nodiscard]] Result<kvm_sregs> sregs() const;
  [[nodiscard]] Status set_sregs(const kvm_sregs& sregs);
  // Sets all; kUnsupported names the first that KVM refused.
  [[nodiscard]] Status set_msrs(std::span<const kvm_msr_entry> msrs);
  [[nodiscard]] Result<std::uint32_t> tsc_khz() const;
  // Tells kvm-clock that the guest was paused, so that its watchdogs do not fire. Ignored without kvm-clock.
  void note_paused();

  // Everything at once; `msr_indices` from System::state_msrs(). The vCPU must not be running.
  [[nodiscard]] Result<VcpuState> save(std::span<const std::uint32_t> msr_indices,
                                       std::size_t xsave_size) const;
  [[nodiscard]] Status restore(const VcpuState& state);
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Vcpu(UniqueFd fd, kvm_run* run, std::size_t run_size)
      : fd_(std::move(fd)), run_(run), run_size_(run_size) {}
  [[nodiscard]] Status call(unsigned long request, void* argument, const char* name) const;

  UniqueFd fd_;
  kvm_run* run_;
  std::size_t run_size_;
};

}  // namespace msb::vmm::kvm
