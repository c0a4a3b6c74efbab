// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.h"

#include <sys/mman.h>

#include <algorithm>

#include "vmm/kvm/ioctl.h"
#include "vmm/kvm/lists.h"

namespace msb::vmm::kvm {
namespace {

constexpr std::size_t kMaxCpuidEntries = 256;
constexpr std::size_t kMsrsPerCall = 128;
constexpr std::size_t kMinXsaveBytes = 4096;

}  // namespace

Result<Vcpu> Vcpu::create(UniqueFd fd, std::size_t run_size) {
  void* page = ::mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return sys_error("map a vCPU's run page");
  return Vcpu(std::move(fd), static_cast<kvm_run*>(page), run_size);
}

Vcpu::Vcpu(Vcpu&& other) noexcept
    : fd_(std::move(other.fd_)), run_(std::exchange(other.run_, nullptr)), run_size_(other.run_size_) {}

Vcpu::~Vcpu() {
  if (run_ != nullptr) ::munmap(run_, run_size_);
}

Status Vcpu::call(unsigned long request, void* argument, const char* name) const {
  if (retry_ioctl(fd_.get(), request, argument) < 0) return sys_error(name);
  return {};
}

Result<RunOutcome> Vcpu::run() {
  // Not retried here: EINTR is how a pause or a stop gets through.
  if (::ioctl(fd_.get(), KVM_RUN, 0) == 0) return RunOutcome::kExit;
  if (errno == EINTR || errno == EAGAIN) return RunOutcome::kInterrupted;
  return sys_error("KVM_RUN");
}

std::span<std::uint8_t> Vcpu::io_bytes() {
  const std::uint64_t offset = run_->io.data_offset;
  const std::uint64_t length = std::uint64_t{run_->io.size} * run_->io.count;
  if (offset > run_size_ || length > run_size_ - offset) return {};
  return {reinterpret_cast<std::uint8_t*>(run_) + offset, static_cast<std::size_t>(length)};
}

Status Vcpu::set_cpuid(std::span<const kvm_cpuid_entry2> table) {
  CountedList<kvm_cpuid_entry2> list(table);
  return call(kSetCpuid2, list.get(), "KVM_SET_CPUID2");
}

Result<kvm_regs> Vcpu::regs() const {
  kvm_regs regs{};
  MSB_TRY(call(KVM_GET_REGS, &regs, "KVM_GET_REGS"));
  return regs;
}

Status Vcpu::set_regs(const kvm_regs& regs) {
  kvm_regs copy = regs;
  return call(KVM_SET_REGS, &copy, "KVM_SET_REGS");
}

Result<kvm_sregs> Vcpu::sregs() const {
  kvm_sregs sregs{};
  MSB_TRY(call(KVM_GET_SREGS, &sregs, "KVM_GET_SREGS"));
  return sregs;
}

Status Vcpu::set_sregs(const kvm_sregs& sregs) {
  kvm_sregs copy = sregs;
  return call(KVM_SET_SREGS, &copy, "KVM_SET_SREGS");
}

Status Vcpu::set_msrs(std::span<const kvm_msr_entry> msrs) {
  while (!msrs.empty()) {
    const std::size_t count = std::min(msrs.size(), kMsrsPerCall);
    CountedList<kvm_msr_entry> list(msrs.first(count));
    const int done = retry_ioctl(fd_.get(), kSetMsrs, list.get());
    if (done < 0) return sys_error("KVM_SET_MSRS");
    if (static_cast<std::size_t>(done) < count) {
      return make_error(Errc::kUnsupported, "KVM refuses to set MSR 0x%x",
                        msrs[static_cast<std::size_t>(done)].index);
    }
    msrs = msrs.subspan(count);
  }
  return {};
}

Result<std::uint32_t> Vcpu::tsc_khz() const {
  const int khz = retry_ioctl(fd_.get(), KVM_GET_TSC_KHZ, 0UL);
  if (khz < 0) return sys_error("KVM_GET_TSC_KHZ");
  return static_cast<std::uint32_t>(khz);
}

void Vcpu::note_paused() { static_cast<void>(retry_ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0UL)); }

