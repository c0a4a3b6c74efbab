// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine.h"

#include "base/check.h"
#include "base/log.h"
#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/arch/x86_64/registers.h"
#include "vmm/boot/cmdline.h"
#include "vmm/boot/cpio.h"
#include "vmm/boot/loader.h"
#include "vmm/memory_map.h"

namespace msb::vmm {

Machine::Machine(kvm::System system, MachineSpec spec, const Environment& environment)
    : env_(environment), spec_(std::move(spec)), system_(std::move(system)) {}

Machine::~Machine() {
  *alive_ = false;
  for (auto& vcpu : vcpus_) vcpu->end();
  pause();  // devices too, so that their loops hold nothing of the machine
  devices_.workers.clear();
  transports_.clear();
}

Result<std::unique_ptr<Machine>> Machine::prepare(kvm::System system, MachineSpec spec,
                                                  const Environment& environment) {
  std::unique_ptr<Machine> machine(new Machine(std::move(system), std::move(spec), environment));
  MSB_TRY(machine->create_vm());
  MSB_TRY(machine->create_vcpus());
  MSB_TRY(machine->create_devices());
  MSB_TRY(machine->load_guest());
  for (std::size_t i = 0; i < machine->vcpus_.size(); ++i) {
    MSB_TRY(machine->vcpus_[i]->start(static_cast<std::uint32_t>(i)));
  }
  return machine;
}

Status Machine::create_vm() {
  auto memory = GuestMemory::create(spec_.memory_bytes);
  if (!memory) return std::move(memory).error().with_context("guest memory");
  memory_ = std::move(memory).value();
  MSB_ASSIGN(kvm::Vm vm, system_.create_vm());
  vm_ = std::make_unique<kvm::Vm>(std::move(vm));
  std::uint32_t slot = 0;
  for (const RegionInfo& region : memory_->regions()) {
    const Status set =
        vm_->set_memory(slot++, to_u64(region.base), region.size, reinterpret_cast<void*>(region.host));
    if (!set) {
      return make_error(Errc::kLimit, "guest memory: this host's KVM does not take %llu MiB: %s",
                        static_cast<unsigned long long>(spec_.memory_bytes / kMiB), set.error().text.c_str());
    }
  }
  MSB_TRY(vm_->set_identity_map_address(kIdentityMapAddress));
  MSB_TRY(vm_->set_tss_address(kTssAddress));
  MSB_TRY(vm_->enable_split_irqchip(kMaxIoapicPins));
  vm_->enable_x2apic_api();
  vm_->disable_pmu();

  router_ = std::make_unique<IrqRouter>(*vm_);
  console_ = std::make_unique<GuestConsole>(
      std::move(spec_.console), spec_.console_limit,
      [this](proto::ExitReason reason, const std::string& line) { guest_ended(reason, line); });
  early_console_ = std::make_unique<EarlyConsole>(*console_);
  const auto reset = [this] { guest_ended(proto::ExitReason::kReboot, "the guest asked for a reset"); };
  keyboard_reset_ = std::make_unique<ResetPort>(ResetPort::Kind::kKeyboard, reset);
  control_reset_ = std::make_unique<ResetPort>(ResetPort::Kind::kControl, reset);
  MSB_TRY(ports_.add(EarlyConsole::kPort, EarlyConsole::kPorts, *early_console_));
  MSB_TRY(ports_.add(ResetPort::kKeyboardPort, 1, *keyboard_reset_));
  return ports_.add(ResetPort::kControlPort, 1, *control_reset_);
}

Status Machine::create_vcpus() {
  MSB_ASSIGN(const kvm::CpuidTable supported, system_.supported_cpuid());
  const bool tsc_deadline = system_.extension(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  const bool hide_xsave = host_loses_xcr0();
  const auto msrs = boot_msrs();
  for (std::uint32_t id = 0; id < spec_.cpus_max; ++id) {
    MSB_ASSIGN(kvm::Vcpu vcpu, vm_->create_vcpu(id));
    const auto cpuid = make_cpuid(supported, {.apic_id = id,
                                              .cpus = spec_.cpus_max,
                                              .cpu_template = spec_.cpu_template,
                                              .tsc_deadline = tsc_deadline,
                                              .hide_xsave = hide_xsave});
    MSB_TRY(vcpu.set_cpuid(cpuid));
    MSB_TRY(vcpu.set_msrs(msrs));
    vcpus_.push_back(std::make_unique<VcpuThread>(std::move(vcpu), VcpuBuses{ports_, mmio_},
                                                  static_cast<VcpuEvents&>(*this), env_.prepare_vcpu_thread));
  }
  return {};
}

Status Machine::create_devices() {
  MSB_ASSIGN(devices_, make_devices(spec_, {env_.loop, *memory_, *console_, env_.device_host,
                                            env_.prepare_disk_thread}));
  if (devices_.devices.size() > kMaxVirtioDevices) {
    return make_error(Errc::kLimit, "the machine has %zu devices; at most %u are possible",
                      devices_.devices.size(), kMaxVirtioDevices);
  }
  for (const NamedDevice& entry : devices_.devices) {
    const auto n = static_cast<std::uint32_t>(transports_.size());
    const std::uint64_t base = kVirtioMmioBase + n * kVirtioMmioStride;
    MSB_ASSIGN(devices::IrqLine* const line, router_->add_line(kFirstVirtioPin + n));
    auto made = devices::MmioTransport::create(*entry.device, *memory_, *line);
    if (!made) return std::move(made).error().with_context(entry.name);
    auto transport = std::move(made).value();
    MSB_TRY(mmio_.add(base, devices::kMmioWindowSize, *transport));
    for (std::uint16_t queue = 0; queue < transport->queue_count(); ++queue) {
      MSB_TRY(vm_->add_ioeventfd(transport->kick_fd(queue), base + devices::kMmioQueueNotify, 4, queue));
    }
    transports_.push_back(std::move(transport));
  }
  ioapic_ = std::make_unique<Ioapic>(*router_, ioapic_pins());
  return mmio_.add(kIoapicBase, kIoapicSize, *ioapic_);
}

std::uint32_t Machine::ioapic_pins() const {
  return kFirstVirtioPin + static_cast<std::uint32_t>(transports_.size());
}

Status Machine::load_guest() {
  auto kernel = load_kernel(spec_.kernel.get(), *memory_);
  if (!kernel) return std::move(kernel).error().with_context("load the kernel");
  CpioWriter config;
  config.add_directory("msb", 0700);
  config.add_file("msb/boot.json", 0600, as_bytes(spec_.guest_config));
  auto initrd = load_initrd(spec_.initrd.get(), std::move(config).finish(), kernel->end, *memory_);
  if (!initrd) return std::move(initrd).error().with_context("load the initial ramdisk");
  MSB_ASSIGN(const std::string cmdline,
             build_cmdline({.virtio_devices = static_cast<std::uint32_t>(transports_.size()),
                            .cpus_online = spec_.cpus_online,
                            .cpus_max = spec_.cpus_max,
                            .extra = spec_.cmdline_extra}));
  MSB_TRY(place_boot_data(*memory_, cmdline, *initrd, build_mp_table(spec_.cpus_max, ioapic_pins())));
  spec_.kernel.reset();
  spec_.initrd.reset();

  kvm::Vcpu& boot_cpu = vcpus_.front()->vcpu();
  MSB_ASSIGN(kvm_sregs sregs, boot_cpu.sregs());
  set_pvh_segments(sregs);
  MSB_TRY(boot_cpu.set_sregs(sregs));
  return boot_cpu.set_regs(pvh_registers(kernel->entry));
}

void Machine::run() {
  if (!paused_ || ended_seen_) return;
  paused_ = false;
  if (devices_paused_) {
    for (auto& transport : transports_) transport->resume();
    devices_paused_ = false;
  }
  for (auto& vcpu : vcpus_) vcpu->resume();
}

void Machine::pause() {
  if (paused_) return;
  paused_ = true;
  for (auto& vcpu : vcpus_) vcpu->pause();
  for (auto& vcpu : vcpus_) vcpu->vcpu().note_paused();
  for (auto& transport : transports_) transport->pause();
  devices_paused_ = true;
}

Result<MachineState> Machine::save() {
  MSB_CHECK(paused_);
  MachineState state;
  MSB_ASSIGN(const auto msrs, system_.state_msrs());
  const auto xsave_size = static_cast<std::size_t>(system_.extension(KVM_CAP_XSAVE2));
  for (auto& vcpu : vcpus_) {
    MSB_ASSIGN(kvm::VcpuState saved, vcpu->vcpu().save(msrs, xsave_size));
    state.vcpus.push_back(std::move(saved));
  }
  state.ioapic = ioapic_->save();
  MSB_ASSIGN(state.clock, vm_->clock());
  for (const auto& transport : transports_) state.devices.push_back(transport->save());
  return state;
}

Status Machine::restore(const MachineState& state) {
  MSB_CHECK(paused_);
  if (state.vcpus.size() != vcpus_.size() || state.devices.size() != transports_.size()) {
    return make_error(Errc::kInvalid, "saved machine: it has other CPUs or devices than this one");
  }
  MSB_TRY(vm_->set_clock(state.clock));
  ioapic_->restore(state.ioapic);
  for (std::size_t i = 0; i < vcpus_.size(); ++i) MSB_TRY(vcpus_[i]->vcpu().restore(state.vcpus[i]));
  for (std::size_t i = 0; i < transports_.size(); ++i) MSB_TRY(transports_[i]->restore(state.devices[i]));
  return {};
}

void Machine::guest_ended(proto::ExitReason reason, std::string detail) {
  if (ended_.exchange(true)) return;  // the first reason counts
  env_.loop.post([this, alive = alive_, reason, detail = std::move(detail)] {
    if (*alive) ended_on_loop(reason, detail);
  });
}

void Machine::ended_on_loop(proto::ExitReason reason, const std::string& detail) {
  ended_seen_ = true;
  pause();
  env_.events.machine_ended(reason, detail);
}

}  // namespace msb::vmm
