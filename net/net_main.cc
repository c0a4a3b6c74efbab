// SPDX-License-Identifier: Apache-2.0
// msb-net: the guest's only way out.
//
//   msb-net --config-fd N --frame-fd M [--control-fd K] [--audit-fd A] [--pcap-fd P] [--secrets-fd S]
//           [--confinement auto|require|off]
//   msb-net --config-fd N --explain HOST:PORT [--protocol tcp|udp|icmp]     (prints a decision, takes no
//   frames) msb-net --config-fd N --check                                           (says whether the
//   specification is fine)
//
// Stages: arguments, specification, secrets; everything that needs rights is opened; confinement; the first
// frame. It ends when the frame socket's other end closes. What keeps it from starting is told on the control
// socket as an ERROR frame.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <optional>

#include "base/file.h"
#include "base/log.h"
#include "net/control_server.h"
#include "net/net_process.h"
#include "net/net_sandbox.h"

namespace msb::net {
namespace {

struct Arguments {
  int config_fd = -1;
  int frame_fd = -1;
  int control_fd = -1;
  int audit_fd = -1;
  int pcap_fd = -1;
  int secrets_fd = -1;
  std::optional<std::string> explain;
  std::string protocol = "tcp";
  bool check = false;
  Confinement confinement = Confinement::kAuto;
};

std::optional<int> parse_fd(const char* text) {
  const auto value = parse_port(text);
  return value ? std::optional<int>(*value) : std::nullopt;
}

int* descriptor_member(std::string_view word, Arguments& arguments) {
  if (word == "--config-fd") return &arguments.config_fd;
  if (word == "--frame-fd") return &arguments.frame_fd;
  if (word == "--control-fd") return &arguments.control_fd;
  if (word == "--audit-fd") return &arguments.audit_fd;
  if (word == "--pcap-fd") return &arguments.pcap_fd;
  if (word == "--secrets-fd") return &arguments.secrets_fd;
  return nullptr;
}

Result<Arguments> parse_arguments(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--check") {
      out.check = true;
      continue;
    }
    if (i + 1 >= argc)
      return make_error(Errc::kInvalid, "argument \"%s\" needs a value or is unknown", argv[i]);
    const char* value = argv[++i];
    if (int* const member = descriptor_member(word, out)) {
      const auto fd = parse_fd(value);
      if (!fd) return make_error(Errc::kInvalid, "%s: not a descriptor number", argv[i - 1]);
      *member = *fd;
    } else if (word == "--explain") {
      out.explain = value;
    } else if (word == "--protocol") {
      out.protocol = value;
    } else if (word == "--confinement") {
      const std::string_view mode = value;
      if (mode == "auto")
        out.confinement = Confinement::kAuto;
      else if (mode == "require")
        out.confinement = Confinement::kRequire;
      else if (mode == "off")
        out.confinement = Confinement::kOff;
      else
        return make_error(Errc::kInvalid, "--confinement is auto, require or off");
    } else {
      return make_error(Errc::kInvalid, "unknown argument \"%s\"", argv[i - 1]);
    }
  }
  if (out.config_fd < 0) return make_error(Errc::kInvalid, "--config-fd is missing");
  if (out.frame_fd < 0 && !out.explain && !out.check)
    return make_error(Errc::kInvalid, "--frame-fd is missing");
  return out;
}

// Takes over an inherited descriptor; later children, of which there are none, would not get it.
Result<UniqueFd> inherit(int fd) {
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return sys_error("descriptor " + std::to_string(fd));
  return UniqueFd(fd);
}

Result<std::string> read_proxy_password(int secrets_fd) {
  if (secrets_fd < 0) return std::string();
  MSB_ASSIGN(const UniqueFd fd, inherit(secrets_fd));
  MSB_ASSIGN(std::string text, read_all(fd.get(), 1 << 20));
  auto parsed = JsonDocument::parse(text);
  ::explicit_bzero(text.data(), text.size());
  MSB_ASSIGN(const JsonDocument document, std::move(parsed));
  return document.root().get_string_or("proxy_password", "");
}

