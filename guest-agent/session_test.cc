// SPDX-License-Identifier: Apache-2.0
// Sessions and their clients: detaching, vanishing, stalling, ending; the control channel.
#include <cstring>

#include "guest-agent/output_history.h"
#include "guest-agent/test_support.h"

namespace msb::agent {
namespace {

using ControlKind = proto::ControlChannelEvent::Kind;

// The host's end of the control channel.
class TestControl {
 public:
  explicit TestControl(const AgentProcess& agent) : socket_(agent.control()), session_("test") { flush(); }
  proto::ControlSession& session() { return session_; }
  void flush() {
    const ByteView out = session_.outgoing();
    ASSERT_EQ(::send(socket_, out.data(), out.size(), MSG_NOSIGNAL), static_cast<ssize_t>(out.size()));
    session_.sent(out.size());
  }
  std::optional<proto::ControlChannelEvent> next() {
    while (true) {
      auto event = session_.next(input_);
      EXPECT_TRUE(event.ok());
      if (!event.ok()) return std::nullopt;
      if (event->has_value()) return std::move(**event);
      buffer_.resize(65'536);
      const ssize_t got = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
      if (got <= 0) return std::nullopt;
      input_ = ByteView(buffer_).first(static_cast<std::size_t>(got));
    }
  }

 private:
  int socket_;
  proto::ControlSession session_;
  Bytes buffer_;
  ByteView input_;
};

// Waits until the agent lists no session: each question is a round trip, so this does not spin for long.
void wait_until_no_session(const AgentProcess& agent) {
  for (int i = 0; i < 10'000; ++i) {
    if (sessions(agent).sessions.empty()) return;
  }
  FAIL() << "sessions are left";
}

TEST(DetachTest, SessionLivesOn_AndIsAttachedWithItsOutput) {
  const AgentProcess agent;
  proto::ExecRequest request = shell("echo one; read line; echo two; exit 4");
  request.detachable = true;
  request.stdin_open = true;
  request.name = "worker";
  std::uint64_t id = 0;
  {
    TestClient client(agent);
    client.start({request});
    const ExecResult result = client.until_output("one\n");
    id = result.started.session;
    client.session().detach();
    client.flush();
    const auto reply = client.next();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->kind, proto::AgentEvent::Kind::kReply);
  }
  const proto::SessionList list = sessions(agent);
  ASSERT_EQ(list.sessions.size(), 1U);
  EXPECT_EQ(list.sessions[0].id, id);
  EXPECT_EQ(list.sessions[0].name, "worker");
  EXPECT_FALSE(list.sessions[0].attached);

  TestClient client(agent);
  client.start({proto::AttachRequest{id, std::nullopt, false}});
  ExecResult result = client.until_output("one\n");
  client.session().write_stdin(as_bytes(std::string_view("\n")));
  client.flush();
  result = client.finish(std::move(result));
  EXPECT_EQ(result.out, "one\ntwo\n");
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 4);
}

TEST(DetachTest, VanishedClientOfADetachableSession_LosesNothing) {
  const AgentProcess agent;
  proto::ExecRequest request = shell("echo before; read line; echo after");
  request.detachable = true;
  request.stdin_open = true;
  TestClient first(agent);
  first.start({request});
  const std::uint64_t id = first.until_output("before\n").started.session;
  first.close();
  // Attached as soon as the agent has noticed.
  ExecResult result;
  for (int i = 0; i < 10'000; ++i) {
    TestClient second(agent);
    second.start({proto::AttachRequest{id, 7, false}});
    auto event = second.next();
    ASSERT_TRUE(event.has_value());
    if (event->kind == proto::AgentEvent::Kind::kError) {
      EXPECT_EQ(event->error.code, "busy");
      continue;
    }
    EXPECT_EQ(event->started.from, 7U);
    second.session().write_stdin(as_bytes(std::string_view("\n")));
    second.flush();
    result = second.finish();
    break;
  }
  EXPECT_EQ(result.out, "after\n");
}

TEST(DetachTest, EndedSession_KeepsItsEndUntilFetched) {
  const AgentProcess agent;
  proto::ExecRequest request = shell("read line; echo end; exit 9");
  request.detachable = true;
  request.stdin_open = true;
  TestClient first(agent);
  first.session().request({request});
  auto started = first.next();
  ASSERT_TRUE(started.has_value());
  const std::uint64_t id = started->started.session;
  first.session().write_stdin(as_bytes(std::string_view("\n")));
  first.session().detach();
  first.flush();
  while (first.next()) {
  }
  for (int i = 0; i < 10'000; ++i) {
    const proto::SessionList list = sessions(agent);
    ASSERT_EQ(list.sessions.size(), 1U);
    if (list.sessions[0].exit) break;
  }
  TestClient second(agent);
  second.start({proto::AttachRequest{id, std::nullopt, false}});
  const ExecResult result = second.finish();
  EXPECT_EQ(result.out, "end\n");
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 9);
}

