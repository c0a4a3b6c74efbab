// SPDX-License-Identifier: Apache-2.0
// msb net: what the network policy decides, and changes to the network of a running sandbox.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/json.h"
#include "supervisor/grammar.h"
#include "supervisor/network.h"
#include "tools/msb/listing.h"
#include "tools/msb/net_flags.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum NetVerbOption : int { kSandbox = kFirstVerbOption, kProtocol };
constexpr std::array<Option, 2> kOptions = {{
    {kSandbox, "sandbox", 's', "NAME", "explain: by this sandbox's policy, as it is now"},
    {kProtocol, "protocol", 0, "PROTOCOL", "explain: tcp (default), udp or icmp"},
}};
const std::array<std::span<const Option>, 2> kTables = {kOptions, net_policy_options()};

Result<std::string> ask(const std::string& name, const std::string& request) {
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
  return sandbox.net(request, supervisor::deadline_after(std::chrono::seconds(10)));
}

Result<std::string> ask(const std::string& name, const char* op) {
  JsonWriter request;
  request.begin_object().field("op", op).end_object();
  return ask(name, std::move(request).take());
}

// Becomes msb-net, which explains and prints; returns only when that fails.
Result<int> explain_offline(const supervisor::NetworkSpec& network, std::string target,
                            std::string protocol) {
  MSB_TRY(supervisor::check_network(network));
  if (!network.enabled) return make_error(Errc::kUnsupported, "there is no network to explain: it is off");
  // Not close-on-exec: msb-net reads it.
  const UniqueFd config(::memfd_create("config", 0));
  if (!config) return sys_error("memfd_create");
  MSB_TRY(write_all(config.get(), supervisor::net_config_json(network)));
  if (::lseek(config.get(), 0, SEEK_SET) != 0) return sys_error("lseek");
  MSB_ASSIGN(const supervisor::Installation installation, supervisor::Installation::found());
  const std::string path = installation.libexec + "/msb-net";
  std::string number = std::to_string(config.get());
  std::array<std::string, 7> words = {
      "msb-net", "--config-fd", number, "--explain", std::move(target), "--protocol", std::move(protocol)};
  std::array<char*, 8> argv{};
  for (std::size_t i = 0; i < words.size(); ++i) argv[i] = words[i].data();
  ::execv(path.c_str(), argv.data());
  return sys_error("start " + path);
}

Result<int> explain(const Parsed& args, std::string target) {
  const std::string protocol(args.last(kProtocol, "tcp"));
  supervisor::NetworkSpec network;
  if (!args.has(kSandbox)) {
    MSB_TRY(apply_net_flags(args, network));
    return explain_offline(network, std::move(target), protocol);
  }
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, args.last(kSandbox)));
  MSB_ASSIGN(const supervisor::SandboxInfo info, sandbox.info());
  if (!is_alive(info.state)) return explain_offline(info.spec.network, std::move(target), protocol);
  JsonWriter request;
  request.begin_object()
      .field("op", "explain")
      .field("target", target)
      .field("protocol", protocol)
      .end_object();
  MSB_ASSIGN(const std::string answer,
             sandbox.net(std::move(request).take(), supervisor::deadline_after(std::chrono::seconds(10))));
  print(answer + "\n");
  return kExitOk;
}

void print_ports(const JsonView& answer) {
  const auto ports = answer.find("ports");
  const auto elements = ports ? ports->elements() : Result<std::vector<JsonView>>(std::vector<JsonView>{});
  if (!elements.ok()) return;
  for (const JsonView& port : *elements) {
    supervisor::PortMapping mapping;
    mapping.bind = port.get_string_or("bind", "").value_or("");
    mapping.host = static_cast<std::uint16_t>(port.get_uint_or("host", 0, 65535).value_or(0));
    mapping.guest = static_cast<std::uint16_t>(port.get_uint_or("guest", 0, 65535).value_or(0));
    mapping.udp = port.get_string_or("protocol", "").value_or("") == "udp";
    print(supervisor::format_port(mapping) + "\n");
  }
}

