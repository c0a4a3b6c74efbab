// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/system.h"

#include <fcntl.h>

#include <algorithm>

#include "vmm/kvm/ioctl.h"
#include "vmm/kvm/lists.h"

namespace msb::vmm::kvm {
namespace {

// KVM's own bound is 256 (KVM_MAX_CPUID_ENTRIES).
constexpr std::uint32_t kMaxCpuidEntries = 256;
constexpr std::uint32_t kMaxMsrs = 4096;

Error open_error(const char* path, int err) {
  if (err == ENOENT || err == ENODEV || err == ENXIO) {
    return make_error(Errc::kNotFound,
                      "open %s: this host offers no KVM; load the kvm_intel or kvm_amd module, enable "
                      "virtualisation in the firmware, or allow nested virtualisation",
                      path);
  }
  if (err == EACCES || err == EPERM) {
    return make_error(
        Errc::kPermission,
        "open %s: permission denied; add this user to the group that owns it (usually kvm) and log in "
        "again",
        path);
  }
  return sys_error(std::string("open ") + path, err);
}

}  // namespace

Result<System> System::open(const char* path) {
  UniqueFd fd(::open(path, O_RDWR | O_CLOEXEC));
  if (!fd) return open_error(path, errno);
  const int version = retry_ioctl(fd.get(), KVM_GET_API_VERSION, 0UL);
  if (version != KVM_API_VERSION) {
    return make_error(Errc::kUnsupported, "%s speaks KVM API version %d, not %d", path, version,
                      KVM_API_VERSION);
  }
  const int run_size = retry_ioctl(fd.get(), KVM_GET_VCPU_MMAP_SIZE, 0UL);
  if (run_size < static_cast<int>(sizeof(kvm_run))) return sys_error("KVM_GET_VCPU_MMAP_SIZE");
  return System(std::move(fd), static_cast<std::size_t>(run_size));
}

int System::extension(unsigned capability) const {
  return std::max(0, retry_ioctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability)));
}

Result<CpuidTable> System::supported_cpuid() const {
  CountedList<kvm_cpuid_entry2> list(kMaxCpuidEntries);
  if (retry_ioctl(fd_.get(), kGetSupportedCpuid, list.get()) < 0) return sys_error("KVM_GET_SUPPORTED_CPUID");
  const auto entries = list.entries();
  return CpuidTable(entries.begin(), entries.end());
}

Result<std::vector<std::uint32_t>> System::state_msrs() const {
  CountedList<std::uint32_t, 4> list(kMaxMsrs);
  if (retry_ioctl(fd_.get(), kGetMsrIndexList, list.get()) < 0) return sys_error("KVM_GET_MSR_INDEX_LIST");
  const auto entries = list.entries();
  return std::vector<std::uint32_t>(entries.begin(), entries.end());
}

Result<Vm> System::create_vm() const {
  UniqueFd vm(retry_ioctl(fd_.get(), KVM_CREATE_VM, 0UL));
  if (!vm) return sys_error("KVM_CREATE_VM");
  return Vm(std::move(vm), run_size_);
}

}  // namespace msb::vmm::kvm
