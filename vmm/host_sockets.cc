// SPDX-License-Identifier: Apache-2.0
#include "vmm/host_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "base/socket.h"

namespace msb::vmm {
namespace {

Result<UniqueFd> connect_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  MSB_ASSIGN(const UniqueFd directory, open_file(path.substr(0, slash + 1), O_PATH | O_DIRECTORY));
  return connect_unix(directory.get(), path.substr(slash + 1), SOCK_NONBLOCK);
}

}  // namespace

HostSockets::HostSockets(std::vector<proto::VmSpec::HostSocket> sockets) {
  for (proto::VmSpec::HostSocket& socket : sockets) entries_.push_back({std::move(socket)});
}

Result<UniqueFd> HostSockets::connect(std::uint32_t port) {
  for (Entry& entry : entries_) {
    if (entry.socket.port != port) continue;
    auto socket = connect_path(entry.socket.path);
    bool& told = socket ? entry.told_success : entry.told_failure;
    if (!std::exchange(told, true)) {
      MSB_INFO("the guest's first %s of vsock port %u (%s)%s%s", socket ? "use" : "failed use", port,
               entry.socket.path.c_str(), socket ? "" : ": ", socket ? "" : socket.error().text.c_str());
    }
    return socket;
  }
  return make_error(Errc::kNotFound, "vsock port %u is not exposed", port);
}

}  // namespace msb::vmm