TEST(DetachTest, SecondClient_IsBusyOrSteals) {
  const AgentProcess agent;
  proto::ExecRequest request = shell("echo up; read line; echo got $line");
  request.detachable = true;
  request.stdin_open = true;
  TestClient first(agent);
  first.start({request});
  const std::uint64_t id = first.until_output("up\n").started.session;
  TestClient refused(agent);
  refused.start({proto::AttachRequest{id, std::nullopt, false}});
  EXPECT_EQ(refused.finish().error->code, "busy");
  TestClient thief(agent);
  thief.start({proto::AttachRequest{id, std::nullopt, true}});
  ExecResult result = thief.until_output("up\n");
  EXPECT_EQ(first.finish().error->code, "busy");
  thief.session().write_stdin(as_bytes(std::string_view("x\n")));
  thief.flush();
  EXPECT_EQ(thief.finish(std::move(result)).out, "up\ngot x\n");
}

TEST(ClientTest, VanishedClient_EndsItsSession) {
  const AgentProcess agent;
  TestClient client(agent);
  client.start({shell("trap '' HUP; echo up; sleep 1000; sleep 1000")});
  (void)client.until_output("up\n");
  EXPECT_EQ(sessions(agent).sessions.size(), 1U);
  client.close();
  wait_until_no_session(agent);
}

