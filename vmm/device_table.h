// SPDX-License-Identifier: Apache-2.0
// The devices of the machine: which, in which order, made from what. The order is the guest's: disk letters
// and register windows follow it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "devices/virtio/device.h"
#include "devices/virtio/vsock.h"
#include "vmm/guest_console.h"
#include "vmm/machine_spec.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/worker_loop.h"

namespace msb::vmm {

// What devices need of the world beyond their descriptors; implemented by the machine role.
class DeviceHost {
 public:
  virtual ~DeviceHost() = default;
  // A guest program connects to the host's vsock port `port`: call `done` once, on the loop, with a connected
  // stream socket or an Error to refuse.
  virtual void connect_host_port(std::uint32_t port, std::function<void(Result<UniqueFd>)> done) = 0;
};

struct DeviceContext {
  EventLoop& loop;
  GuestMemory& memory;
  GuestConsole& console;
  DeviceHost& host;
  std::function<Status()> prepare_disk_thread;  // runs first on each thread that does disk work
};

struct NamedDevice {
  std::string name;
  std::unique_ptr<devices::Device> device;
};

// Devices and what they borrow; destroyed back to front, after the loop they run on has stopped.
struct MachineDevices {
  std::unique_ptr<devices::HostConnector> connector;
  std::vector<NamedDevice> devices;
  std::vector<std::unique_ptr<WorkerLoop>> workers;
};

// Takes the descriptors out of `spec`.
[[nodiscard]] Result<MachineDevices> make_devices(MachineSpec& spec, const DeviceContext& context);

}  // namespace msb::vmm