Result<VcpuState> Vcpu::save(std::span<const std::uint32_t> msr_indices, std::size_t xsave_size) const {
  VcpuState state;
  CountedList<kvm_cpuid_entry2> cpuid(kMaxCpuidEntries);
  MSB_TRY(call(kGetCpuid2, cpuid.get(), "KVM_GET_CPUID2"));
  state.cpuid.assign(cpuid.entries().begin(), cpuid.entries().end());
  // First, because reading it lets a pending INIT or SIPI take effect.
  MSB_TRY(call(KVM_GET_MP_STATE, &state.mp_state, "KVM_GET_MP_STATE"));
  MSB_TRY(call(KVM_GET_REGS, &state.regs, "KVM_GET_REGS"));
  MSB_TRY(call(KVM_GET_SREGS, &state.sregs, "KVM_GET_SREGS"));
  state.xsave.resize(std::max(xsave_size, kMinXsaveBytes) / sizeof(std::uint32_t));
  const unsigned long xsave_request = xsave_size > kMinXsaveBytes ? kGetXsave2 : kGetXsave;
  MSB_TRY(call(xsave_request, state.xsave.data(), "KVM_GET_XSAVE"));
  MSB_TRY(call(KVM_GET_XCRS, &state.xcrs, "KVM_GET_XCRS"));
  MSB_TRY(call(KVM_GET_DEBUGREGS, &state.debug, "KVM_GET_DEBUGREGS"));
  MSB_TRY(call(KVM_GET_LAPIC, &state.lapic, "KVM_GET_LAPIC"));
  MSB_TRY(call(KVM_GET_VCPU_EVENTS, &state.events, "KVM_GET_VCPU_EVENTS"));
  MSB_ASSIGN(state.tsc_khz, tsc_khz());
  // The kernel lists MSRs that this guest's CPUID may not have: what cannot be read is left out, one at a
  // time.
  while (!msr_indices.empty()) {
    const std::size_t count = std::min(msr_indices.size(), kMsrsPerCall);
    CountedList<kvm_msr_entry> list(count);
    const auto entries = list.entries();
    for (std::size_t i = 0; i < count; ++i) entries[i].index = msr_indices[i];
    const int done = retry_ioctl(fd_.get(), kGetMsrs, list.get());
    if (done < 0) return sys_error("KVM_GET_MSRS");
    const auto read = std::min(static_cast<std::size_t>(done), count);
    state.msrs.insert(state.msrs.end(), entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(read));
    msr_indices = msr_indices.subspan(read < count ? read + 1 : read);
  }
  return state;
}

Status Vcpu::restore(const VcpuState& state) {
  if (state.xsave.size() * sizeof(std::uint32_t) < kMinXsaveBytes) {
    return make_error(Errc::kCorrupt, "saved vCPU: the FPU state has %zu bytes", state.xsave.size() * 4);
  }
  MSB_TRY(set_cpuid(state.cpuid));
  kvm_mp_state mp_state = state.mp_state;
  MSB_TRY(call(KVM_SET_MP_STATE, &mp_state, "KVM_SET_MP_STATE"));
  MSB_TRY(set_regs(state.regs));
  MSB_TRY(set_sregs(state.sregs));
  // KVM_SET_XSAVE takes the larger layout too where KVM_CAP_XSAVE2 is there; it only reads.
  std::vector<std::uint32_t> xsave = state.xsave;
  MSB_TRY(call(kSetXsave, xsave.data(), "KVM_SET_XSAVE"));
  kvm_xcrs xcrs = state.xcrs;
  MSB_TRY(call(KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS"));
  kvm_debugregs debug = state.debug;
  MSB_TRY(call(KVM_SET_DEBUGREGS, &debug, "KVM_SET_DEBUGREGS"));
  kvm_lapic_state lapic = state.lapic;
  MSB_TRY(call(KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC"));
  MSB_TRY(set_msrs(state.msrs));
  kvm_vcpu_events events = state.events;
  return call(KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
}

}  // namespace msb::vmm::kvm
