// SPDX-License-Identifier: Apache-2.0
#include "vmm/helpers.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/confine/confine.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/socket.h"

namespace msb::vmm {
namespace {

constexpr int kLinkFd = 3;
constexpr int kNetConfigFd = 3;
constexpr int kNetFrameFd = 4;
constexpr int kNetControlFd = 5;
constexpr int kNetAuditFd = 6;
constexpr int kNetPcapFd = 7;
constexpr int kNetSecretsFd = 8;
constexpr std::array<std::uint8_t, 6> kGuestMac{0x02, 0x6d, 0x73, 0x62, 0x00, 0x02};
constexpr std::uint16_t kDefaultMtu = 65520;

// What the device must agree on with msb-net.
Status read_net_config(const std::string& config, NetDeviceSpec& device) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(config, {.max_bytes = std::size_t{16} << 20}));
  const JsonView root = document.root();
  device.mac = kGuestMac;
  device.mtu = kDefaultMtu;
  MSB_ASSIGN(device.vnet_hdr, root.get_bool_or("vnet_hdr", false));
  if (const auto guest = root.find("guest")) {
    MSB_ASSIGN(const std::uint64_t mtu, guest->get_uint_or("mtu", kDefaultMtu, kDefaultMtu));
    device.mtu = static_cast<std::uint16_t>(mtu);
  }
  return {};
}

Result<UniqueFd> memory_file(const std::string& text) {
  UniqueFd fd(::memfd_create("config", MFD_CLOEXEC));
  if (!fd) return sys_error("memfd_create");
  MSB_TRY(write_all(fd.get(), text));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return sys_error("lseek");
  return fd;
}

Result<std::pair<UniqueFd, UniqueFd>> audit_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return sys_error("pipe");
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

}  // namespace

Result<MachineChild> start_machine() {
  MSB_ASSIGN(auto pair, socket_pair(SOCK_SEQPACKET));
  SpawnOptions options;
  MSB_ASSIGN(options.path, executable_path());
  options.argv = {"msb-vmm", "--machine", std::to_string(kLinkFd)};
  options.fds = {{pair.second.get(), kLinkFd}, {STDERR_FILENO, STDERR_FILENO}};
  options.die_with_parent = true;
  MSB_ASSIGN(Child child, spawn(options));
  return MachineChild{std::move(child), std::move(pair.first)};
}

Result<NetChild> start_net(const proto::VmSpec& spec, int logs_fd) {
  NetChild net;
  MSB_TRY(read_net_config(spec.net.config, net.device));
  MSB_ASSIGN(auto frames, socket_pair(SOCK_STREAM));
  MSB_ASSIGN(auto control, socket_pair(SOCK_STREAM));
  // Non-blocking: a supervisor that is slow to read must cost audit lines, not traffic.
  MSB_ASSIGN(auto audit, audit_pipe());
  MSB_ASSIGN(const UniqueFd config, memory_file(spec.net.config));
  MSB_ASSIGN(const UniqueFd log, open_at(logs_fd, "net.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW));
  SpawnOptions options;
  MSB_ASSIGN(const std::string self, executable_path());
  options.path = parent_path(self) + "/msb-net";
  options.argv = {"msb-net",
                  "--config-fd",
                  std::to_string(kNetConfigFd),
                  "--frame-fd",
                  std::to_string(kNetFrameFd),
                  "--control-fd",
                  std::to_string(kNetControlFd),
                  "--audit-fd",
                  std::to_string(kNetAuditFd)};
  options.fds = {{config.get(), kNetConfigFd},
                 {frames.second.get(), kNetFrameFd},
                 {control.second.get(), kNetControlFd},
                 {audit.second.get(), kNetAuditFd},
                 {log.get(), STDERR_FILENO}};
  if (spec.confinement == proto::VmSpec::Confinement::kRequire)
    options.argv.insert(options.argv.end(), {"--confinement", "require"});
  UniqueFd pcap;
  if (!spec.net.pcap.empty()) {
    MSB_ASSIGN(pcap, open_file(spec.net.pcap, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
    options.fds.push_back({pcap.get(), kNetPcapFd});
    options.argv.insert(options.argv.end(), {"--pcap-fd", std::to_string(kNetPcapFd)});
  }
  if (spec.net.secrets_fd) {
    options.fds.push_back({*spec.net.secrets_fd, kNetSecretsFd});
    options.argv.insert(options.argv.end(), {"--secrets-fd", std::to_string(kNetSecretsFd)});
  }
  options.die_with_parent = true;
  MSB_ASSIGN(net.child, spawn(options));
  if (spec.net.secrets_fd) ::close(*spec.net.secrets_fd);
  net.device.frames = std::move(frames.first);
  net.control = std::move(control.first);
  net.audit = std::move(audit.first);
  return net;
}

Status confine_supervisor(bool required) {
  confine::Report report;
  confine::set_no_new_privileges(report);
  confine::drop_capabilities(report);
  confine::forbid_dumps(report);
  if (report.complete()) return {};
  if (required)
    return make_error(Errc::kUnavailable, "this host lacks: %s (supervisor role)",
                      report.missing_text().c_str());
  MSB_WARN("supervisor role: not confined by %s", report.missing_text().c_str());
  return {};
}

Errc errc_from_name(std::string_view name) {
  for (int value = 0; value <= static_cast<int>(Errc::kInternal); ++value) {
    if (errc_name(static_cast<Errc>(value)) == name) return static_cast<Errc>(value);
  }
  return Errc::kInternal;
}

}  // namespace msb::vmm
