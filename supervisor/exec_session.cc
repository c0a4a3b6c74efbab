// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include <algorithm>

#include "supervisor/exec_session_impl.h"

namespace msb::supervisor {
namespace {

constexpr std::size_t kMaxQueuedStdin = std::size_t{256} << 10;
constexpr std::size_t kStdinChunk = std::size_t{64} << 10;

ExecExit exit_from(const proto::Exit& exit) { return {exit.code, exit.signal, exit.timed_out}; }

}  // namespace

ExecSession::ExecSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExecSession::ExecSession(ExecSession&&) noexcept = default;
ExecSession& ExecSession::operator=(ExecSession&&) noexcept = default;
ExecSession::~ExecSession() = default;

int ExecSession::fd() const { return impl_->link.fd(); }
short ExecSession::wanted_events() const { return impl_->link.wanted_events(); }
bool ExecSession::ended() const { return impl_->ended; }

Result<std::optional<ExecEvent>> ExecSession::next_event() {
  Impl& impl = *impl_;
  if (impl.ended) return make_error(Errc::kUnavailable, "the command has ended");
  // A peer that is gone may still have left frames to read: what could not be sent is judged after them.
  (void)impl.link.flush().ok();
  for (;;) {
    MSB_ASSIGN(const auto raw, impl.link.next());
    if (!raw) return std::optional<ExecEvent>{};
    MSB_ASSIGN(const auto frame, skip_hello(*raw));
    if (!frame) continue;
    ExecEvent event;
    switch (frame->type()) {
      case proto::FrameType::kStarted: {
        MSB_ASSIGN(const auto started, proto::from_json<proto::Started>(as_text(frame->payload)));
        event.kind = ExecEvent::Kind::kStarted;
        event.session = started.session;
        return std::optional<ExecEvent>(event);
      }
      case proto::FrameType::kStdout:
      case proto::FrameType::kStderr:
        event.kind =
            frame->type() == proto::FrameType::kStdout ? ExecEvent::Kind::kStdout : ExecEvent::Kind::kStderr;
        event.data = as_text(frame->payload);
        return std::optional<ExecEvent>(event);
      case proto::FrameType::kExit: {
        MSB_ASSIGN(const auto exit, proto::from_json<proto::Exit>(as_text(frame->payload)));
        event.kind = ExecEvent::Kind::kExit;
        event.exit = exit_from(exit);
        impl.ended = true;
        return std::optional<ExecEvent>(event);
      }
      case proto::FrameType::kError: {
        MSB_ASSIGN(auto error, proto::from_json<proto::ErrorReply>(as_text(frame->payload)));
        event.kind = ExecEvent::Kind::kFailure;
        event.failure = {std::move(error.code), error.sys_errno, std::move(error.stage),
                         std::move(error.text)};
        impl.ended = true;
        return std::optional<ExecEvent>(std::move(event));
      }
      case proto::FrameType::kPong:
        continue;
      default:
        return make_error(Errc::kProtocol, "the guest's agent sent a frame of type %u",
                          static_cast<unsigned>(frame->raw_type));
    }
  }
}

Result<ExecEvent> ExecSession::wait_event(Deadline deadline) {
  for (;;) {
    MSB_ASSIGN(auto event, next_event());
    if (event) return std::move(*event);
    MSB_TRY(wait_for(fd(), wanted_events(), deadline).with_context("wait for the command"));
  }
}

std::size_t ExecSession::stdin_room() const {
  const std::size_t queued = impl_->link.queued_bytes();
  return impl_->stdin_closed || queued >= kMaxQueuedStdin ? 0 : kMaxQueuedStdin - queued;
}

Result<std::size_t> ExecSession::write_stdin(std::string_view data) {
  std::size_t taken = 0;
  while (taken < data.size() && stdin_room() != 0) {
    const std::size_t chunk = std::min({data.size() - taken, kStdinChunk, stdin_room()});
    impl_->link.queue(proto::FrameType::kStdin, data.substr(taken, chunk));
    taken += chunk;
  }
  MSB_TRY(impl_->link.flush());
  return taken;
}

Status ExecSession::close_stdin() {
  if (impl_->stdin_closed) return {};
  impl_->stdin_closed = true;
  impl_->link.queue(proto::FrameType::kStdinEof);
  return impl_->link.flush();
}

Status ExecSession::send_signal(int signal) {
  proto::SignalMessage message;
  message.signal = signal;
  impl_->link.queue(proto::FrameType::kSignal, proto::to_json(message));
  return impl_->link.flush();
}

Status ExecSession::resize(TerminalSize size) {
  proto::Resize message;
  message.size = {size.rows, size.cols};
  impl_->link.queue(proto::FrameType::kResize, proto::to_json(message));
  return impl_->link.flush();
}

Status ExecSession::detach() {
  impl_->link.queue(proto::FrameType::kDetach);
  return impl_->link.flush_all(deadline_after(std::chrono::seconds(5)));
}

}  // namespace msb::supervisor
