// SPDX-License-Identifier: Apache-2.0
// Machine: owns everything that makes one VM: guest RAM, KVM, buses, interrupt routing, devices, vCPU
// threads.
//
// Theory of operation. Set-up has one order, and the order is what makes it fast and right: guest RAM and its
// memory slots, then the interrupt chip, then vCPUs (KVM asks for that), then devices with their irqfds and
// ioeventfds, then the guest's bytes. prepare() builds all of it and starts the vCPU threads, paused; run()
// lets them go. Between the two the process takes its last rights away. When the guest ends, whichever thread
// sees it posts to the loop, and MachineEvents hears of the first reason.
//
// Tear-down is the reverse: vCPU threads first, then devices, then KVM, then RAM; members are declared so.
//
// Threads: one loop owns the machine; only guest_ended() is called from vCPU threads.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "devices/bus.h"
#include "devices/virtio/mmio.h"
#include "proto/exit_reason.h"
#include "vmm/arch/x86_64/ioapic.h"
#include "vmm/device_table.h"
#include "vmm/guest_console.h"
#include "vmm/irq_router.h"
#include "vmm/kvm/system.h"
#include "vmm/machine_spec.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/ports.h"
#include "vmm/vcpu_thread.h"

namespace msb::vmm {

// On the machine's loop.
class MachineEvents {
 public:
  virtual ~MachineEvents() = default;
  // Once: the guest ended by itself. The machine is paused.
  virtual void machine_ended(proto::ExitReason reason, const std::string& detail) = 0;
};

// All that a paused machine is, except guest RAM and what disks hold.
struct MachineState {
  std::vector<kvm::VcpuState> vcpus;
  IoapicState ioapic;
  kvm_clock_data clock{};
  std::vector<devices::MmioState> devices;
};

class Machine final : private VcpuEvents {
 public:
  // Everything borrowed outlives the machine. The functions run first on each thread of
  // their kind.
  struct Environment {
    EventLoop& loop;
    MachineEvents& events;
    DeviceHost& device_host;
    std::function<Status()> prepare_vcpu_thread;
    std::function<Status()> prepare_disk_thread;
  };
  // Takes the descriptors of `spec`. Errors name what failed; codes: kNotFound/kPermission/kUnsupported for
  // KVM, kInvalid for files that are not what they must be, kLimit for too little memory.
  [[nodiscard]] static Result<std::unique_ptr<Machine>> prepare(kvm::System system, MachineSpec spec,
                                                                const Environment& environment);
  ~Machine() override;

  // Lets the vCPUs run; after prepare() or pause().
  void run();
  // Stops vCPUs, then devices; returns when nothing touches guest memory any more. No-op when paused.
  void pause();
  [[nodiscard]] bool paused() const { return paused_; }
  // Only while paused.
  [[nodiscard]] Result<MachineState> save();
  // Only on a machine fresh from prepare() with an equal spec; run() continues where the saved one stood.
  [[nodiscard]] Status restore(const MachineState& state);

  [[nodiscard]] GuestMemory& memory() { return *memory_; }

 private:
  Machine(kvm::System system, MachineSpec spec, const Environment& environment);
  [[nodiscard]] Status create_vm();
  [[nodiscard]] Status create_vcpus();
  [[nodiscard]] Status create_devices();
  [[nodiscard]] std::uint32_t ioapic_pins() const;  // once the devices are made
  [[nodiscard]] Status load_guest();
  void guest_ended(proto::ExitReason reason, std::string detail) override;
  void ended_on_loop(proto::ExitReason reason, const std::string& detail);

  Environment env_;
  MachineSpec spec_;
  std::unique_ptr<GuestMemory> memory_;
  kvm::System system_;
  std::unique_ptr<kvm::Vm> vm_;
  std::unique_ptr<IrqRouter> router_;
  std::unique_ptr<Ioapic> ioapic_;
  std::unique_ptr<GuestConsole> console_;
  std::unique_ptr<EarlyConsole> early_console_;
  std::unique_ptr<ResetPort> keyboard_reset_;
  std::unique_ptr<ResetPort> control_reset_;
  devices::Bus ports_;
  devices::Bus mmio_;
  MachineDevices devices_;
  std::vector<std::unique_ptr<devices::MmioTransport>> transports_;  // in the devices' order
  bool paused_ = true;
  bool devices_paused_ = false;  // they start running, with nothing to do
  std::atomic<bool> ended_{false};
  bool ended_seen_ = false;  // on the loop
  // Shared with tasks posted to the loop, which may outlive the machine: false once it is gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::vector<std::unique_ptr<VcpuThread>> vcpus_;  // last: threads end before what they use goes
};

}  // namespace msb::vmm
