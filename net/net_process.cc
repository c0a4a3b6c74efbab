// SPDX-License-Identifier: Apache-2.0
#include "net/net_process.h"

#include "base/json.h"
#include "base/log.h"

namespace msb::net {

AddressClassifier make_classifier(const proto::NetSpec& spec) {
  std::vector<IpAddress> gateways;
  if (spec.guest.ipv4) gateways.push_back(spec.guest.ipv4->gateway);
  if (spec.guest.ipv6) gateways.push_back(spec.guest.ipv6->gateway);
  return {std::move(gateways), spec.policy.nat64_prefixes};
}

Result<std::unique_ptr<NetProcess>> NetProcess::create(EventLoop& loop, const proto::NetSpec& spec,
                                                       Parts parts) {
  std::unique_ptr<NetProcess> out(new NetProcess());
  out->engine_ = std::make_unique<Engine>(Policy::build(spec.policy), make_classifier(spec));
  Engine* engine = out->engine_.get();
  engine->set_max_total_bytes(spec.limits.max_total_bytes);
  out->default_upstreams_ = spec.dns.upstreams.empty();
  if (parts.audit) engine->set_audit(std::make_unique<AuditLog>(loop, std::move(parts.audit)));
  if (parts.host_addresses) {
    engine->classifier().set_host_prefixes(*parts.host_addresses);
  } else {
    MSB_ASSIGN(out->host_addresses_,
               HostAddresses::create(loop, [engine](const std::vector<IpPrefix>& prefixes) {
                 engine->classifier().set_host_prefixes(prefixes);
               }));
  }
  out->port_ = std::move(parts.port);
  out->link_ = std::make_unique<GuestLink>(loop, *out->port_, spec.guest, spec.limits);
  out->dns_ = std::make_unique<DnsProxy>(loop, *engine, out->random_, spec);
  out->tcp_ = std::make_unique<TcpService>(loop, *out->link_, *engine, *out->dns_, out->random_, spec,
                                           std::move(parts.proxy_password));
  const std::uint32_t max_flows =
      spec.limits.max_connections != 0 ? spec.limits.max_connections : proto::kNetDefaultFlows;
  out->udp_ = std::make_unique<UdpRelay>(loop, *out->link_, *engine, *out->dns_, max_flows);
  out->icmp_ = std::make_unique<IcmpRelay>(loop, *out->link_, *engine);
  out->publisher_ = std::make_unique<PortPublisher>(loop, *out->tcp_, *out->udp_);
  for (const proto::NetPortSpec& port : spec.ports) MSB_TRY(out->publisher_->add(port));
  out->stack_ = std::make_unique<Stack>(
      loop, Stack::Services{*engine, *out->link_, *out->tcp_, *out->udp_, *out->icmp_});
  if (parts.pcap) {
    MSB_ASSIGN(PcapWriter writer, PcapWriter::create(std::move(parts.pcap), spec.limits.pcap_bytes));
    out->pcap_.emplace(std::move(writer));
  }
  for (const std::string& warning : engine->policy().warnings()) MSB_WARN("policy: %s", warning.c_str());
  return out;
}

Status NetProcess::start(std::function<void(Status)> on_end) {
  FramePort::Handlers handlers;
  handlers.on_frame = [this](ByteView frame, const VnetHeader& vnet) { stack_->on_frame(frame, vnet); };
  handlers.on_batch_end = [this] {
    stack_->on_batch_end();
    if (engine_->budget_spent() && (tcp_->flows() > 0 || udp_->flows() > 0)) {
      tcp_->reset_all("byte budget spent");
      udp_->close_all("byte budget spent");
    }
  };
  handlers.on_writable = [this] { tcp_->on_link_writable(); };
  handlers.on_closed = std::move(on_end);
  if (pcap_) {
    handlers.tap_in = [this](ByteView frame) { capture(std::span(&frame, 1)); };
    handlers.tap_out = [this](std::span<const ByteView> parts) { capture(parts); };
  }
  link_->set_on_writable([this] { tcp_->on_link_writable(); });
  return port_->start(std::move(handlers));
}

void NetProcess::capture(std::span<const ByteView> parts) {
  if (pcap_->state() != PcapWriter::State::kWriting) return;
  const PcapWriter::State state = pcap_->write(parts, wall_clock_ns());
  if (state == PcapWriter::State::kWriting) return;
  const std::string why =
      state == PcapWriter::State::kFull ? "its limit is reached" : "the file cannot be written";
  const std::string text = "stopped after " + std::to_string(pcap_->bytes()) + " bytes: " + why;
  MSB_WARN("capture %s", text.c_str());
  engine_->note_event("capture", text);
}

void NetProcess::write_ports(JsonWriter& out, const std::vector<PortPublisher::Published>& ports) const {
  out.key("ports").begin_array();
  for (const auto& port : ports) {
    out.begin_object().field("bind", port.bind.text()).field("host", port.host).field("guest", port.guest);
    out.field("protocol", proto::net_protocol_name(port.protocol)).end_object();
  }
  out.end_array();
}

std::string NetProcess::ready_json() const {
  JsonWriter out;
  out.begin_object();
  write_ports(out, publisher_->list());
  out.field("warnings", engine_->policy().warnings());
  out.end_object();
  return std::move(out).take();
}

void NetProcess::write_stats(JsonWriter& out) const {
  const FramePortCounters& port = port_->counters();
  out.key("link")
      .begin_object()
      .field("frames_from_guest", port.frames_in)
      .field("bytes_from_guest", port.bytes_in);
  out.field("frames_to_guest", port.frames_out)
      .field("bytes_to_guest", port.bytes_out)
      .field("dropped_to_guest", port.dropped_out)
      .end_object();
  out.key("drops").begin_object();
  for (std::size_t i = 1; i < static_cast<std::size_t>(Drop::kCount); ++i) {
    if (link_->counters().drops[i] != 0)
      out.field(drop_name(static_cast<Drop>(i)), link_->counters().drops[i]);
  }
  out.end_object();
  const TcpCounters& tcp = tcp_->counters();
  out.key("tcp")
      .begin_object()
      .field("flows", tcp_->flows())
      .field("opened", tcp.opened)
      .field("accepted", tcp.accepted)
      .field("denied", tcp.denied);
  out.field("refused", tcp.refused)
      .field("reset", tcp.reset)
      .field("retransmits", tcp.retransmits)
      .field("buffer_bytes", tcp_->budget().used)
      .end_object();
  const UdpCounters& udp = udp_->counters();
  out.key("udp")
      .begin_object()
      .field("flows", udp_->flows())
      .field("opened", udp.opened)
      .field("denied", udp.denied)
      .field("dropped", udp.dropped)
      .end_object();
  const DnsCounters& dns = dns_->counters();
  out.key("dns")
      .begin_object()
      .field("queries", dns.queries)
      .field("cache_hits", dns.cache_hits)
      .field("blocked", dns.blocked);
  out.field("filtered", dns.filtered)
      .field("failed", dns.failed)
      .field("malformed", dns.malformed)
      .end_object();
  out.key("rules").begin_array();
  const auto& counts = engine_->rule_counts();
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const bool last = i + 1 == counts.size();
    out.begin_object().field(
        "rule", last ? std::string("default") : engine_->policy().rule_text(static_cast<int>(i)));
    out.field("allowed", counts[i].allowed).field("denied", counts[i].denied).end_object();
  }
  out.end_array();
  if (pcap_)
    out.key("capture")
        .begin_object()
        .field("bytes", pcap_->bytes())
        .field("stopped", pcap_->state() != PcapWriter::State::kWriting)
        .end_object();
  out.field("total_bytes", engine_->total_bytes()).field("audit_lost", engine_->audit_lost());
}

