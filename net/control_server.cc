// SPDX-License-Identifier: Apache-2.0
#include "net/control_server.h"

#include <sys/socket.h>

#include <array>

#include "base/json.h"
#include "base/log.h"
#include "base/socket.h"

namespace msb::net {
namespace {
constexpr std::size_t kMaxQueued = 4 * 1024 * 1024;
}

std::string control_error_json(const Error& error) {
  JsonWriter out;
  out.begin_object().field("code", errc_name(error.code)).field("errno", error.sys_errno);
  out.field("stage", "net").field("text", error.text).end_object();
  return std::move(out).take();
}

Result<std::unique_ptr<ControlServer>> ControlServer::create(EventLoop& loop, UniqueFd socket,
                                                             Handler handler) {
  MSB_TRY(set_nonblocking(socket.get(), true));
  std::unique_ptr<ControlServer> out(new ControlServer(loop, std::move(socket), std::move(handler)));
  ControlServer* self = out.get();
  MSB_ASSIGN(out->token_,
             loop.add(out->socket_.get(), EPOLLIN, [self](std::uint32_t events) { self->on_event(events); }));
  return out;
}

ControlServer::~ControlServer() { stop(); }

void ControlServer::stop() {
  if (token_.valid()) loop_.remove(token_);
  token_ = {};
}

void ControlServer::announce(const std::string& json) {
  proto::append_frame(out_, proto::FrameType::kReady, std::string_view(json));
  flush();
}

void ControlServer::ask_for_resolv_conf() {
  if (!token_.valid() || !out_.empty()) return;
  proto::append_frame(out_, proto::FrameType::kEvent, std::string_view(R"({"event":"resolv_conf"})"));
  flush();
}

void ControlServer::answer(std::string_view request) {
  auto reply = handler_(request);
  if (reply && reply->size() <= proto::kMaxJsonPayload)
    return proto::append_frame(out_, proto::FrameType::kReply, std::string_view(*reply));
  const Error error = reply ? make_error(Errc::kLimit, "the reply is too large") : std::move(reply).error();
  proto::append_frame(out_, proto::FrameType::kError, std::string_view(control_error_json(error)));
}

void ControlServer::on_event(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) flush();
  if (!token_.valid() || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  std::array<std::uint8_t, 16384> buffer{};
  const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return stop();
  ByteView input = ByteView(buffer).first(static_cast<std::size_t>(got));
  while (true) {
    auto frame = decoder_.next(input);
    if (!frame) {
      MSB_WARN("control: %s", frame.error().text.c_str());
      return stop();
    }
    if (!frame->has_value()) break;
    if ((*frame)->type() != proto::FrameType::kRequest || out_.size() > kMaxQueued) return stop();
    answer(as_text((*frame)->payload));
  }
  flush();
}

void ControlServer::flush() {
  std::size_t done = 0;
  while (done < out_.size()) {
    const ssize_t sent =
        ::send(socket_.get(), out_.data() + done, out_.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return stop();
    if (sent < 0) break;
    done += static_cast<std::size_t>(sent);
  }
  out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(done));
  if (!token_.valid()) return;
  if (!loop_.modify(token_, EPOLLIN | (out_.empty() ? 0U : std::uint32_t{EPOLLOUT}))) stop();
}

}  // namespace msb::net
