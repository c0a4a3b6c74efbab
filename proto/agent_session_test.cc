// SPDX-License-Identifier: Apache-2.0
#include "proto/agent_session.h"

#include <gtest/gtest.h>

#include <vector>

namespace msb::proto {
namespace {

using Kind = AgentEvent::Kind;

Bytes agent_says(const std::vector<std::pair<FrameType, std::string>>& frames) {
  Bytes out;
  append_frame(out, FrameType::kHello, to_json(Hello{1, 1, "agent"}));
  for (const auto& [type, payload] : frames) append_frame(out, type, payload);
  return out;
}

std::vector<Kind> kinds(AgentSession& session, ByteView stream, std::size_t piece) {
  std::vector<Kind> out;
  while (!stream.empty()) {
    ByteView input = stream.first(std::min(piece, stream.size()));
    stream = stream.subspan(input.size());
    while (true) {
      auto event = session.next(input);
      EXPECT_TRUE(event.ok());
      if (!event.ok() || !event->has_value()) break;
      out.push_back((*event)->kind);
    }
  }
  return out;
}

TEST(AgentSessionTest, Exec_GreetingAndRequestGoOutTogether) {
  AgentSession session("test", AgentSession::Transport::kVsockProxy);
  ExecRequest exec;
  exec.argv = {"true"};
  session.request(Request{exec});
  const std::string_view text = as_text(session.outgoing());
  EXPECT_TRUE(text.starts_with("CONNECT 1024\n"));
  EXPECT_NE(text.find(R"({"op":"exec","argv":["true"]})"), std::string_view::npos);
  session.sent(text.size());
  EXPECT_TRUE(session.outgoing().empty());
}

TEST(AgentSessionTest, Exec_EventsUntilExit_HoweverCut) {
  const std::string answer = "OK 77\n";
  Bytes stream(answer.begin(), answer.end());
  const Bytes frames = agent_says({{FrameType::kStarted, R"({"session":1,"pid":5})"},
                                   {FrameType::kStdout, "out"},
                                   {FrameType::kStderr, "err"},
                                   {FrameType::kExit, R"({"code":3})"},
                                   {FrameType::kStdout, "after the end"}});
  stream.insert(stream.end(), frames.begin(), frames.end());
  for (const std::size_t piece : {1U, 3U, 64U, 4096U}) {
    AgentSession session("test", AgentSession::Transport::kVsockProxy);
    EXPECT_EQ(kinds(session, stream, piece),
              (std::vector<Kind>{Kind::kStarted, Kind::kStdout, Kind::kStderr, Kind::kExit}));
    EXPECT_TRUE(session.finished());
  }
}

TEST(AgentSessionTest, Read_EndsWithTheContents) {
  AgentSession session("test", AgentSession::Transport::kDirect);
  FileRequest request;
  request.op = FileOp::kRead;
  request.path = "/x";
  session.request(Request{request});
  const Bytes stream =
      agent_says({{FrameType::kReply, "{}"}, {FrameType::kData, "abc"}, {FrameType::kDataEof, ""}});
  EXPECT_EQ(kinds(session, stream, 4096), (std::vector<Kind>{Kind::kReply, Kind::kData, Kind::kDataEof}));
  EXPECT_TRUE(session.finished());
}

Errc failure(std::string_view stream, AgentSession::Transport transport) {
  AgentSession session("test", transport);
  ByteView input = as_bytes(stream);
  while (true) {
    auto event = session.next(input);
    if (!event.ok()) return event.error().code;
    if (!event->has_value()) return Errc::kInternal;
  }
}

TEST(AgentSessionTest, ProxyThatRefuses_IsUnavailable) {
  for (const char* text : {"NO\n", "OK \n", "OK x\n", "\n", "OK 12345678901234567890"}) {
    EXPECT_EQ(failure(text, AgentSession::Transport::kVsockProxy), Errc::kUnavailable) << text;
  }
}

TEST(AgentSessionTest, NoHelloOrOtherVersion_IsRefused) {
  Bytes stream;
  append_frame(stream, FrameType::kStdout, "hi");
  EXPECT_EQ(failure(as_text(stream), AgentSession::Transport::kDirect), Errc::kProtocol);
  stream.clear();
  append_frame(stream, FrameType::kHello, R"({"version":9,"min":8})");
  EXPECT_EQ(failure(as_text(stream), AgentSession::Transport::kDirect), Errc::kUnsupported);
}

TEST(ControlSessionTest, ReadyLogAndDone) {
  ControlSession session("test");
  session.shutdown({5, 15});
  EXPECT_NE(as_text(session.outgoing()).find("grace_ms"), std::string_view::npos);
  Bytes stream =
      agent_says({{FrameType::kReady, R"({"ready_ns":7})"}, {FrameType::kEvent, R"({"event":"new"})"}});
  append_log_frame(stream, {1, 0, LogStream::kStdout, as_bytes("line")});
  append_frame(stream, FrameType::kShutdownDone);
  ByteView input = stream;
  std::vector<ControlChannelEvent::Kind> seen;
  while (true) {
    auto event = session.next(input);
    ASSERT_TRUE(event.ok());
    if (!event->has_value()) break;
    seen.push_back((*event)->kind);
  }
  EXPECT_EQ(seen, (std::vector<ControlChannelEvent::Kind>{ControlChannelEvent::Kind::kReady,
                                                          ControlChannelEvent::Kind::kLog,
                                                          ControlChannelEvent::Kind::kShutdownDone}));
}

}  // namespace
}  // namespace msb::proto
