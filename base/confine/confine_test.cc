// SPDX-License-Identifier: Apache-2.0
// Each test confines a child process: a stage cannot be undone.
#include "base/confine/confine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "base/confine/seccomp.h"
#include "base/file.h"

namespace msb::confine {
namespace {

// Runs `body` in a child; its return value is the exit code, a terminating signal is returned negative.
int in_child(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

bool has(const Report& report, Layer layer) {
  for (const Layer applied : report.applied()) {
    if (applied == layer) return true;
  }
  return false;
}

TEST(Confine, EmptyRoot_NothingCanBeOpened) {
  const int result = in_child([] {
    Report report;
    set_no_new_privileges(report);
    enter_namespaces({.mount = true, .network = true, .ipc = true, .uts = true}, report);
    enter_empty_root(report);
    if (!has(report, Layer::kEmptyRoot)) return 77;
    if (::open("/etc/passwd", O_RDONLY) >= 0) return 1;
    if (::open("/x", O_CREAT | O_WRONLY, 0600) >= 0) return 2;
    return 0;
  });
  if (result == 77) GTEST_SKIP() << "this host allows no user or mount namespaces";
  EXPECT_EQ(result, 0);
}

TEST(Confine, RestrictPaths_NoRules_OpenRefused) {
  const int result = in_child([] {
    Report report;
    set_no_new_privileges(report);
    restrict_paths({}, TcpAccess::kNone, report);
    if (!has(report, Layer::kLandlock)) return 77;
    return ::open("/etc/passwd", O_RDONLY) >= 0 ? 1 : 0;
  });
  if (result == 77) GTEST_SKIP() << "this kernel has no Landlock";
  EXPECT_EQ(result, 0);
}

TEST(Confine, RestrictPaths_OneReadableDirectory_OnlyThatOpens) {
  const int result = in_child([] {
    const UniqueFd etc(::open("/etc", O_PATH | O_CLOEXEC));
    Report report;
    set_no_new_privileges(report);
    restrict_paths({{etc.get(), PathAccess::kRead}}, TcpAccess::kNone, report);
    if (!has(report, Layer::kLandlock)) return 77;
    if (::open("/etc/passwd", O_RDONLY) < 0) return 1;
    if (::open("/etc/msb-test", O_CREAT | O_WRONLY, 0600) >= 0) return 2;
    return ::open("/proc/self/status", O_RDONLY) >= 0 ? 3 : 0;
  });
  if (result == 77) GTEST_SKIP() << "this kernel has no Landlock";
  EXPECT_EQ(result, 0);
}

TEST(Confine, DropCapabilities_NoneLeft) {
  EXPECT_EQ(in_child([] {
              Report report;
              set_no_new_privileges(report);
              drop_capabilities(report);
              if (!has(report, Layer::kCapabilities)) return 1;
              const auto status = read_file("/proc/self/status", 65536);
              if (!status) return 2;
              for (const char* set : {"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"}) {
                if (status->find(set) == std::string::npos) return 3;
              }
              return 0;
            }),
            0);
}

TEST(Confine, SetLimits_CoreAlwaysZero) {
  EXPECT_EQ(in_child([] {
              Report report;
              set_limits({{RLIMIT_NOFILE, 10}}, report);
              rlimit core{};
              rlimit files{};
              ::getrlimit(RLIMIT_CORE, &core);
              ::getrlimit(RLIMIT_NOFILE, &files);
              return core.rlim_max == 0 && files.rlim_cur == 10 ? 0 : 1;
            }),
            0);
}

TEST(Seccomp, ListedCall_Allowed_OtherKills) {
  // sigaltstack: AddressSanitizer's runtime calls it when a process ends.
  const auto program = SeccompProgram::compile({{__NR_exit_group},
                                                {__NR_sigaltstack},
                                                {__NR_getppid},
                                                {__NR_fcntl, {{.index = 1, .value = F_GETFD}}}});
  ASSERT_TRUE(program) << program.error().text;
  const auto run = [&](const std::function<void()>& act) {
    return in_child([&] {
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      if (!program->install()) return 1;
      act();
      return 0;
    });
  };
  EXPECT_EQ(run([] { ::getppid(); }), 0);
  EXPECT_EQ(run([] { ::fcntl(0, F_GETFD); }), 0);
  EXPECT_EQ(run([] { ::fcntl(0, F_SETFD, 1); }), -SIGSYS);
  EXPECT_EQ(run([] { ::socket(AF_INET, SOCK_STREAM, 0); }), -SIGSYS);
}

}  // namespace
}  // namespace msb::confine