// The host's name servers, while there are still files; what changes later comes over the control socket.
void read_resolv_conf(DnsProxy& dns) {
  const auto text = read_file("/etc/resolv.conf", proto::kMaxResolvConf);
  if (text) dns.set_upstreams(parse_resolv_conf(*text));
}

Status run(const Arguments& arguments) {
  MSB_ASSIGN(UniqueFd config, inherit(arguments.config_fd));
  MSB_ASSIGN(const std::string text, read_all(config.get(), 1 << 20));
  config.reset();
  auto parsed = proto::NetSpec::parse(text);
  if (!parsed) return std::move(parsed.error()).with_context("network configuration");
  const proto::NetSpec spec = std::move(parsed).value();
  MSB_ASSIGN(const std::unique_ptr<EventLoop> loop, EventLoop::create());
  if (arguments.explain || arguments.check) {
    Engine engine(Policy::build(spec.policy), make_classifier(spec));
    MSB_ASSIGN(const auto addresses, HostAddresses::create(*loop, [&](const std::vector<IpPrefix>& prefixes) {
                 engine.classifier().set_host_prefixes(prefixes);
               }));
    for (const std::string& warning : engine.policy().warnings()) MSB_WARN("policy: %s", warning.c_str());
    if (!arguments.explain) return {};
    MSB_ASSIGN(const std::string answer, explain(engine, *arguments.explain, arguments.protocol));
    return write_all(STDOUT_FILENO, answer + "\n");
  }
  NetProcess::Parts parts;
  MSB_ASSIGN(parts.proxy_password, read_proxy_password(arguments.secrets_fd));
  MSB_ASSIGN(UniqueFd frames, inherit(arguments.frame_fd));
  MSB_ASSIGN(parts.port, SocketFramePort::create(*loop, std::move(frames), spec.vnet_hdr));
  if (arguments.audit_fd >= 0) {
    MSB_ASSIGN(parts.audit, inherit(arguments.audit_fd));
  }
  if (arguments.pcap_fd >= 0) {
    MSB_ASSIGN(parts.pcap, inherit(arguments.pcap_fd));
  }
  // Tens of thousands of flows need as many descriptors as we may have.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
  }
  MSB_ASSIGN(const std::unique_ptr<NetProcess> process, NetProcess::create(*loop, spec, std::move(parts)));
  if (spec.dns.upstreams.empty()) read_resolv_conf(process->dns());
  std::unique_ptr<ControlServer> control;
  if (arguments.control_fd >= 0) {
    MSB_ASSIGN(UniqueFd socket, inherit(arguments.control_fd));
    NetProcess* target = process.get();
    MSB_ASSIGN(control, ControlServer::create(*loop, std::move(socket), [target](std::string_view request) {
                 return target->control(request);
               }));
    if (spec.dns.upstreams.empty())
      process->dns().set_refresh([server = control.get()] { server->ask_for_resolv_conf(); });
  }
  MSB_TRY(confine_net_process(arguments.confinement));
  Status end;
  MSB_TRY(process->start([&](Status why) {
    end = std::move(why);
    loop->stop();
  }));
  if (control) control->announce(process->ready_json());
  MSB_TRY(loop->run());
  return end;
}

void report_failure(int control_fd, const Error& error) {
  Bytes frame;
  proto::append_frame(frame, proto::FrameType::kError, std::string_view(control_error_json(error)));
  (void)::send(control_fd, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace
}  // namespace msb::net

int main(int argc, char** argv) {
  msb::log_setup("msb-net", msb::LogLevel::kInfo);
  auto arguments = msb::net::parse_arguments(argc, argv);
  if (!arguments) {
    MSB_ERROR("%s", arguments.error().text.c_str());
    return 2;
  }
  // A second descriptor of the same socket: the first is closed on the way out of run().
  const msb::UniqueFd report(arguments->control_fd < 0 ? -1
                                                       : ::fcntl(arguments->control_fd, F_DUPFD_CLOEXEC, 0));
  if (auto status = msb::net::run(*arguments); !status) {
    if (report) msb::net::report_failure(report.get(), status.error());
    MSB_ERROR("%s", status.error().text.c_str());
    return 1;
  }
  return 0;
}
