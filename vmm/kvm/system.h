// SPDX-License-Identifier: Apache-2.0
// kvm::System: the /dev/kvm descriptor and what it tells about the host. Thin typed ioctls, no policy.
// Facts: Linux Documentation/virt/kvm/api.rst, "System ioctls".
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/kvm/vm.h"

namespace msb::vmm::kvm {

using CpuidTable = std::vector<kvm_cpuid_entry2>;

class System {
 public:
  // Opens /dev/kvm. kNotFound: the host has none; kPermission: it may not be opened; kUnsupported: another
  // API version than 12, the only stable one. The text names the fix.
  [[nodiscard]] static Result<System> open(const char* path = "/dev/kvm");

  // KVM_CHECK_EXTENSION; 0 when the host's KVM does not know `capability`.
  [[nodiscard]] int extension(unsigned capability) const;
  // What the host's CPU and KVM can offer a guest (KVM_GET_SUPPORTED_CPUID).
  [[nodiscard]] Result<CpuidTable> supported_cpuid() const;
  // MSRs that make up a vCPU's state on this host (KVM_GET_MSR_INDEX_LIST).
  [[nodiscard]] Result<std::vector<std::uint32_t>> state_msrs() const;
  [[nodiscard]] Result<Vm> create_vm() const;
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  System(UniqueFd fd, std::size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}
  UniqueFd fd_;
  std::size_t run_size_;
};

}  // namespace msb::vmm::kvm