TEST(ClientTest, StalledClient_StallsOnlyItself) {
  const AgentProcess agent;
  TestClient stalled(agent);
  stalled.start({command({"/usr/bin/yes"})});
  TestClient unread(agent);
  proto::ExecRequest deaf = shell("sleep 1000");
  deaf.stdin_open = true;
  unread.session().request({deaf});
  unread.session().write_stdin(as_bytes(std::string(std::size_t{3} << 20, 'x')));
  for (int i = 0; i < 64; ++i) {
    const ByteView out = unread.session().outgoing();
    const ssize_t sent = ::send(unread.socket(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) unread.session().sent(static_cast<std::size_t>(sent));
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(run(agent, shell("echo hi")).out, "hi\n");
}

TEST(ClientTest, Garbage_EndsOnlyThatConnection) {
  const AgentProcess agent;
  Bytes hello;
  append_frame(hello, proto::FrameType::kHello, R"({"version":1,"min":1})");
  Bytes bad_request = hello;
  append_frame(bad_request, proto::FrameType::kRequest, "{not json");
  Bytes wrong_type = hello;
  append_frame(wrong_type, proto::FrameType::kStdin, "x");
  Bytes deep = hello;
  append_frame(deep, proto::FrameType::kRequest, std::string(50'000, '['));
  const std::vector<std::string> inputs{"GET / HTTP/1.1\r\n\r\n",         std::string(1000, '\xff'),
                                        std::string(4096, '\0'),          std::string(as_text(bad_request)),
                                        std::string(as_text(wrong_type)), std::string(as_text(deep))};
  for (const std::string& input : inputs) {
    const UniqueFd socket = agent.connect();
    (void)::send(socket.get(), input.data(), input.size(), MSG_NOSIGNAL);
    char buffer[4096];
    while (::recv(socket.get(), buffer, sizeof buffer, 0) > 0) {
    }
  }
  EXPECT_EQ(run(agent, shell("echo fine")).out, "fine\n");
}

TEST(ClientTest, KillAndInfo) {
  const AgentProcess agent;
  TestClient client(agent);
  client.start({shell("echo up; sleep 1000")});
  const ExecResult started = client.until_output("up\n");
  TestClient asker(agent);
  asker.start({proto::InfoRequest{}});
  const auto reply = asker.next();
  ASSERT_TRUE(reply.has_value());
  const auto info = proto::from_json<proto::GuestInfo>(as_text(reply->data));
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->sessions, 1U);
  EXPECT_GT(info->memory_total, info->memory_available);
  EXPECT_GT(info->cpu_busy_ns, 0U);
  TestClient killer(agent);
  killer.start({proto::KillRequest{started.started.session, SIGKILL}});
  const auto answer = killer.next();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->kind, proto::AgentEvent::Kind::kReply);
  EXPECT_EQ(client.finish().exit->signal, SIGKILL);
}

TEST(ControlTest, ReadyLogAndSessionEvents) {
  const AgentProcess agent;
  TestControl control(agent);
  EXPECT_EQ(control.next()->kind, ControlKind::kReady);
  proto::ExecRequest request = shell("echo logged; exit 2");
  request.log = true;
  request.name = "main";
  EXPECT_EQ(run(agent, request).out, "logged\n");
  const auto started = control.next();
  ASSERT_TRUE(started.has_value());
  EXPECT_EQ(started->event.kind, proto::ControlEvent::Kind::kSessionStarted);
  EXPECT_EQ(started->event.name, "main");
  const auto log = control.next();
  ASSERT_TRUE(log.has_value());
  ASSERT_EQ(log->kind, ControlKind::kLog);
  EXPECT_EQ(as_text(log->log.data), "logged\n");
  const auto exited = control.next();
  ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->event.kind, proto::ControlEvent::Kind::kSessionExited);
  EXPECT_EQ(exited->event.exit->code, 2);
}

TEST(ControlTest, SlowHost_LosesCountedLogBytes_AndBlocksNobody) {
  const AgentProcess agent;
  TestControl control(agent);
  EXPECT_EQ(control.next()->kind, ControlKind::kReady);
  constexpr std::size_t kBytes = std::size_t{8} << 20;
  proto::ExecRequest request = shell("head -c 8388608 /dev/zero; echo; echo last");
  request.log = true;
  const ExecResult result = run(agent, request);
  EXPECT_EQ(result.out.size(), kBytes + 6);
  // A second line after the host has caught up carries the count.
  std::uint64_t received = 0;
  std::uint64_t dropped = 0;
  while (true) {
    const auto event = control.next();
    ASSERT_TRUE(event.has_value());
    if (event->kind == ControlKind::kLog) {
      received += event->log.data.size();
      dropped += event->log.dropped;
    }
    if (event->kind == ControlKind::kEvent && event->event.kind == proto::ControlEvent::Kind::kSessionExited)
      break;
  }
  EXPECT_LT(received, kBytes);
  EXPECT_LE(received + dropped, kBytes + 6);
}

TEST(ShutdownTest, SessionsGetTheirSignalAndTime) {
  const AgentProcess agent;
  TestControl control(agent);
  EXPECT_EQ(control.next()->kind, ControlKind::kReady);
  TestClient client(agent);
  client.start({shell("trap 'echo cleaned; exit 5' TERM; echo up; while :; do sleep 0.05; done")});
  ExecResult result = client.until_output("up\n");
  control.session().shutdown({60'000, 0});
  control.flush();
  result = client.finish(std::move(result));
  EXPECT_EQ(result.out, "up\ncleaned\n");
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 5);
  EXPECT_EQ(control.next()->kind, ControlKind::kShutdownDone);
}

TEST(ShutdownTest, SessionThatIgnoresIt_IsKilledAfterTheGracePeriod) {
  const AgentProcess agent;
  TestControl control(agent);
  EXPECT_EQ(control.next()->kind, ControlKind::kReady);
  TestClient client(agent);
  client.start({shell("trap '' TERM; echo up; sleep 1000; sleep 1000")});
  ExecResult result = client.until_output("up\n");
  control.session().shutdown({50, 0});
  control.flush();
  result = client.finish(std::move(result));
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->signal, SIGKILL);
  EXPECT_EQ(control.next()->kind, ControlKind::kShutdownDone);
}

TEST(OutputHistoryTest, OldestGoFirst_AndReplayStartsAnywhere) {
  OutputHistory history;
  const std::string block(10'000, 'a');
  for (int i = 0; i < 200; ++i) history.append(proto::FrameType::kStdout, as_bytes(block));
  history.append(proto::FrameType::kStderr, as_bytes(std::string_view("tail")));
  EXPECT_EQ(history.end(), 2'000'004U);
  EXPECT_LE(history.end() - history.begin(), OutputHistory::kMaxBytes);
  std::string replayed;
  history.replay(history.end() - 6, [&](proto::FrameType, ByteView data) { replayed += as_text(data); });
  EXPECT_EQ(replayed, "aatail");
  std::uint64_t total = 0;
  history.replay(0, [&](proto::FrameType, ByteView data) { total += data.size(); });
  EXPECT_EQ(total, history.end() - history.begin());
}

}  // namespace
}  // namespace msb::agent
