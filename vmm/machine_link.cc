// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine_link.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"

namespace msb::vmm {
namespace {

constexpr std::size_t kMaxStartDocument = std::size_t{64} << 20;
constexpr std::size_t kMaxStartFds = 4200;
constexpr std::size_t kFdsPerPacket = 60;
constexpr std::uint8_t kPacketMore = 'F';
constexpr std::uint8_t kPacketLast = 'S';
constexpr JsonLimits kStartLimits{.max_bytes = kMaxStartDocument, .max_depth = 8, .max_values = 500'000};
constexpr std::size_t kMaxText = 1024;

// Collects descriptors and gives out their positions.
class FdList {
 public:
  std::int64_t add(const UniqueFd& fd) {
    if (!fd) return -1;
    fds_.push_back(fd.get());
    return static_cast<std::int64_t>(fds_.size() - 1);
  }
  [[nodiscard]] const std::vector<int>& fds() const { return fds_; }

 private:
  std::vector<int> fds_;
};

// Hands out received descriptors by position, each once.
class FdTable {
 public:
  explicit FdTable(std::vector<UniqueFd> fds) : fds_(std::move(fds)) {}
  [[nodiscard]] Result<UniqueFd> take(const JsonView& object, std::string_view key) {
    MSB_ASSIGN(const std::int64_t index, object.get_int_or(key, -1));
    if (index == -1) return UniqueFd();
    if (index < 0 || static_cast<std::size_t>(index) >= fds_.size()) {
      return make_error(Errc::kProtocol, "start message: no descriptor %lld", static_cast<long long>(index));
    }
    return std::move(fds_[static_cast<std::size_t>(index)]);
  }

 private:
  std::vector<UniqueFd> fds_;
};

void write_disks(JsonWriter& out, const MachineSpec& spec, FdList& fds) {
  out.key("disks").begin_array();
  for (const DiskSpec& disk : spec.disks) {
    out.begin_object().field("id", disk.id).field("read_only", disk.read_only).key("extents").begin_array();
    for (const DiskExtent& extent : disk.extents) {
      out.begin_object().field("file", fds.add(extent.file)).field("offset", extent.offset);
      out.field("length", extent.length).end_object();
    }
    out.end_array().end_object();
  }
  out.end_array();
}

Status read_disks(const JsonView& root, MachineSpec& spec, FdTable& fds) {
  MSB_ASSIGN(const JsonView list, root.at("disks"));
  MSB_ASSIGN(const auto disks, list.elements());
  for (const JsonView& value : disks) {
    DiskSpec disk;
    MSB_ASSIGN(disk.id, value.get_string("id"));
    MSB_ASSIGN(disk.read_only, value.get_bool_or("read_only", true));
    MSB_ASSIGN(const JsonView extents, value.at("extents"));
    MSB_ASSIGN(const auto pieces, extents.elements());
    for (const JsonView& piece : pieces) {
      DiskExtent extent;
      MSB_ASSIGN(extent.file, fds.take(piece, "file"));
      MSB_ASSIGN(extent.offset, piece.get_uint("offset"));
      MSB_ASSIGN(extent.length, piece.get_uint("length"));
      disk.extents.push_back(std::move(extent));
    }
    spec.disks.push_back(std::move(disk));
  }
  return {};
}

Result<StartMessage> parse_start(std::string_view text, std::vector<UniqueFd> received) {
  FdTable fds(std::move(received));
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(text, kStartLimits));
  const JsonView root = document.root();
  StartMessage start;
  MachineSpec& spec = start.spec;
  MSB_ASSIGN(start.require_confinement, root.get_bool_or("require_confinement", false));
  MSB_ASSIGN(const std::uint64_t online, root.get_uint("cpus_online", 64));
  MSB_ASSIGN(const std::uint64_t max, root.get_uint("cpus_max", 64));
  spec.cpus_online = static_cast<std::uint32_t>(online);
  spec.cpus_max = static_cast<std::uint32_t>(max);
  MSB_ASSIGN(const std::string cpu_template, root.get_string("cpu_template"));
  spec.cpu_template = cpu_template_from_name(cpu_template).value_or(CpuTemplate::kHost);
  MSB_ASSIGN(spec.memory_bytes, root.get_uint("memory_bytes"));
  MSB_ASSIGN(spec.cmdline_extra, root.get_string("cmdline_extra"));
  MSB_ASSIGN(spec.guest_config, root.get_string("guest_config"));
  MSB_ASSIGN(spec.console_limit, root.get_uint("console_limit"));
  MSB_ASSIGN(spec.kernel, fds.take(root, "kernel"));
  MSB_ASSIGN(spec.initrd, fds.take(root, "initrd"));
  MSB_ASSIGN(spec.console, fds.take(root, "console"));
  MSB_ASSIGN(spec.vsock_listener, fds.take(root, "vsock"));
  MSB_TRY(read_disks(root, spec, fds));
  if (const auto net = root.find("net")) {
    NetDeviceSpec device;
    MSB_ASSIGN(device.frames, fds.take(*net, "frames"));
    MSB_ASSIGN(const std::uint64_t mac, net->get_uint("mac"));
    for (std::size_t i = 0; i < device.mac.size(); ++i) {
      device.mac[i] = static_cast<std::uint8_t>(mac >> (8 * (device.mac.size() - 1 - i)));
    }
    MSB_ASSIGN(const std::uint64_t mtu, net->get_uint("mtu", 65535));
    device.mtu = static_cast<std::uint16_t>(mtu);
    MSB_ASSIGN(device.vnet_hdr, net->get_bool_or("vnet_hdr", false));
    spec.net = std::move(device);
  }
  return start;
}

Status send_json(int link, JsonWriter&& out, int fd = -1) {
  const std::string text = std::move(out).take();
  return send_with_fds(link, as_bytes(text), fd >= 0 ? std::span<const int>(&fd, 1) : std::span<const int>());
}

struct Packet {
  JsonDocument document;
  std::string op;
  std::vector<UniqueFd> fds;
};

Result<Packet> receive_packet(int link) {
  MSB_ASSIGN(ReceivedMessage message, receive_with_fds(link, kMaxLinkMessage));
  if (message.data.empty()) return make_error(Errc::kUnavailable, "the other role is gone");
  MSB_ASSIGN(JsonDocument document, JsonDocument::parse(as_text(message.data)));
  MSB_ASSIGN(std::string op, document.root().get_string("op"));
  return Packet{std::move(document), std::move(op), std::move(message.fds)};
}

JsonWriter begin(const char* op) {
  JsonWriter out;
  out.begin_object().field("op", op);
  return out;
}

std::string cut(const std::string& text) { return text.substr(0, kMaxText); }

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

Status send_start(int link, const MachineSpec& spec, bool require_confinement) {
  FdList fds;
  const UniqueFd document(::memfd_create("machine-spec", MFD_CLOEXEC));
  if (!document) return sys_error("memfd_create");
  static_cast<void>(fds.add(document));  // position 0 is the document itself
  JsonWriter out;
  out.begin_object().field("require_confinement", require_confinement);
  out.field("cpus_online", spec.cpus_online).field("cpus_max", spec.cpus_max);
  out.field("cpu_template", spec.cpu_template == CpuTemplate::kHost ? "host" : "conservative");
  out.field("memory_bytes", spec.memory_bytes).field("cmdline_extra", spec.cmdline_extra);
  out.field("guest_config", spec.guest_config).field("console_limit", spec.console_limit);
  out.field("kernel", fds.add(spec.kernel)).field("initrd", fds.add(spec.initrd));
  out.field("console", fds.add(spec.console)).field("vsock", fds.add(spec.vsock_listener));
  write_disks(out, spec, fds);
  if (spec.net) {
    std::uint64_t mac = 0;
    for (const std::uint8_t byte : spec.net->mac) mac = mac << 8 | byte;
    out.key("net").begin_object().field("frames", fds.add(spec.net->frames)).field("mac", mac);
    out.field("mtu", spec.net->mtu).field("vnet_hdr", spec.net->vnet_hdr).end_object();
  }
  out.end_object();
  MSB_TRY(write_all(document.get(), std::move(out).take()));
  std::span<const int> rest = fds.fds();
  while (!rest.empty()) {
    const std::size_t count = std::min(rest.size(), kFdsPerPacket);
    const std::uint8_t kind = count == rest.size() ? kPacketLast : kPacketMore;
    MSB_TRY(send_with_fds(link, ByteView(&kind, 1), rest.first(count)));
    rest = rest.subspan(count);
  }
  return {};
}

Result<StartMessage> receive_start(int link) {
  std::vector<UniqueFd> fds;
  std::uint8_t kind = kPacketMore;
  while (kind != kPacketLast) {
    MSB_ASSIGN(ReceivedMessage message, receive_with_fds(link, 1));
    if (message.data.size() != 1 || fds.size() + message.fds.size() > kMaxStartFds) {
      return make_error(Errc::kProtocol, "start message: unexpected packet");
    }
    kind = message.data[0];
    for (UniqueFd& fd : message.fds) fds.push_back(std::move(fd));
  }
  if (fds.empty()) return make_error(Errc::kProtocol, "start message: no document");
  const UniqueFd document = std::move(fds.front());
  if (::lseek(document.get(), 0, SEEK_SET) != 0) return sys_error("start message: lseek");
  MSB_ASSIGN(const std::string text, read_all(document.get(), kMaxStartDocument));
  return parse_start(text, std::move(fds));
}

Status send(int link, const to_machine::Message& message) {
  return std::visit(Overloaded{
                        [&](const to_machine::Pause&) {
                          JsonWriter out = begin("pause");
                          out.end_object();
                          return send_json(link, std::move(out));
                        },
                        [&](const to_machine::Resume&) {
                          JsonWriter out = begin("resume");
                          out.end_object();
                          return send_json(link, std::move(out));
                        },
                        [&](const to_machine::Connected& connected) {
                          JsonWriter out = begin("connected");
                          out.field("id", connected.id).end_object();
                          return send_json(link, std::move(out), connected.socket.get());
                        },
                    },
                    message);
}

Result<to_machine::Message> receive_to_machine(int link) {
  MSB_ASSIGN(Packet packet, receive_packet(link));
  if (packet.op == "pause") return to_machine::Message(to_machine::Pause{});
  if (packet.op == "resume") return to_machine::Message(to_machine::Resume{});
  if (packet.op == "connected") {
    to_machine::Connected connected;
    MSB_ASSIGN(connected.id, packet.document.root().get_uint("id"));
    if (!packet.fds.empty()) connected.socket = std::move(packet.fds.front());
    return to_machine::Message(std::move(connected));
  }
  return make_error(Errc::kProtocol, "unknown message \"%s\"", packet.op.c_str());
}

Status send(int link, const from_machine::Message& message) {
  JsonWriter out =
      std::visit(Overloaded{
                     [](const from_machine::Running& m) {
                       JsonWriter w = begin("running");
                       w.key("confinement").raw(m.confinement);
                       return w;
                     },
                     [](const from_machine::Failed& m) {
                       JsonWriter w = begin("failed");
                       w.field("code", m.code).field("stage", m.stage).field("text", m.text);
                       return w;
                     },
                     [](const from_machine::Connect& m) {
                       JsonWriter w = begin("connect");
                       w.field("id", m.id).field("port", m.port);
                       return w;
                     },
                     [](const from_machine::Paused&) { return begin("paused"); },
                     [](const from_machine::Resumed&) { return begin("resumed"); },
                     [](const from_machine::Ended& m) {
                       JsonWriter w = begin("ended");
                       w.field("reason", proto::exit_reason_name(m.reason)).field("detail", cut(m.detail));
                       return w;
                     },
                 },
                 message);
  out.end_object();
  return send_json(link, std::move(out));
}

Result<from_machine::Message> receive_from_machine(int link) {
  MSB_ASSIGN(Packet packet, receive_packet(link));
  const JsonView root = packet.document.root();
  if (packet.op == "paused") return from_machine::Message(from_machine::Paused{});
  if (packet.op == "resumed") return from_machine::Message(from_machine::Resumed{});
  if (packet.op == "running") {
    MSB_ASSIGN(const JsonView confinement, root.at("confinement"));
    return from_machine::Message(from_machine::Running{confinement.dump()});
  }
  if (packet.op == "connect") {
    from_machine::Connect connect;
    MSB_ASSIGN(connect.id, root.get_uint("id"));
    MSB_ASSIGN(const std::uint64_t port, root.get_uint("port", 0xffffffffU));
    connect.port = static_cast<std::uint32_t>(port);
    return from_machine::Message(connect);
  }
  if (packet.op == "failed") {
    from_machine::Failed failed;
    MSB_ASSIGN(failed.code, root.get_string("code"));
    MSB_ASSIGN(failed.stage, root.get_string("stage"));
    MSB_ASSIGN(failed.text, root.get_string("text"));
    failed.text = cut(failed.text);
    return from_machine::Message(std::move(failed));
  }
  if (packet.op == "ended") {
    from_machine::Ended ended;
    MSB_ASSIGN(const std::string reason, root.get_string("reason"));
    const auto known = proto::exit_reason_from_name(reason);
    if (!known) return make_error(Errc::kProtocol, "unknown exit reason");
    ended.reason = *known;
    MSB_ASSIGN(ended.detail, root.get_string("detail"));
    ended.detail = cut(ended.detail);
    return from_machine::Message(std::move(ended));
  }
  return make_error(Errc::kProtocol, "unknown message from the machine role");
}

}  // namespace msb::vmm
