// SPDX-License-Identifier: Apache-2.0
#include "vmm/device_table.h"

#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"

namespace msb::vmm {
namespace {

// Hands the guest's connections to whoever runs the machine.
class ConnectorToHost final : public devices::HostConnector {
 public:
  explicit ConnectorToHost(DeviceHost& host) : host_(host) {}
  void connect(std::uint32_t port, Done done) override { host_.connect_host_port(port, std::move(done)); }

 private:
  DeviceHost& host_;
};

Result<std::unique_ptr<devices::BlockBackend>> make_backend(DiskSpec& disk) {
  if (!disk.read_only) {
    if (disk.extents.size() != 1) return make_error(Errc::kInvalid, "a writable disk is one whole file");
    return devices::make_raw_backend(std::move(disk.extents.front().file), devices::DiskAccess::kReadWrite);
  }
  std::vector<devices::FileExtent> extents;
  for (DiskExtent& extent : disk.extents) {
    extents.push_back({std::make_shared<UniqueFd>(std::move(extent.file)), extent.offset, extent.length});
  }
  return devices::make_extent_backend(std::move(extents));
}

}  // namespace

Result<MachineDevices> make_devices(MachineSpec& spec, const DeviceContext& context) {
  MachineDevices made;
  for (std::size_t i = 0; i < spec.disks.size(); ++i) {
    DiskSpec& disk = spec.disks[i];
    const std::string name = "vd" + std::string(1, static_cast<char>('a' + i));
    auto backend = make_backend(disk);
    if (!backend) return std::move(backend).error().with_context("disk " + name);
    MSB_ASSIGN(auto worker, WorkerLoop::start(name, context.prepare_disk_thread));
    devices::Blk::Options options;
    options.id = disk.id;
    made.devices.push_back(
        {name, std::make_unique<devices::Blk>(context.loop, std::vector{&worker->loop()},
                                              std::move(backend).value(), std::move(options))});
    made.workers.push_back(std::move(worker));
  }
  if (spec.vsock_listener) {
    auto connector = std::make_unique<ConnectorToHost>(context.host);
    made.devices.push_back(
        {"vsock", std::make_unique<devices::Vsock>(context.loop, std::move(spec.vsock_listener),
                                                   connector.get(), devices::Vsock::Options{})});
    made.connector = std::move(connector);
  }
  if (spec.net) {
    devices::Net::Options options;
    options.mac = spec.net->mac;
    options.mtu = spec.net->mtu;
    options.framing =
        spec.net->vnet_hdr ? devices::Net::Framing::kVirtioHeader : devices::Net::Framing::kPlain;
    made.devices.push_back(
        {"net", std::make_unique<devices::Net>(context.loop, std::move(spec.net->frames), options)});
  }
  made.devices.push_back(
      {"rng", std::make_unique<devices::Rng>(context.loop, devices::Rng::system_source())});
  made.devices.push_back({"balloon", std::make_unique<devices::Balloon>(context.loop)});
  made.devices.push_back({"console", std::make_unique<devices::Console>(context.loop, context.console)});
  return made;
}

}  // namespace msb::vmm
