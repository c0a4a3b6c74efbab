// SPDX-License-Identifier: Apache-2.0
#include "proto/guest_config.h"

#include <csignal>

#include <array>
#include <charconv>

#include "base/base64.h"

namespace msb::proto {
namespace {

constexpr std::size_t kMaxEntropyBytes = 512;

struct SignalName {
  std::string_view name;
  int number;
};
constexpr std::array<SignalName, 31> kSignals{
    {{"HUP", SIGHUP},    {"INT", SIGINT},       {"QUIT", SIGQUIT}, {"ILL", SIGILL},   {"TRAP", SIGTRAP},
     {"ABRT", SIGABRT},  {"BUS", SIGBUS},       {"FPE", SIGFPE},   {"KILL", SIGKILL}, {"USR1", SIGUSR1},
     {"SEGV", SIGSEGV},  {"USR2", SIGUSR2},     {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM},
     {"CHLD", SIGCHLD},  {"STKFLT", SIGSTKFLT}, {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
     {"TTIN", SIGTTIN},  {"TTOU", SIGTTOU},     {"URG", SIGURG},   {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
     {"PROF", SIGPROF},  {"VTALRM", SIGVTALRM}, {"IO", SIGIO},     {"PWR", SIGPWR},   {"SYS", SIGSYS},
     {"WINCH", SIGWINCH}}};
// Fixed by the kernel's interface; libc's SIGRTMIN differs because libc keeps two for itself.
constexpr int kRealtimeMin = 34;
constexpr int kRealtimeMax = 64;

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A device name below /dev or an interface name: one plain component.
Result<std::string> get_name(const JsonView& object, std::string_view key) {
  MSB_ASSIGN(const JsonView member, object.at(key));
  MSB_ASSIGN(std::string name, parse_byte_string(member));
  if (!is_plain_relative_path(name) || name.find('/') != std::string::npos) {
    return invalid_value(member, "must be one plain name");
  }
  return name;
}

Result<std::string> get_base64(const JsonView& object, std::string_view key) {
  const auto member = object.find(key);
  if (!member) return std::string();
  MSB_ASSIGN(const std::string_view text, member->as_string());
  const auto bytes = base64_decode(text);
  if (!bytes) return invalid_value(*member, "is not base64");
  return std::string(as_text(*bytes));
}

Result<std::optional<GuestConfig::Address>> get_address(const JsonView& object, std::string_view key,
                                                        std::uint8_t max_prefix) {
  const auto member = object.find(key);
  if (!member) return std::optional<GuestConfig::Address>();
  MSB_TRY(member->only_keys({"address", "prefix", "gateway"}));
  GuestConfig::Address address;
  MSB_ASSIGN(address.address, member->get_string("address"));
  MSB_ASSIGN(const std::uint64_t prefix, member->get_uint("prefix", max_prefix));
  address.prefix = static_cast<std::uint8_t>(prefix);
  MSB_ASSIGN(address.gateway, member->get_string_or("gateway", ""));
  return std::optional<GuestConfig::Address>(std::move(address));
}

void write_address(JsonWriter& out, std::string_view key,
                   const std::optional<GuestConfig::Address>& address) {
  if (!address) return;
  out.key(key).begin_object().field("address", address->address).field("prefix", address->prefix);
  if (!address->gateway.empty()) out.field("gateway", address->gateway);
  out.end_object();
}

Result<GuestConfig::Net> parse_net(const JsonView& value) {
  MSB_TRY(value.only_keys({"interface", "mac", "mtu", "ipv4", "ipv6", "dns", "search"}));
  GuestConfig::Net net;
  if (value.find("interface")) {
    MSB_ASSIGN(net.interface, get_name(value, "interface"));
    if (net.interface.size() > 15) return invalid_value(value, "\"interface\" is longer than 15 bytes");
  }
  MSB_ASSIGN(net.mac, value.get_string_or("mac", ""));
  MSB_ASSIGN(net.mtu, get_narrow_or<std::uint32_t>(value, "mtu", net.mtu, 65535));
  if (net.mtu < 68) return invalid_value(value, "\"mtu\" is below 68");
  MSB_ASSIGN(net.ipv4, get_address(value, "ipv4", 32));
  MSB_ASSIGN(net.ipv6, get_address(value, "ipv6", 128));
  MSB_ASSIGN(net.dns, value.get_strings_or_empty("dns"));
  MSB_ASSIGN(net.search, value.get_strings_or_empty("search"));
  return net;
}

void write_net(JsonWriter& out, const GuestConfig::Net& net) {
  out.begin_object();
  write_byte_field(out, "interface", net.interface);
  if (!net.mac.empty()) out.field("mac", net.mac);
  out.field("mtu", net.mtu);
  write_address(out, "ipv4", net.ipv4);
  write_address(out, "ipv6", net.ipv6);
  out.field("dns", net.dns).field("search", net.search).end_object();
}

Result<GuestConfig::Mount> parse_mount(const JsonView& value) {
  MSB_TRY(value.only_keys({"kind", "target", "size_mib", "options"}));
  GuestConfig::Mount mount;
  MSB_ASSIGN(mount.kind, value.get_string("kind"));
  if (mount.kind != "tmpfs") return invalid_value(value, "unknown kind \"" + mount.kind + "\"");
  MSB_ASSIGN(mount.target, get_byte_string(value, "target"));
  if (mount.target.empty() || mount.target.front() != '/')
    return invalid_value(value, "\"target\" is not absolute");
  MSB_ASSIGN(mount.size_mib, value.get_uint_or("size_mib", 0, std::uint64_t{1} << 40));
  MSB_ASSIGN(mount.options, value.get_string_or("options", ""));
  return mount;
}

Result<GuestConfig::File> parse_file(const JsonView& value) {
  MSB_TRY(value.only_keys({"path", "mode", "data_b64"}));
  GuestConfig::File file;
  MSB_ASSIGN(file.path, get_byte_string(value, "path"));
  if (file.path.empty() || file.path.front() != '/') return invalid_value(value, "\"path\" is not absolute");
  MSB_ASSIGN(file.mode, get_narrow_or<std::uint32_t>(value, "mode", file.mode, 07777));
  MSB_ASSIGN(file.data, get_base64(value, "data_b64"));
  return file;
}

Result<GuestConfig::Init> parse_init(const JsonView& value) {
  MSB_TRY(value.only_keys({"path", "args", "env"}));
  GuestConfig::Init init;
  MSB_ASSIGN(init.path, get_byte_string(value, "path"));
  if (init.path.empty()) return invalid_value(value, "\"path\" is empty");
  MSB_ASSIGN(init.args, get_byte_strings_or_empty(value, "args"));
  MSB_ASSIGN(init.env, get_byte_strings_or_empty(value, "env"));
  return init;
}

Result<GuestConfig::Host> parse_host(const JsonView& value) {
  MSB_TRY(value.only_keys({"ip", "names"}));
  GuestConfig::Host host;
  MSB_ASSIGN(host.ip, value.get_string("ip"));
  MSB_ASSIGN(host.names, value.get_strings_or_empty("names"));
  return host;
}

// Parses each element of the array `key` into `out`.
template <typename T, typename Parse>
Status get_each(const JsonView& object, std::string_view key, std::vector<T>& out, Parse parse) {
  const auto member = object.find(key);
  if (!member) return {};
  MSB_ASSIGN(const std::vector<JsonView> elements, member->elements());
  for (const JsonView& element : elements) {
    MSB_ASSIGN(T item, parse(element));
    out.push_back(std::move(item));
  }
  return {};
}

}  // namespace

std::optional<int> signal_number(std::string_view text) {
  if (const auto plain = number(text)) {
    return *plain >= 1 && *plain <= kRealtimeMax ? plain : std::nullopt;
  }
  if (text.starts_with("SIG")) text.remove_prefix(3);
  for (const SignalName& signal : kSignals) {
    if (signal.name == text) return signal.number;
  }
  if (text == "POLL") return SIGIO;
  if (text == "CLD") return SIGCHLD;
  const bool from_min = text.starts_with("RTMIN");
  if (!from_min && !text.starts_with("RTMAX")) return std::nullopt;
  text.remove_prefix(5);
  const int base = from_min ? kRealtimeMin : kRealtimeMax;
  if (text.empty()) return base;
  if (text.front() != (from_min ? '+' : '-')) return std::nullopt;
  const auto offset = number(text.substr(1));
  if (!offset || *offset < 0 || *offset > kRealtimeMax - kRealtimeMin) return std::nullopt;
  return from_min ? base + *offset : base - *offset;
}

void GuestConfig::write(JsonWriter& out) const {
  out.begin_object().field("version", 1).field("hostname", hostname);
  out.key("root").begin_object().field("device", root_device).field("fs", root_fs).end_object();
  out.key("upper").begin_object();
  if (upper_device) {
    out.field("device", *upper_device);
  } else {
    out.key("device").null();
    if (upper_tmpfs_mib != 0) out.field("tmpfs_size_mib", upper_tmpfs_mib);
  }
  out.end_object();
  out.key("mounts").begin_array();
  for (const Mount& mount : mounts) {
    out.begin_object().field("kind", mount.kind);
    write_byte_field(out, "target", mount.target);
    if (mount.size_mib != 0) out.field("size_mib", mount.size_mib);
    if (!mount.options.empty()) out.field("options", mount.options);
    out.end_object();
  }
  out.end_array().key("net");
  if (net) {
    write_net(out, *net);
  } else {
    out.null();
  }
  out.key("hosts").begin_array();
  for (const Host& host : hosts)
    out.begin_object().field("ip", host.ip).field("names", host.names).end_object();
  out.end_array();
  write_bytes_field(out, "env", env);
  write_byte_field(out, "user", user);
  write_byte_field(out, "workdir", workdir);
  out.key("rlimits").begin_array();
  for (const ResourceLimit& limit : rlimits) limit.write(out);
  out.end_array();
  write_byte_field(out, "shell", shell);
  out.field("stop_signal", stop_signal).key("init");
  if (init) {
    out.begin_object();
    write_byte_field(out, "path", init->path);
    write_bytes_field(out, "args", init->args);
    write_bytes_field(out, "env", init->env);
    out.end_object();
  } else {
    out.null();
  }
  out.key("files").begin_array();
  for (const File& file : files) {
    out.begin_object();
    write_byte_field(out, "path", file.path);
    out.field("mode", file.mode).field("data_b64", base64_encode(as_bytes(file.data))).end_object();
  }
  out.end_array().field("clock_ns", clock_ns);
  if (!entropy.empty()) out.field("entropy_b64", base64_encode(as_bytes(entropy)));
  out.end_object();
}

Result<GuestConfig> GuestConfig::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"version", "hostname", "root", "upper", "mounts", "net", "hosts", "env", "user",
                           "workdir", "rlimits", "shell", "stop_signal", "init", "files", "clock_ns",
                           "entropy_b64"}));
  MSB_ASSIGN(const std::uint64_t version, value.get_uint("version"));
  if (version != 1) return make_error(Errc::kUnsupported, "boot configuration is of another version than 1");
  GuestConfig config;
  MSB_ASSIGN(config.hostname, value.get_string_or("hostname", config.hostname));
  if (config.hostname.empty() || config.hostname.size() > 64) {
    return invalid_value(value, "\"hostname\" must have 1 to 64 bytes");
  }
  if (const auto root = value.find("root")) {
    MSB_TRY(root->only_keys({"device", "fs"}));
    MSB_ASSIGN(config.root_device, get_name(*root, "device"));
    MSB_ASSIGN(config.root_fs, root->get_string_or("fs", config.root_fs));
  }
  if (const auto upper = value.find("upper")) {
    MSB_TRY(upper->only_keys({"device", "tmpfs_size_mib"}));
    if (upper->find("device")) {
      MSB_ASSIGN(std::string device, get_name(*upper, "device"));
      config.upper_device = std::move(device);
    }
    MSB_ASSIGN(config.upper_tmpfs_mib, upper->get_uint_or("tmpfs_size_mib", 0, std::uint64_t{1} << 40));
  }
  MSB_TRY(get_each(value, "mounts", config.mounts, parse_mount));
  if (const auto net_value = value.find("net")) {
    MSB_ASSIGN(Net parsed, parse_net(*net_value));
    config.net = std::move(parsed);
  }
  MSB_TRY(get_each(value, "hosts", config.hosts, parse_host));
  MSB_ASSIGN(config.env, get_byte_strings_or_empty(value, "env"));
  MSB_ASSIGN(config.user, get_byte_string_or(value, "user", ""));
  MSB_ASSIGN(config.workdir, get_byte_string_or(value, "workdir", ""));
  MSB_TRY(get_each(value, "rlimits", config.rlimits, ResourceLimit::parse));
  MSB_ASSIGN(config.shell, get_byte_string_or(value, "shell", config.shell));
  MSB_ASSIGN(config.stop_signal, value.get_string_or("stop_signal", config.stop_signal));
  if (!signal_number(config.stop_signal)) return invalid_value(value, "\"stop_signal\" is not a signal");
  if (const auto init_value = value.find("init")) {
    MSB_ASSIGN(Init parsed, parse_init(*init_value));
    config.init = std::move(parsed);
  }
  MSB_TRY(get_each(value, "files", config.files, parse_file));
  MSB_ASSIGN(config.clock_ns, value.get_int_or("clock_ns", 0));
  MSB_ASSIGN(config.entropy, get_base64(value, "entropy_b64"));
  if (config.entropy.size() > kMaxEntropyBytes)
    return invalid_value(value, "\"entropy_b64\" is longer than 512 bytes");
  return config;
}

}  // namespace msb::proto