Status NetProcess::replace_policy(const JsonView& request) {
  MSB_ASSIGN(const JsonView value, request.at("policy"));
  MSB_ASSIGN(const proto::NetPolicySpec spec, proto::parse_net_policy(value));
  engine_->replace_policy(Policy::build(spec));
  engine_->note_event("policy", "replaced");
  tcp_->rejudge_all();
  udp_->rejudge_all();
  icmp_->rejudge_all();
  return {};
}

Result<std::string> NetProcess::control(std::string_view text) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(text));
  const JsonView request = document.root();
  MSB_ASSIGN(const std::string op, request.get_string("op"));
  engine_->flush_audit();  // who asks has an answer to whatever is in the log by then
  JsonWriter out;
  if (op == "explain") {
    MSB_ASSIGN(const std::string target, request.get_string("target"));
    MSB_ASSIGN(const std::string protocol, request.get_string_or("protocol", "tcp"));
    return explain(*engine_, target, protocol);
  }
  out.begin_object();
  if (op == "stats") {
    write_stats(out);
  } else if (op == "ports") {
    write_ports(out, publisher_->list());
  } else if (op == "ports_add") {
    MSB_ASSIGN(const JsonView value, request.at("port"));
    MSB_ASSIGN(const proto::NetPortSpec port, proto::parse_net_port(value));
    MSB_ASSIGN(const std::vector<PortPublisher::Published> added, publisher_->add(port));
    write_ports(out, added);
  } else if (op == "ports_remove") {
    MSB_ASSIGN(const JsonView value, request.at("port"));
    MSB_ASSIGN(const proto::NetPortSpec port, proto::parse_net_port(value));
    MSB_TRY(publisher_->remove(port));
  } else if (op == "policy") {
    MSB_TRY(replace_policy(request));
    out.field("warnings", engine_->policy().warnings());
  } else if (op == "resolv_conf") {
    MSB_ASSIGN(const std::string content, request.get_string("text"));
    std::vector<proto::NetEndpoint> upstreams = parse_resolv_conf(content);
    if (default_upstreams_ && !upstreams.empty()) dns_->set_upstreams(std::move(upstreams));
  } else if (op == "observed") {
    out.field("rules", engine_->observed());
  } else {
    return make_error(Errc::kUnsupported, "unknown control operation \"%.40s\"", op.c_str());
  }
  out.end_object();
  return std::move(out).take();
}

