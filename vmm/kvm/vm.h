// SPDX-License-Identifier: Apache-2.0
// kvm::Vm: one virtual machine's descriptor. Thin typed ioctls, no policy; the order that makes set-up fast
// (memory before the interrupt chip, docs/decisions/0010-irqchip.md) is the machine's business.
// Facts: Linux Documentation/virt/kvm/api.rst, "VM ioctls".
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/kvm/vcpu.h"

namespace msb::vmm::kvm {

// A message-signalled interrupt as the local APICs take it (Intel SDM vol. 3, 11.11).
struct Msi {
  std::uint32_t address = 0;
  std::uint32_t data = 0;
  friend bool operator==(const Msi&, const Msi&) = default;
};
struct GsiRoute {
  std::uint32_t gsi = 0;
  Msi msi;
};

class Vm {
 public:
  Vm(UniqueFd fd, std::size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}

  // Makes `size` bytes at host address `host` the guest's memory at `guest_address`. The mapping must outlive
  // the Vm. Sizes and addresses are multiples of 4 KiB.
  [[nodiscard]] Status set_memory(std::uint32_t slot, std::uint64_t guest_address, std::size_t size,
                                  void* host);
  // Local APICs in the kernel, the I/O APIC with `pins` pins in user space. Before the first vCPU.
  [[nodiscard]] Status enable_split_irqchip(std::uint32_t pins);
  // Lets MSIs carry destinations beyond 255 and stops broadcast quirks of x2APIC ids; ignored where unknown.
  void enable_x2apic_api();
  // Hides the performance counters; ignored where the host's KVM cannot.
  void disable_pmu();
  // Where Intel's KVM keeps the three pages it needs for real mode, and the identity page table. No-ops on
  // AMD.
  [[nodiscard]] Status set_tss_address(std::uint32_t address);
  [[nodiscard]] Status set_identity_map_address(std::uint64_t address);
  [[nodiscard]] Result<Vcpu> create_vcpu(std::uint32_t id) const;

  // Signals on `event_fd` raise `gsi`. The descriptor stays the caller's.
  [[nodiscard]] Status add_irqfd(int event_fd, std::uint32_t gsi);
  // Replaces the whole routing table.
  [[nodiscard]] Status set_gsi_routes(std::span<const GsiRoute> routes);
  // Guest writes of `length` bytes (1, 2, 4, 8) at `address` that match `datamatch` signal `event_fd` instead
  // of leaving the guest. The descriptor stays the caller's.
  [[nodiscard]] Status add_ioeventfd(int event_fd, std::uint64_t address, std::uint32_t length,
                                     std::uint64_t datamatch);

  [[nodiscard]] Result<kvm_clock_data> clock() const;
  [[nodiscard]] Status set_clock(const kvm_clock_data& clock);
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  std::size_t run_size_;
};

}  // namespace msb::vmm::kvm
