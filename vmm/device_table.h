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
#include "vmm/guest_console.h"
#include "vmm/machine_spec.h"
#include "vmm/memory/guest_memory.h"

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
};

struct NamedDevice {
  const char* name;
  std::unique_ptr<devices::Device> device;
};

// Takes the descriptors out of `spec`.
[[nodiscard]] Result<std::vector<NamedDevice>> make_devices(MachineSpec& spec, const DeviceContext& context);

}  // namespace msb::vmm