Result<int> change_port(const std::string& name, std::string_view text, const char* op) {
  auto parsed = supervisor::parse_port(text);
  if (!parsed.ok()) return usage_error(parsed.error().text);
  JsonWriter request;
  request.begin_object().field("op", op).key("port").begin_object();
  request.field("bind", parsed->bind).field("host", parsed->host).field("guest", parsed->guest);
  request.field("protocol", parsed->udp ? "udp" : "tcp").end_object().end_object();
  MSB_ASSIGN(const std::string answer, ask(name, std::move(request).take()));
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(answer));
  print_ports(document.root());
  return kExitOk;
}

Result<int> replace_policy(const Parsed& args, const std::string& name) {
  supervisor::NetworkSpec network;
  MSB_TRY(apply_net_flags(args, network));
  // "none" is a policy here: the device stays.
  if (!network.enabled) network = {.profiles = {"none"}};
  if (const auto valid = supervisor::check_network(network); !valid.ok())
    return usage_error(valid.error().text);
  JsonWriter request;
  request.begin_object().field("op", "policy").key("policy");
  supervisor::write_net_policy(network, request);
  request.end_object();
  MSB_ASSIGN(const std::string answer, ask(name, std::move(request).take()));
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(answer));
  MSB_ASSIGN(const auto warnings, document.root().get_strings_or_empty("warnings"));
  for (const std::string& warning : warnings) note("warning: " + printable(warning));
  return kExitOk;
}

Result<int> show(const std::string& name, std::string_view what) {
  MSB_ASSIGN(const std::string answer, ask(name, std::string(what).c_str()));
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(answer));
  if (what == "stats") {
    print(answer + "\n");
  } else if (what == "ports") {
    print_ports(document.root());
  } else {
    MSB_ASSIGN(const auto rules, document.root().get_strings_or_empty("rules"));
    for (const std::string& rule : rules) print(printable(rule) + "\n");
  }
  return kExitOk;
}

Result<int> net(const Parsed& args) {
  if (args.positionals.empty()) return usage_error("no command is given (explain, ports, publish, ...)");
  const std::string_view command = args.positionals[0];
  const bool with_port = command == "publish" || command == "unpublish";
  constexpr std::array<std::string_view, 7> kKnown = {"explain", "ports", "publish", "unpublish",
                                                      "policy",  "stats", "observed"};
  if (std::find(kKnown.begin(), kKnown.end(), command) == kKnown.end()) {
    std::string text = "unknown command \"net " + std::string(command) + "\"";
    if (const auto near = nearest(command, kKnown); !near.empty())
      text += "; did you mean \"" + std::string(near) + "\"?";
    return usage_error(std::move(text));
  }
  if (args.positionals.size() != (with_port ? 3U : 2U)) {
    return usage_error("net " + std::string(command) +
                       (command == "explain" ? ": expected HOST:PORT"
                        : with_port          ? ": expected NAME and PORT"
                                             : ": expected NAME"));
  }
  const std::string subject(args.positionals[1]);
  if (command == "explain") return explain(args, subject);
  if (command == "policy") return replace_policy(args, subject);
  if (with_port)
    return change_port(subject, args.positionals[2], command == "publish" ? "ports_add" : "ports_remove");
  return show(subject, command);
}

}  // namespace

const Verb kNetVerb = {
    "net",
    "",
    Group::kOther,
    "Explain and change what a sandbox's network may do",
    "COMMAND ...",
    "Commands:\n"
    "  explain HOST:PORT      which rule decides, and why: by these options, or by a sandbox's policy (-s)\n"
    "  ports NAME             what is published\n"
    "  publish NAME PORT      publish a port of a running sandbox: [BIND:]HOST:GUEST[/udp]\n"
    "  unpublish NAME PORT    take it back\n"
    "  policy NAME [OPTIONS]  replace the policy of a running sandbox by these options, until it stops\n"
    "  stats NAME             counters, as JSON\n"
    "  observed NAME          the rules that a run with --net-observe needed\n"
    "\n"
    "Examples:\n"
    "  msb net explain --net-rule deny@meta github.com:443\n"
    "  msb net explain -s box 10.0.0.1:22\n"
    "  msb net policy box --net-default deny --net-rule 'allow@dns,allow@*.debian.org:tcp:80'",
    kTables,
    Words::kOptionsAnywhere,
    kExitFailure,
    net,
    ""};

}  // namespace msb::cli
