// SPDX-License-Identifier: Apache-2.0
// Sessions on a real server: programs of the test machine, run without root.
#include <sys/stat.h>

#include <array>
#include <random>

#include "guest-agent/test_support.h"

namespace msb::agent {
namespace {

std::string random_bytes(std::size_t size, unsigned seed) {
  std::string out(size, '\0');
  std::minstd_rand random(seed);
  for (char& c : out) c = static_cast<char>(random() >> 8);
  return out;
}

TEST(ExecTest, Output_IsSeparateAndExitExact) {
  const AgentProcess agent;
  const ExecResult result = run(agent, shell("echo out; echo err >&2; exit 3"));
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.exit, (proto::Exit{3, std::nullopt, false, false}));
}

TEST(ExecTest, DeathBySignal_IsTold) {
  const AgentProcess agent;
  const ExecResult result = run(agent, shell("kill -KILL $$"));
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->signal, SIGKILL);
  EXPECT_FALSE(result.exit->code.has_value());
}

TEST(ExecTest, ProgramThatExits127_IsNotASpawnFailure) {
  const AgentProcess agent;
  for (const int code : {1, 126, 127, 255}) {
    const ExecResult result = run(agent, shell("exit " + std::to_string(code)));
    ASSERT_TRUE(result.exit.has_value());
    EXPECT_EQ(result.exit->code, code);
  }
}

