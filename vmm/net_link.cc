// SPDX-License-Identifier: Apache-2.0
#include "vmm/net_link.h"

#include <unistd.h>

#include <array>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "proto/agent.h"
#include "proto/net_spec.h"
#include "vmm/helpers.h"

namespace msb::vmm {
namespace {
constexpr std::size_t kMaxLine = 64 * 1024;
constexpr Duration kResolvConfEvery = std::chrono::seconds(1);
}  // namespace

using proto::FrameType;

Result<std::unique_ptr<NetLink>> NetLink::open(EventLoop& loop, UniqueFd control, UniqueFd audit,
                                               RotatedFile log) {
  std::unique_ptr<NetLink> link(new NetLink(loop, std::move(audit), std::move(log)));
  NetLink* const raw = link.get();
  MSB_ASSIGN(raw->stream_, FrameStream::open(loop, std::move(control), *raw));
  MSB_ASSIGN(raw->audit_token_,
             loop.add(raw->audit_.get(), EPOLLIN, [raw](std::uint32_t) { raw->on_audit(); }));
  return link;
}

NetLink::~NetLink() {
  if (audit_token_.valid()) loop_.remove(audit_token_);
}

void NetLink::ask(std::string_view request, Answer answer) {
  if (!stream_) {
    answer(FrameType::kError, R"({"code":"unavailable","errno":0,"stage":"net","text":"msb-net has gone"})");
    return;
  }
  waiting_.push_back(std::move(answer));
  stream_->send(FrameType::kRequest, request);
}

void NetLink::on_frame(FrameStream&, const proto::Frame& frame) {
  if (frame.type() == FrameType::kReady) return;
  if (frame.type() == FrameType::kEvent) return tell_resolv_conf();
  if (!waiting_.empty()) {
    const Answer answer = std::move(waiting_.front());
    waiting_.pop_front();
    answer(frame.type() == FrameType::kReply ? FrameType::kReply : FrameType::kError, as_text(frame.payload));
    return;
  }
  if (frame.type() != FrameType::kError) return;
  const auto error = proto::from_json<proto::ErrorReply>(as_text(frame.payload));
  if (error) failure_ = Error{errc_from_name(error->code), error->sys_errno, error->text};
}

// The file is replaced whenever the host changes its network; looking when a question is about to leave needs
// no watch.
void NetLink::tell_resolv_conf() {
  const Instant now = loop_.now();
  if (now - resolv_conf_at_ < kResolvConfEvery) return;
  resolv_conf_at_ = now;
  auto text = read_file("/etc/resolv.conf", proto::kMaxResolvConf);
  if (!text || *text == resolv_conf_) return;
  resolv_conf_ = std::move(text).value();
  JsonWriter request;
  request.begin_object().field("op", "resolv_conf").field("text", resolv_conf_).end_object();
  ask(std::move(request).take(), [](FrameType type, std::string_view payload) {
    if (type != FrameType::kReply)
      MSB_WARN("msb-net and resolv.conf: %.*s", static_cast<int>(payload.size()), payload.data());
  });
}

void NetLink::on_closed(FrameStream&, const std::string&) { FrameStream::dispose(loop_, std::move(stream_)); }

void NetLink::on_audit() {
  std::array<char, 65536> buffer;
  const ssize_t got = ::read(audit_.get(), buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    loop_.remove(audit_token_);
    audit_token_ = {};
    return;
  }
  partial_.append(buffer.data(), static_cast<std::size_t>(got));
  const std::size_t end = partial_.rfind('\n');
  if (end != std::string::npos) {
    log_.append(std::string_view(partial_).substr(0, end + 1));
    partial_.erase(0, end + 1);
  } else if (partial_.size() > kMaxLine) {
    partial_.clear();
  }
}

}  // namespace msb::vmm