namespace {
void write_decision(JsonWriter& out, const Policy& policy, const Decision& decision) {
  const char* verdict = decision.verdict == Verdict::kAllow
                            ? "allow"
                            : (decision.verdict == Verdict::kDeny ? "deny" : "ask_name");
  out.begin_object()
      .field("verdict", verdict)
      .field("rule", policy.rule_text(decision.rule))
      .field("rule_index", decision.rule)
      .field("reason", decision.reason)
      .end_object();
}
}  // namespace

Result<std::string> explain(Engine& engine, std::string_view target, std::string_view protocol) {
  FlowFacts facts;
  if (protocol == "udp")
    facts.protocol = FlowProtocol::kUdp;
  else if (protocol == "icmp")
    facts.protocol = FlowProtocol::kIcmp;
  else if (protocol != "tcp")
    return make_error(Errc::kInvalid, "protocol must be tcp, udp or icmp");
  if (facts.protocol != FlowProtocol::kTcp) facts.evidence = NameEvidence::kNever;
  std::string_view host = target;
  if (facts.protocol != FlowProtocol::kIcmp) {
    const std::size_t colon = target.rfind(':');
    const auto port = colon == std::string_view::npos ? std::nullopt : parse_port(target.substr(colon + 1));
    if (!port || *port == 0) return make_error(Errc::kInvalid, "expected HOST:PORT");
    facts.port = *port;
    host = target.substr(0, colon);
  }
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const Policy& policy = engine.policy();
  JsonWriter out;
  out.begin_object().field("target", target).field("protocol", protocol);
  if (const auto address = IpAddress::parse(host)) {
    facts.address = *address;
    const std::vector<Hostname> bound = engine.names().names_of(unmap(*address), SteadyClock().now());
    facts.bound_names = bound;
    out.field("class", address_class_name(engine.classifier().classify(*address))).key("connection");
    write_decision(out, policy, policy.judge_egress(facts, engine.classifier()));
  } else {
    MSB_ASSIGN(const Hostname name, Hostname::parse(host));
    const std::vector<Hostname> bound{name};
    out.key("lookup");
    write_decision(out, policy, policy.judge_lookup(name));
    // As it would be for a public address that the resolver handed out for this name, once the flow has shown
    // it.
    facts.address = IpAddress::v4(0x01010203);
    facts.bound_names = bound;
    if (facts.evidence == NameEvidence::kPending) facts.evidence = NameEvidence::kName;
    facts.shown_name = name;
    out.key("connection");
    write_decision(out, policy, policy.judge_egress(facts, engine.classifier()));
  }
  out.end_object();
  return std::move(out).take();
}

}  // namespace msb::net
