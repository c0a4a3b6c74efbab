// SPDX-License-Identifier: Apache-2.0
#include "vmm/device_table.h"

namespace msb::vmm {

Result<std::vector<NamedDevice>> make_devices(MachineSpec&, const DeviceContext&) {
  std::vector<NamedDevice> devices;
  return devices;
}

}  // namespace msb::vmm