TEST(ExecTest, SpawnFailures_HaveTheirCodes) {
  const AgentProcess agent;
  const TempDir dir;
  const auto make = [&](const std::string& name, const std::string& text, mode_t mode) {
    auto fd = open_file(dir / name, O_WRONLY | O_CREAT, 0600);
    ASSERT_TRUE(write_all(fd->get(), text).ok());
    ::fchmod(fd->get(), mode);
  };
  make("text", "no program", 0755);
  make("script", "#!/no/such/interpreter\n", 0755);
  make("plain", "#!/bin/sh\n", 0644);
  const auto code_of = [&](proto::ExecRequest request) {
    const ExecResult result = run(agent, std::move(request));
    return result.error ? result.error->code + "/" + result.error->stage : "none";
  };
  EXPECT_EQ(code_of(command({"/no/such/program"})), "not_found/exec");
  EXPECT_EQ(code_of(command({"no-such-program-in-path"})), "not_found/exec");
  EXPECT_EQ(code_of(command({dir / "text"})), "not_executable/exec");
  EXPECT_EQ(code_of(command({dir / "script"})), "not_found/interpreter");
  EXPECT_EQ(code_of(command({dir / "plain"})), "permission/exec");
  EXPECT_EQ(code_of(command({dir.path()})), "not_executable/exec");
  proto::ExecRequest cwd = command({"/bin/true"});
  cwd.cwd = "/no/such/directory";
  EXPECT_EQ(code_of(cwd), "bad_cwd/chdir");
  proto::ExecRequest user = command({"/bin/true"});
  user.user = "no-such-user";
  EXPECT_EQ(code_of(user), "bad_user/user");
  proto::ExecRequest large = command({"/bin/true", std::string(200'000, 'x')});
  EXPECT_EQ(code_of(large), "bad_args/exec");
}

TEST(ExecTest, EnvironmentAndDirectory) {
  proto::GuestConfig defaults;
  defaults.env = {"PATH=/usr/bin:/bin", "A=image", "B=image"};
  defaults.workdir = "/usr";
  const AgentProcess agent(defaults);
  proto::ExecRequest request = command({"sh", "-c", "echo $A $B $C; pwd; echo $HOSTNAME"});
  request.env = {"B=request", "C=new"};
  EXPECT_EQ(run(agent, request).out, "image request new\n/usr\nmsb\n");
  request.cwd = "bin";
  EXPECT_NE(run(agent, request).out.find("/usr/bin\n"), std::string::npos);
  proto::ExecRequest bare = command({"/usr/bin/env"});
  bare.image_defaults = false;
  bare.env = {"ONLY=this"};
  EXPECT_EQ(run(agent, bare).out, "ONLY=this\n");
}

TEST(ExecTest, Stdin_IsExactAndEnds) {
  const AgentProcess agent;
  proto::ExecRequest request = command({"/usr/bin/wc", "-c"});
  request.stdin_open = true;
  TestClient client(agent);
  client.session().request({request});
  client.session().write_stdin(as_bytes(std::string(100'000, '\0')));
  client.session().close_stdin();
  client.flush();
  EXPECT_EQ(client.finish().out, "100000\n");
}

TEST(ExecTest, NoStdin_ReadsAsEmpty) {
  const AgentProcess agent;
  EXPECT_EQ(run(agent, command({"/usr/bin/wc", "-c"})).out, "0\n");
}

TEST(ExecTest, SixtyFourMegabytesBothWays_AreExact) {
  const AgentProcess agent;
  const std::string data = random_bytes(std::size_t{64} << 20, 1);
  proto::ExecRequest request = command({"/bin/cat"});
  request.stdin_open = true;
  TestClient client(agent);
  client.session().request({request});
  client.session().write_stdin(as_bytes(data));
  client.session().close_stdin();
  const ExecResult result = client.finish();  // sends while it receives
  EXPECT_TRUE(result.out == data) << result.out.size();
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 0);
}

TEST(ExecTest, ProgramThatReadsNoInput_EndsAllTheSame) {
  const AgentProcess agent;
  proto::ExecRequest request = command({"/bin/true"});
  request.stdin_open = true;
  TestClient client(agent);
  client.session().request({request});
  client.session().write_stdin(as_bytes(std::string(std::size_t{4} << 20, 'x')));
  const ExecResult result = client.finish();
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 0);
}

TEST(ExecTest, Signal_ReachesTheProcessGroup) {
  const AgentProcess agent;
  TestClient client(agent);
  client.start({shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")});
  ExecResult result = client.until_output("ready");
  client.session().signal(SIGTERM);
  client.flush();
  result = client.finish(std::move(result));
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 7);
}

TEST(ExecTest, Timeout_KillsTheGroup) {
  const AgentProcess agent;
  proto::ExecRequest request = shell("sleep 1000; echo never");
  request.timeout_ms = 50;
  const ExecResult result = run(agent, request);
  EXPECT_EQ(result.exit, (proto::Exit{std::nullopt, SIGKILL, false, true}));
  EXPECT_EQ(result.out, "");
}

TEST(ExecTest, BackgroundProcessHoldingThePipe_DelaysNothing) {
  const AgentProcess agent;
  const ExecResult result = run(agent, shell("sleep 1000 & echo done"));
  EXPECT_EQ(result.out, "done\n");
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 0);
}

TEST(ExecTest, ResourceLimits_Apply) {
  const AgentProcess agent;
  proto::ExecRequest request = shell("ulimit -n; ulimit -c");
  request.rlimits = {{"nofile", 77, 88}, {"core", 0, 0}};
  EXPECT_EQ(run(agent, request).out, "77\n0\n");
}

TEST(TerminalTest, SizeResizeAndControllingTerminal) {
  const AgentProcess agent;
  proto::ExecRequest request =
      shell("tty -s && stty size && read line && stty size && echo $TERM; : </dev/tty");
  request.tty = proto::ExecRequest::Tty{{50, 132}, "vt100"};
  request.stdin_open = true;
  TestClient client(agent);
  client.start({request});
  ExecResult result = client.until_output("50 132");
  client.session().resize({30, 99});
  client.session().write_stdin(as_bytes(std::string_view("\n")));
  client.flush();
  result = client.finish(std::move(result));
  EXPECT_NE(result.out.find("30 99"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("vt100"), std::string::npos);
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->code, 0);
}

TEST(TerminalTest, LastOutput_IsNeverLost) {
  const AgentProcess agent;
  for (int i = 0; i < 20; ++i) {
    proto::ExecRequest request = shell("printf '%05000d' 1; printf END");
    request.tty = proto::ExecRequest::Tty{};
    const ExecResult result = run(agent, request);
    EXPECT_EQ(result.out.size(), 5003U);
    EXPECT_TRUE(result.out.ends_with("END"));
  }
}

TEST(TerminalTest, EndOfInput_TypesEndOfFile) {
  const AgentProcess agent;
  proto::ExecRequest request = shell("cat; echo bye");
  request.tty = proto::ExecRequest::Tty{};
  request.stdin_open = true;
  TestClient client(agent);
  client.session().request({request});
  client.session().write_stdin(as_bytes(std::string_view("hello\n")));
  client.session().close_stdin();
  client.flush();
  const ExecResult result = client.finish();
  EXPECT_NE(result.out.find("bye"), std::string::npos);
}

TEST(TerminalTest, ControlC_InterruptsTheForeground) {
  const AgentProcess agent;
  // Not a shell: one that is about to run a command catches the signal itself.
  proto::ExecRequest request = command({"/bin/cat"});
  request.tty = proto::ExecRequest::Tty{};
  request.stdin_open = true;
  TestClient client(agent);
  client.start({request});
  client.session().write_stdin(as_bytes(std::string_view("ready\n")));
  client.flush();
  // Once from the terminal's echo, once from cat itself.
  ExecResult result = client.until_output("ready\r\nready\r\n");
  client.session().write_stdin(as_bytes(std::string_view("\x03")));
  client.flush();
  result = client.finish(std::move(result));
  ASSERT_TRUE(result.exit.has_value());
  EXPECT_EQ(result.exit->signal, SIGINT);
}

TEST(ManySessionsTest, TwoHundredAtOnce_StreamsCompareEqual) {
  const AgentProcess agent;
  constexpr std::size_t kSessions = 200;
  std::vector<std::unique_ptr<TestClient>> clients;
  std::vector<std::string> data;
  for (std::size_t i = 0; i < kSessions; ++i) {
    data.push_back(random_bytes(50'000 + i * 17, static_cast<unsigned>(i)));
    proto::ExecRequest request = command({"/bin/cat"});
    request.stdin_open = true;
    auto client = std::make_unique<TestClient>(agent);
    client->session().request({request});
    client->session().write_stdin(as_bytes(data.back()));
    client->session().close_stdin();
    // Only as much as the socket takes: all are in flight before any is read.
    const ByteView out = client->session().outgoing();
    const ssize_t sent = ::send(client->socket(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) client->session().sent(static_cast<std::size_t>(sent));
    clients.push_back(std::move(client));
  }
  for (std::size_t i = 0; i < kSessions; ++i) {
    const ExecResult result = clients[i]->finish();
    EXPECT_TRUE(result.out == data[i]) << i << ": " << result.out.size();
    ASSERT_TRUE(result.exit.has_value()) << i;
    EXPECT_EQ(result.exit->code, 0);
  }
}

std::size_t open_descriptors(pid_t pid) {
  std::size_t count = 0;
  for (int fd = 0; fd < 4096; ++fd) {
    struct stat info {};
    const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
    if (::lstat(path.c_str(), &info) == 0) ++count;
  }
  return count;
}

TEST(ManySessionsTest, HundredsInTurn_LeakNoDescriptor) {
  const AgentProcess agent;
  for (int i = 0; i < 8; ++i) ASSERT_EQ(run(agent, command({"/bin/true"})).exit->code, 0);
  ASSERT_TRUE(sessions(agent).sessions.empty());
  const std::size_t before = open_descriptors(agent.pid());
  for (int i = 0; i < 300; ++i) ASSERT_EQ(run(agent, command({"/bin/true"})).exit->code, 0);
  ASSERT_TRUE(sessions(agent).sessions.empty());
  EXPECT_LE(open_descriptors(agent.pid()), before + 2);
}

}  // namespace
}  // namespace msb::agent
