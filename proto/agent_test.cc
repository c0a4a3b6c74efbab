// SPDX-License-Identifier: Apache-2.0
// Every message against its golden file: the bytes of one frame. A change of a golden file is a change of the
// protocol. MSB_WRITE_GOLDEN=1 writes the files anew.
#include "proto/agent.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "proto/frame.h"
#include "proto/guest_config.h"

namespace msb::proto {
namespace {

// Tests run at the top of the source tree.
std::string golden_path(const std::string& name) { return "proto/golden/" + name + ".frame"; }

template <typename Message>
void expect_golden(const std::string& name, FrameType type, const Message& message) {
  Bytes frame;
  append_frame(frame, type, to_json(message));
  if (std::getenv("MSB_WRITE_GOLDEN") != nullptr) {
    auto fd = open_file(golden_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_TRUE(fd.ok());
    ASSERT_TRUE(write_all(fd->get(), as_text(frame)).ok());
  }
  const auto golden = read_file(golden_path(name), kMaxFramePayload);
  ASSERT_TRUE(golden.ok()) << name;
  EXPECT_EQ(as_text(frame), *golden) << name;

  FrameDecoder decoder;
  ByteView input = as_bytes(*golden);
  auto next = decoder.next(input);
  ASSERT_TRUE(next.ok() && next->has_value()) << name;
  EXPECT_EQ((*next)->type(), type);
  auto parsed = from_json<Message>(as_text((*next)->payload));
  ASSERT_TRUE(parsed.ok()) << name << ": " << parsed.error().text;
  EXPECT_EQ(to_json(*parsed), as_text((*next)->payload)) << name << " does not survive parsing";
}

ExecRequest full_exec() {
  ExecRequest request;
  request.argv = {"/bin/echo", "h\xc3\xa9", "\xff\xfe"};
  request.env = {"A=1", "B=\xff"};
  request.image_defaults = false;
  request.cwd = "/tmp";
  request.user = "1000:users";
  request.groups = {"wheel", "27"};
  request.rlimits = {{"nofile", 1024, std::nullopt}, {"core", 0, 0}};
  request.tty = ExecRequest::Tty{{50, 132}, "xterm-256color"};
  request.stdin_open = true;
  request.timeout_ms = 1500;
  request.name = "build";
  request.detachable = true;
  request.log = true;
  return request;
}

TEST(AgentGoldenTest, Handshake) {
  expect_golden("hello", FrameType::kHello, Hello{1, 1, "msb-agent 0.1.0"});
  expect_golden("error", FrameType::kError, ErrorReply{"not_found", 2, "exec", "run \xff: no such file"});
}

TEST(AgentGoldenTest, Requests) {
  expect_golden("exec_full", FrameType::kRequest, Request{full_exec()});
  ExecRequest plain;
  plain.argv = {"true"};
  expect_golden("exec_plain", FrameType::kRequest, Request{plain});
  expect_golden("attach", FrameType::kRequest, Request{AttachRequest{7, 4096, true}});
  expect_golden("attach_all", FrameType::kRequest, Request{AttachRequest{7, std::nullopt, false}});
  expect_golden("sessions", FrameType::kRequest, Request{SessionsRequest{}});
  expect_golden("kill", FrameType::kRequest, Request{KillRequest{7, 9}});
  expect_golden("info", FrameType::kRequest, Request{InfoRequest{}});
  expect_golden("ping", FrameType::kRequest, Request{PingRequest{}});
}

FileRequest file_request(FileOp op) {
  FileRequest request;
  request.op = op;
  request.path = "/a/\xff";
  request.to = "/b";
  request.offset = op == FileOp::kRead ? 10 : 0;
  request.length = 100;
  request.mode = 0640;
  request.owner = "app:1000";
  request.mtime_ns = 1'700'000'000'123'456'789;
  request.parents = request.recursive = request.missing_ok = request.no_replace = request.follow = true;
  return request;
}

TEST(AgentGoldenTest, FileRequests) {
  for (int i = 0; i <= static_cast<int>(FileOp::kTreeIn); ++i) {
    const auto op = static_cast<FileOp>(i);
    expect_golden("file_" + std::string(file_op_name(op)), FrameType::kRequest, Request{file_request(op)});
  }
}

FileInfo link_info() {
  FileInfo info;
  info.kind = FileKind::kSymlink;
  info.mode = 0777;
  info.uid = 1;
  info.gid = 2;
  info.size = 3;
  info.nlink = 1;
  info.inode = 4;
  info.device = 5;
  info.mtime_ns = -6;
  info.atime_ns = 7;
  info.ctime_ns = 8;
  info.target = "../x";
  return info;
}

TEST(AgentGoldenTest, FileReplies) {
  expect_golden("file_info", FrameType::kReply, link_info());
  FileInfo device;
  device.kind = FileKind::kCharDevice;
  device.rdev = 0x501;
  expect_golden("dir_batch", FrameType::kEntry, DirBatch{{{"console", device}, {"\xff", link_info()}}});
  expect_golden("path_reply", FrameType::kReply, PathReply{"/real/path"});
  TreeEntry file;
  file.path = "d/f";
  file.mode = 04755;
  file.uid = 0;
  file.gid = 10;
  file.mtime_ns = 1'600'000'000'000'000'001;
  file.size = 1 << 20;
  expect_golden("tree_file", FrameType::kEntry, file);
  file.link = "d/e";
  expect_golden("tree_hardlink", FrameType::kEntry, file);
  TreeEntry link;
  link.kind = FileKind::kSymlink;
  link.target = "/etc/passwd";
  expect_golden("tree_symlink", FrameType::kEntry, link);
  expect_golden("watch_event", FrameType::kEvent, WatchEvent{WatchEvent::Kind::kMovedTo, "a", true, 9});
}

TEST(AgentGoldenTest, SessionMessages) {
  expect_golden("started", FrameType::kStarted, Started{3, 41, 100, true});
  expect_golden("exit_code", FrameType::kExit, Exit{3, std::nullopt, false, false});
  expect_golden("exit_signal", FrameType::kExit, Exit{std::nullopt, 9, true, true});
  expect_golden("signal", FrameType::kSignal, SignalMessage{15});
  expect_golden("resize", FrameType::kResize, Resize{{24, 80}});
  SessionInfo info;
  info.id = 3;
  info.pid = 41;
  info.name = "n";
  info.argv = {"sh"};
  info.user = "root";
  info.tty = info.detachable = info.attached = true;
  info.started_ns = 1;
  info.output_end = 2;
  info.exit = Exit{0, std::nullopt, false, false};
  expect_golden("session_list", FrameType::kReply, SessionList{{info}, true});
  expect_golden("guest_info", FrameType::kReply, GuestInfo{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
}

TEST(AgentGoldenTest, ControlMessages) {
  expect_golden("ready", FrameType::kReady, Ready{1, 2, 3, "6.12.0", {"net: no such device"}});
  expect_golden("shutdown", FrameType::kShutdown, Shutdown{10'000, 15});
  expect_golden("clock", FrameType::kClock, ClockMessage{1'700'000'000'000'000'000});
  expect_golden("event_oom", FrameType::kEvent,
                ControlEvent{ControlEvent::Kind::kOom, 2, 0, "", std::nullopt});
  expect_golden(
      "event_exited", FrameType::kEvent,
      ControlEvent{ControlEvent::Kind::kSessionExited, 0, 3, "main", Exit{1, std::nullopt, false, false}});
}

TEST(AgentGoldenTest, BootConfiguration) {
  GuestConfig config;
  config.upper_device = "vdb";
  config.mounts = {{"tmpfs", "/run/x", 64, "mode=0700,noexec"}};
  config.net = GuestConfig::Net{};
  config.net->mac = "02:6d:73:62:00:02";
  config.net->ipv4 = GuestConfig::Address{"172.16.0.2", 30, "172.16.0.1"};
  config.net->ipv6 = GuestConfig::Address{"fd42:6d73:62::2", 64, "fd42:6d73:62::1"};
  config.net->dns = {"172.16.0.1"};
  config.net->search = {"example.internal"};
  config.hosts = {{"10.0.0.1", {"db", "db.internal"}}};
  config.env = {"PATH=/bin"};
  config.user = "app";
  config.workdir = "/srv";
  config.rlimits = {{"nofile", 1024, 4096}};
  config.init = GuestConfig::Init{"/sbin/init", {"--x"}, {"container=msb"}};
  config.files = {{"/usr/local/bin/s", 0755, std::string("#!/bin/sh\n\0\xff", 12)}};
  config.clock_ns = 5;
  config.entropy = std::string(32, '\x5a');
  expect_golden("boot_config", FrameType::kRequest, config);
  expect_golden("boot_config_default", FrameType::kRequest, GuestConfig{});
}

template <typename Message>
Error refusal(std::string_view json) {
  auto parsed = from_json<Message>(json);
  EXPECT_FALSE(parsed.ok()) << json;
  return parsed.ok() ? Error{} : parsed.error();
}

TEST(AgentParseTest, UnknownKeyOfARequest_IsRefusedByName) {
  EXPECT_NE(refusal<Request>(R"({"op":"ping","fast":1})").text.find("fast"), std::string::npos);
  EXPECT_NE(refusal<Request>(R"({"op":"exec","argv":["x"],"sandbox":1})").text.find("sandbox"),
            std::string::npos);
  EXPECT_NE(refusal<Request>(R"({"op":"stat","path":"/","mode":1})").text.find("mode"), std::string::npos);
  EXPECT_EQ(refusal<Request>(R"({"op":"teleport"})").code, Errc::kUnsupported);
}

TEST(AgentParseTest, UnknownKeyOfAReport_IsIgnored) {
  EXPECT_TRUE(from_json<Exit>(R"({"code":3,"mood":"good"})").ok());
  EXPECT_TRUE(from_json<Hello>(R"({"version":2,"min":1,"extra":[]})").ok());
  EXPECT_TRUE(from_json<Started>(R"({"session":1,"x":{}})").ok());
}

template <typename Message>
void expect_refused(std::string_view json) {
  EXPECT_FALSE(from_json<Message>(json).ok()) << json;
}

TEST(AgentParseTest, WrongValues_AreRefused) {
  expect_refused<Request>(R"({"op":"exec","argv":[]})");
  expect_refused<Request>(R"({"op":"exec","argv":["a\u0000b"]})");
  expect_refused<Request>(R"({"op":"exec","argv":[{"b64":"YQBi"}]})");
  expect_refused<Request>(R"({"op":"exec","argv":[{"b64":"%"}]})");
  expect_refused<Request>(R"({"op":"exec","argv":["x"],"env":["NOVALUE"]})");
  expect_refused<Request>(R"({"op":"exec","argv":["x"],"tty":{"rows":70000,"cols":1}})");
  expect_refused<Request>(R"({"op":"exec","argv":["x"],"rlimits":[{"resource":"gold","soft":1,"hard":1}]})");
  expect_refused<Request>(R"({"op":"exec","argv":["x"],"rlimits":[{"resource":"core","soft":2,"hard":1}]})");
  expect_refused<Request>(R"({"op":"kill","session":1,"signal":0})");
  expect_refused<Request>(R"({"op":"kill","session":1,"signal":65})");
  expect_refused<Request>(R"({"op":"chmod","path":"/x"})");
  expect_refused<Request>(R"({"op":"write","path":"/x","offset":5})");
  expect_refused<Request>(R"({"op":"stat","path":""})");
  expect_refused<Exit>(R"({"code":0,"signal":9})");
  expect_refused<Exit>(R"({})");
  expect_refused<Exit>(R"({"signal":0})");
}

TEST(AgentParseTest, TreePathsThatLeadOutside_AreRefused) {
  for (const char* path : {"/x", "..", "a/../b", "a//b", "a/", "./a", "."}) {
    expect_refused<TreeEntry>(std::string(R"({"kind":"file","path":")") + path + "\"}");
  }
  expect_refused<TreeEntry>(R"({"kind":"file","path":"a","link":"../b"})");
  EXPECT_TRUE(from_json<TreeEntry>(R"({"kind":"dir","path":""})").ok());
  EXPECT_FALSE(is_plain_relative_path(std::string(256, 'a')));
  EXPECT_TRUE(is_plain_relative_path(std::string(255, 'a')));
}

TEST(NegotiateTest, CommonVersion_IsTheNewestBothSpeak) {
  EXPECT_EQ(*negotiate({3, 1, ""}, {2, 2, ""}), 2U);
  EXPECT_FALSE(negotiate({1, 1, ""}, {3, 2, ""}).ok());
}

TEST(SignalNumberTest, NamesAndNumbers) {
  EXPECT_EQ(signal_number("SIGTERM"), 15);
  EXPECT_EQ(signal_number("KILL"), 9);
  EXPECT_EQ(signal_number("37"), 37);
  EXPECT_EQ(signal_number("SIGRTMIN+3"), 37);
  EXPECT_EQ(signal_number("RTMAX-1"), 63);
  for (const char* text : {"", "0", "65", "SIG", "RTMIN+40", "RTMIN-1", "TERM ", "-1"}) {
    EXPECT_FALSE(signal_number(text)) << text;
  }
}

TEST(LogFrameTest, RoundTrip) {
  Bytes out;
  append_log_frame(out, {5, 6, LogStream::kStderr, as_bytes("oops")});
  FrameDecoder decoder;
  ByteView input = out;
  auto next = decoder.next(input);
  ASSERT_TRUE(next.ok() && next->has_value());
  const auto record = parse_log((*next)->payload);
  ASSERT_TRUE(record.ok());
  EXPECT_EQ(record->session, 5U);
  EXPECT_EQ(record->dropped, 6U);
  EXPECT_EQ(record->stream, LogStream::kStderr);
  EXPECT_EQ(as_text(record->data), "oops");
  EXPECT_FALSE(parse_log(ByteView(out).first(10)).ok());
}

}  // namespace
}  // namespace msb::proto
