// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/init_handoff.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace msb::agent {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& values) {
  std::vector<char*> out;
  for (const std::string& value : values) out.push_back(const_cast<char*>(value.c_str()));
  out.push_back(nullptr);
  return out;
}

// Process 1. Must never return: the kernel panics when it ends.
[[noreturn]] void become_init(const proto::GuestConfig::Init& init, int report) {
  std::vector<std::string> arguments{init.path};
  arguments.insert(arguments.end(), init.args.begin(), init.args.end());
  std::vector<std::string> environment = init.env;
  bool has_path = false;
  for (const std::string& entry : environment) has_path = has_path || entry.starts_with("PATH=");
  if (!has_path)
    environment.emplace_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(init.path.c_str(), argv.data(), envp.data());
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(report, &error, sizeof error);
  ::close(report);
  while (true) {
    if (::waitpid(-1, nullptr, 0) < 0) ::pause();
  }
}

}  // namespace

Status hand_over_init(const proto::GuestConfig::Init& init) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return sys_error("make a pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return sys_error("fork");
  if (child > 0) {
    reader.reset();
    become_init(init, writer.get());
  }
  ::setsid();
  writer.reset();
  int error = 0;
  const ssize_t got = ::read(reader.get(), &error, sizeof error);
  if (got == ssize_t{sizeof error}) return sys_error("run init " + init.path, error);
  return {};
}

}  // namespace msb::agent
