// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm.h"

#include "vmm/kvm/ioctl.h"
#include "vmm/kvm/lists.h"

namespace msb::vmm::kvm {

Status Vm::set_memory(std::uint32_t slot, std::uint64_t guest_address, std::size_t size, void* host) {
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.guest_phys_addr = guest_address;
  region.memory_size = size;
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(host);
  if (retry_ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0) {
    return sys_error("KVM_SET_USER_MEMORY_REGION");
  }
  return {};
}

Status Vm::enable_split_irqchip(std::uint32_t pins) {
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_SPLIT_IRQCHIP;
  cap.args[0] = pins;
  if (retry_ioctl(fd_.get(), KVM_ENABLE_CAP, &cap) < 0) return sys_error("KVM_CAP_SPLIT_IRQCHIP");
  return {};
}

void Vm::enable_x2apic_api() {
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_X2APIC_API;
  cap.args[0] = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
  static_cast<void>(retry_ioctl(fd_.get(), KVM_ENABLE_CAP, &cap));
}

void Vm::disable_pmu() {
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_PMU_CAPABILITY;
  cap.args[0] = KVM_PMU_CAP_DISABLE;
  static_cast<void>(retry_ioctl(fd_.get(), KVM_ENABLE_CAP, &cap));
}

Status Vm::set_tss_address(std::uint32_t address) {
  if (retry_ioctl(fd_.get(), KVM_SET_TSS_ADDR, static_cast<unsigned long>(address)) < 0) {
    return sys_error("KVM_SET_TSS_ADDR");
  }
  return {};
}

Status Vm::set_identity_map_address(std::uint64_t address) {
  if (retry_ioctl(fd_.get(), KVM_SET_IDENTITY_MAP_ADDR, &address) < 0)
    return sys_error("KVM_SET_IDENTITY_MAP_ADDR");
  return {};
}

Result<Vcpu> Vm::create_vcpu(std::uint32_t id) const {
  UniqueFd vcpu(retry_ioctl(fd_.get(), KVM_CREATE_VCPU, static_cast<unsigned long>(id)));
  if (!vcpu) return sys_error("KVM_CREATE_VCPU");
  return Vcpu::create(std::move(vcpu), run_size_);
}

Status Vm::add_irqfd(int event_fd, std::uint32_t gsi) {
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<std::uint32_t>(event_fd);
  irqfd.gsi = gsi;
  if (retry_ioctl(fd_.get(), KVM_IRQFD, &irqfd) < 0) return sys_error("KVM_IRQFD");
  return {};
}

Status Vm::set_gsi_routes(std::span<const GsiRoute> routes) {
  CountedList<kvm_irq_routing_entry> table(routes.size());
  const auto entries = table.entries();
  for (std::size_t i = 0; i < routes.size(); ++i) {
    entries[i].gsi = routes[i].gsi;
    entries[i].type = KVM_IRQ_ROUTING_MSI;
    entries[i].u.msi.address_lo = routes[i].msi.address;
    entries[i].u.msi.data = routes[i].msi.data;
  }
  if (retry_ioctl(fd_.get(), kSetGsiRouting, table.get()) < 0) return sys_error("KVM_SET_GSI_ROUTING");
  return {};
}

Status Vm::add_ioeventfd(int event_fd, std::uint64_t address, std::uint32_t length, std::uint64_t datamatch) {
  kvm_ioeventfd request{};
  request.fd = event_fd;
  request.addr = address;
  request.len = length;
  request.datamatch = datamatch;
  request.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
  if (retry_ioctl(fd_.get(), KVM_IOEVENTFD, &request) < 0) return sys_error("KVM_IOEVENTFD");
  return {};
}

Result<kvm_clock_data> Vm::clock() const {
  kvm_clock_data data{};
  if (retry_ioctl(fd_.get(), KVM_GET_CLOCK, &data) < 0) return sys_error("KVM_GET_CLOCK");
  return data;
}

Status Vm::set_clock(const kvm_clock_data& clock) {
  kvm_clock_data data = clock;
  data.flags &= KVM_CLOCK_REALTIME;  // the other flags are only ever reported
  if (retry_ioctl(fd_.get(), KVM_SET_CLOCK, &data) < 0) return sys_error("KVM_SET_CLOCK");
  return {};
}

}  // namespace msb::vmm::kvm
