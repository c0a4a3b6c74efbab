// SPDX-License-Identifier: Apache-2.0
// Commands in a running sandbox.
#include <algorithm>

#include "base/file.h"
#include "supervisor/exec_session_impl.h"
#include "supervisor/sandbox_impl.h"
#include "supervisor/vm_spec_builder.h"

namespace msb::supervisor {
namespace {

constexpr auto kConnectDeadline = std::chrono::seconds(20);

Error failure_error(const ExecFailure& failure, const std::vector<std::string>& argv) {
  Errc code = Errc::kSystem;
  if (failure.code == "not_found" || failure.code == "bad_cwd") code = Errc::kNotFound;
  if (failure.code == "not_executable" || failure.code == "permission") code = Errc::kPermission;
  if (failure.code == "bad_user" || failure.code == "bad_args") code = Errc::kInvalid;
  if (failure.code == "limit" || failure.code == "no_memory") code = Errc::kLimit;
  return Error{code, failure.sys_errno,
               "run " + (argv.empty() ? std::string("the command") : argv.front()) + ": " + failure.text};
}

void collect(std::string& out, std::string_view data, std::size_t max, bool& truncated) {
  const std::size_t room = max - out.size();
  if (data.size() > room) truncated = true;
  out.append(data.substr(0, room));
}

}  // namespace

Result<ExecSession> Sandbox::exec(const ExecSpec& spec) {
  if (spec.argv.empty()) return make_error(Errc::kInvalid, "no command is given");
  auto link = connect_agent(impl_->directory.get(), deadline_after(kConnectDeadline));
  if (!link.ok()) {
    if (link.error().code != Errc::kUnavailable && link.error().code != Errc::kNotFound)
      return std::move(link).error();
    MSB_ASSIGN(const DerivedState derived, impl_->derived());
    return make_error(Errc::kUnavailable, "\"%s\" is %s", impl_->name.c_str(),
                      std::string(state_name(derived.state)).c_str());
  }
  queue_request(*link, proto::to_json(to_request(spec)));
  MSB_TRY(link->flush());
  return ExecSession(std::make_unique<ExecSession::Impl>(std::move(link).value()));
}

Result<ExecResult> Sandbox::run(const ExecSpec& spec, std::string_view input, Deadline deadline,
                                std::size_t max_output) {
  ExecSpec wanted = spec;
  wanted.stdin_open = !input.empty();
  MSB_ASSIGN(ExecSession session, exec(wanted));
  ExecResult result;
  for (;;) {
    if (wanted.stdin_open && !input.empty()) {
      MSB_ASSIGN(const std::size_t taken, session.write_stdin(input));
      input.remove_prefix(taken);
      if (input.empty()) MSB_TRY(session.close_stdin());
    }
    MSB_ASSIGN(const auto next, session.next_event());
    if (!next) {
      // Input that is left has filled the queue, so the wait ends when there is room again.
      MSB_TRY(wait_for(session.fd(), session.wanted_events(), deadline));
      continue;
    }
    const ExecEvent& event = *next;
    switch (event.kind) {
      case ExecEvent::Kind::kStarted:
        break;
      case ExecEvent::Kind::kStdout:
        collect(result.out, event.data, max_output, result.truncated);
        break;
      case ExecEvent::Kind::kStderr:
        collect(result.err, event.data, max_output, result.truncated);
        break;
      case ExecEvent::Kind::kFailure:
        return failure_error(event.failure, spec.argv);
      case ExecEvent::Kind::kExit:
        result.exit = event.exit;
        return result;
    }
  }
}

Result<std::vector<SessionSummary>> Sandbox::sessions() {
  const Deadline deadline = deadline_after(kConnectDeadline);
  MSB_ASSIGN(FrameLink link, connect_agent(impl_->directory.get(), deadline));
  queue_request(link, proto::to_json(proto::SessionsRequest{}));
  MSB_ASSIGN(const std::string reply, wait_reply(link, deadline));
  MSB_ASSIGN(const auto list, proto::from_json<proto::SessionList>(reply));
  std::vector<SessionSummary> out;
  for (const proto::SessionInfo& info : list.sessions) {
    SessionSummary summary;
    summary.id = info.id;
    summary.pid = info.pid;
    summary.name = info.name;
    summary.argv = info.argv;
    summary.user = info.user;
    summary.tty = info.tty;
    summary.detachable = info.detachable;
    summary.attached = info.attached;
    summary.started_ns = info.started_ns;
    if (info.exit) summary.exit = ExecExit{info.exit->code, info.exit->signal, info.exit->timed_out};
    out.push_back(std::move(summary));
  }
  return out;
}

Result<ExecSession> Sandbox::attach(std::uint64_t session, bool steal) {
  if (session == 0) {
    MSB_ASSIGN(const auto all, sessions());
    std::vector<std::uint64_t> found;
    std::vector<std::uint64_t> ended;  // their last output and exit can be had once more
    for (const SessionSummary& summary : all) {
      if (summary.detachable) (summary.exit ? ended : found).push_back(summary.id);
    }
    if (found.empty()) found = std::move(ended);
    if (found.empty())
      return make_error(Errc::kNotFound, "\"%s\" has no session to attach to", impl_->name.c_str());
    if (found.size() > 1) {
      std::string list;
      for (const std::uint64_t id : found) list += (list.empty() ? "" : ", ") + std::to_string(id);
      return make_error(Errc::kInvalid, "\"%s\" has several sessions: say which (%s)", impl_->name.c_str(),
                        list.c_str());
    }
    session = found.front();
  }
  proto::AttachRequest request;
  request.session = session;
  request.steal = steal;
  MSB_ASSIGN(FrameLink link, connect_agent(impl_->directory.get(), deadline_after(kConnectDeadline)));
  queue_request(link, proto::to_json(request));
  MSB_TRY(link.flush());
  return ExecSession(std::make_unique<ExecSession::Impl>(std::move(link)));
}

Status Sandbox::signal(std::uint64_t session, int signal) {
  std::vector<std::uint64_t> targets = {session};
  if (session == 0) {
    targets.clear();
    MSB_ASSIGN(const auto all, sessions());
    for (const SessionSummary& summary : all) {
      if (!summary.exit) targets.push_back(summary.id);
    }
  }
  for (const std::uint64_t target : targets) {
    const Deadline deadline = deadline_after(kConnectDeadline);
    proto::KillRequest request;
    request.session = target;
    request.signal = signal;
    MSB_ASSIGN(FrameLink link, connect_agent(impl_->directory.get(), deadline));
    queue_request(link, proto::to_json(request));
    MSB_TRY(wait_reply(link, deadline));
  }
  return {};
}

struct EventStream::Impl {
  explicit Impl(FrameLink connection) : link(std::move(connection)) {}
  FrameLink link;
};
EventStream::EventStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventStream::EventStream(EventStream&&) noexcept = default;
EventStream& EventStream::operator=(EventStream&&) noexcept = default;
EventStream::~EventStream() = default;
int EventStream::fd() const { return impl_->link.fd(); }

Result<std::optional<std::string>> EventStream::next() {
  for (;;) {
    MSB_ASSIGN(const auto raw, impl_->link.next());
    if (!raw) return std::optional<std::string>{};
    MSB_ASSIGN(const auto frame, skip_hello(*raw));
    if (!frame || frame->type() == proto::FrameType::kReply) continue;
    if (frame->type() == proto::FrameType::kError) return error_from_frame(*frame, "events");
    if (frame->type() == proto::FrameType::kEvent) return std::optional<std::string>(as_text(frame->payload));
  }
}

Result<std::string> EventStream::wait(Deadline deadline) {
  for (;;) {
    MSB_TRY(impl_->link.flush());
    MSB_ASSIGN(auto event, next());
    if (event) return std::move(*event);
    MSB_TRY(wait_for(fd(), impl_->link.wanted_events(), deadline));
  }
}

Result<EventStream> Sandbox::events() {
  MSB_ASSIGN(FrameLink link, connect_control(impl_->directory.get()));
  queue_request(link, R"({"op":"events"})");
  MSB_TRY(link.flush_all(deadline_after(kConnectDeadline)));
  return EventStream(std::make_unique<EventStream::Impl>(std::move(link)));
}

}  // namespace msb::supervisor
