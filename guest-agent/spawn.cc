// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/foreign_stack.h"

namespace msb::agent {
namespace {

constexpr std::string_view kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::size_t kChildStackBytes = std::size_t{32} << 10;

// Everything the child touches: plain pointers into the parent's memory, nothing that allocates or locks.
struct ChildArguments {
  char** argv;
  char** envp;
  char** candidates;  // null-terminated
  const char* cwd;
  const gid_t* groups;
  std::size_t group_count;
  const SpawnPlan* plan;
  SpawnFailure failure;
  bool failed;
};

MSB_ON_FOREIGN_STACK [[noreturn]] void child_fail(ChildArguments& arguments, SpawnStage stage, int error,
                                                  bool interpreter = false) {
  arguments.failure = SpawnFailure{stage, error, interpreter};
  arguments.failed = true;
  while (true) ::syscall(SYS_exit_group, 127);
}

MSB_ON_FOREIGN_STACK void child_stdio(ChildArguments& arguments) {
  for (int target = 0; target < 3; ++target) {
    int source = arguments.plan->stdio[target];
    if (source < 0) {
      source = ::open("/dev/null", target == 0 ? O_RDONLY : O_WRONLY);
      if (source < 0) child_fail(arguments, SpawnStage::kStdio, errno);
      if (source == target) continue;
    }
    // The sources are above 2 (checked by the parent), so no dup2 overwrites one that is still needed.
    if (::dup2(source, target) < 0) child_fail(arguments, SpawnStage::kStdio, errno);
  }
  // All our descriptors are close-on-exec; this is for whatever we inherited from the kernel or a test.
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
}

MSB_ON_FOREIGN_STACK void child_user(ChildArguments& arguments) {
  const SpawnPlan& plan = *arguments.plan;
  // Raw system calls: the C library's wrappers would signal the other threads, whose memory this is.
  if (::syscall(SYS_setgroups, arguments.group_count, arguments.groups) != 0 ||
      ::syscall(SYS_setresgid, plan.identity.gid, plan.identity.gid, plan.identity.gid) != 0 ||
      ::syscall(SYS_setresuid, plan.identity.uid, plan.identity.uid, plan.identity.uid) != 0) {
    child_fail(arguments, SpawnStage::kUser, errno);
  }
}

MSB_ON_FOREIGN_STACK [[noreturn]] void child_exec(ChildArguments& arguments) {
  // As a shell searches PATH: go on after "not there", remember "not allowed", stop at anything else.
  int error = ENOENT;
  for (char** candidate = arguments.candidates; *candidate != nullptr; ++candidate) {
    ::execve(*candidate, arguments.argv, arguments.envp);
    const int failed = errno;
    if (failed == ENOENT || failed == ENOTDIR) {
      // The file is there: what is missing is the interpreter it names.
      if (::access(*candidate, F_OK) == 0) child_fail(arguments, SpawnStage::kExec, ENOENT, true);
      continue;
    }
    if (failed != EACCES) child_fail(arguments, SpawnStage::kExec, failed);
    struct stat info;
    error = ::stat(*candidate, &info) == 0 && S_ISDIR(info.st_mode) ? EISDIR : EACCES;
  }
  child_fail(arguments, SpawnStage::kExec, error);
}

MSB_ON_FOREIGN_STACK [[noreturn]] void child_main(ChildArguments& arguments) {
  const SpawnPlan& plan = *arguments.plan;
  if (::setsid() < 0) child_fail(arguments, SpawnStage::kSession, errno);
  if (plan.tty && ::ioctl(plan.stdio[0], TIOCSCTTY, 0) != 0)
    child_fail(arguments, SpawnStage::kTerminal, errno);
  child_stdio(arguments);
  // The agent is exempt from the OOM killer; what it starts is not.
  const int adjust = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (adjust >= 0) {
    [[maybe_unused]] const ssize_t written = ::write(adjust, "0", 1);
  }
  for (const SpawnPlan::Limit& limit : plan.limits) {
    const rlimit value{limit.soft, limit.hard};
    if (::setrlimit(static_cast<__rlimit_resource>(limit.resource), &value) != 0) {
      child_fail(arguments, SpawnStage::kLimits, errno);
    }
  }
  if (plan.change_user) child_user(arguments);
  if (::chdir(arguments.cwd) != 0) child_fail(arguments, SpawnStage::kChdir, errno);
  ::umask(022);
  // The agent handles no signal and ignores none; it blocks them. 8 bytes: the kernel's own mask size.
  const std::uint64_t none = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
  child_exec(arguments);
}

// clone3 with a stack for the child, which the C library does not wrap: the child starts on `stack_top` and
// never returns. `arguments` reaches it in a register the system call keeps.
pid_t clone_child(clone_args& clone, ChildArguments& arguments) {
#if defined(__x86_64__)
  long result = SYS_clone3;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "mov %[arguments], %%rdi\n\t"
      "call *%[entry]\n\t"
      "ud2\n\t"
      "1:\n\t"
      : "+a"(result)
      : "D"(&clone), "S"(sizeof clone), [arguments] "r"(&arguments), [entry] "r"(&child_main)
      : "rcx", "r11", "memory", "cc");
  if (result < 0) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return static_cast<pid_t>(result);
#else
#error "clone_child: not written for this processor"
#endif
}

std::vector<char*> pointers(const std::vector<std::string>& values) {
  std::vector<char*> out;
  out.reserve(values.size() + 1);
  for (const std::string& value : values) out.push_back(const_cast<char*>(value.c_str()));
  out.push_back(nullptr);
  return out;
}

std::string_view key_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

const std::string* find_variable(const std::vector<std::string>& env, std::string_view key) {
  for (const std::string& entry : env) {
    if (key_of(entry) == key) return &entry;
  }
  return nullptr;
}

void set_variable(std::vector<std::string>& env, std::string entry) {
  for (std::string& existing : env) {
    if (key_of(existing) == key_of(entry)) {
      existing = std::move(entry);
      return;
    }
  }
  env.push_back(std::move(entry));
}

void default_variable(std::vector<std::string>& env, std::string_view key, std::string_view value) {
  if (find_variable(env, key) != nullptr) return;
  std::string entry(key);
  entry += '=';
  entry += value;
  env.push_back(std::move(entry));
}

std::vector<std::string> make_environment(const proto::ExecRequest& request,
                                          const proto::GuestConfig& defaults, const Identity& identity) {
  std::vector<std::string> env;
  if (request.image_defaults) {
    for (const std::string& entry : defaults.env) set_variable(env, entry);
  }
  if (request.tty && !request.tty->term.empty()) set_variable(env, "TERM=" + request.tty->term);
  for (const std::string& entry : request.env) set_variable(env, entry);
  if (request.image_defaults) {
    default_variable(env, "PATH", kDefaultPath);
    default_variable(env, "HOME", identity.home);
    default_variable(env, "HOSTNAME", defaults.hostname);
  }
  return env;
}

std::vector<std::string> make_candidates(const std::string& program, const std::vector<std::string>& env) {
  if (program.find('/') != std::string::npos) return {program};
  if (program.empty()) return {};
  std::string_view path = kDefaultPath;
  if (const std::string* entry = find_variable(env, "PATH")) path = std::string_view(*entry).substr(5);
  std::vector<std::string> out;
  while (true) {
    const std::size_t colon = path.find(':');
    std::string candidate(path.substr(0, colon));
    if (!candidate.empty()) candidate += '/';  // an empty element is the working directory
    candidate += program;
    out.push_back(std::move(candidate));
    if (colon == std::string_view::npos) return out;
    path.remove_prefix(colon + 1);
  }
}

void add_limits(std::vector<SpawnPlan::Limit>& out, const std::vector<proto::ResourceLimit>& limits) {
  for (const proto::ResourceLimit& limit : limits) {
    const auto resource = proto::resource_number(limit.resource);
    if (resource)
      out.push_back({*resource, limit.soft.value_or(RLIM_INFINITY), limit.hard.value_or(RLIM_INFINITY)});
  }
}

}  // namespace

std::string_view spawn_stage_name(SpawnStage stage) {
  switch (stage) {
    case SpawnStage::kPrepare:
      return "prepare";
    case SpawnStage::kClone:
      return "clone";
    case SpawnStage::kSession:
      return "setsid";
    case SpawnStage::kTerminal:
      return "terminal";
    case SpawnStage::kStdio:
      return "stdio";
    case SpawnStage::kLimits:
      return "rlimit";
    case SpawnStage::kUser:
      return "user";
    case SpawnStage::kChdir:
      return "chdir";
    case SpawnStage::kExec:
      return "exec";
  }
  return "prepare";
}

proto::ErrorReply spawn_error(const SpawnFailure& failure, const std::string& program,
                              const std::string& cwd) {
  proto::ErrorReply reply;
  reply.sys_errno = failure.sys_errno;
  reply.stage = failure.interpreter ? "interpreter" : spawn_stage_name(failure.stage);
  std::string what;
  switch (failure.stage) {
    case SpawnStage::kChdir:
      reply.code = "bad_cwd";
      what = "change to directory " + cwd;
      break;
    case SpawnStage::kUser:
      reply.code = "bad_user";
      what = "become the user";
      break;
    case SpawnStage::kLimits:
      reply.code = "limit";
      what = "set a resource limit";
      break;
    default:
      what = failure.interpreter ? "run " + program + " (the interpreter it names)" : "run " + program;
      switch (failure.sys_errno) {
        case ENOENT:
        case ENOTDIR:
          reply.code = "not_found";
          break;
        case EACCES:
        case EPERM:
          reply.code = "permission";
          break;
        case ENOEXEC:
        case EISDIR:
        case ELIBBAD:
        case EINVAL:
          reply.code = "not_executable";
          break;
        case E2BIG:
        case ENAMETOOLONG:
          reply.code = "bad_args";
          break;
        case EAGAIN:
        case EMFILE:
        case ENFILE:
        case ENOSPC:
          reply.code = "limit";
          break;
        case ENOMEM:
          reply.code = "no_memory";
          break;
        default:
          reply.code = "other";
          break;
      }
      break;
  }
  reply.text = sys_error(what, failure.sys_errno).text;
  return reply;
}

PlanResult make_plan(const proto::ExecRequest& request, const proto::GuestConfig& defaults) {
  PlanResult result;
  SpawnPlan& plan = result.plan;
  const bool use_defaults = request.image_defaults;
  const std::string& user = request.user.empty() && use_defaults ? defaults.user : request.user;
  auto identity = resolve_user(read_passwd(), read_group(), user, request.groups);
  if (!identity.ok()) {
    result.error = {"bad_user", 0, "user", identity.error().text};
    return result;
  }
  plan.identity = std::move(identity).value();
  plan.argv = request.argv;
  plan.env = make_environment(request, defaults, plan.identity);
  plan.candidates = make_candidates(request.argv.front(), plan.env);
  plan.cwd = use_defaults && !defaults.workdir.empty() ? defaults.workdir : "/";
  if (!request.cwd.empty()) {
    plan.cwd = request.cwd.front() == '/' ? request.cwd : plan.cwd + "/" + request.cwd;
  }
  add_limits(plan.limits, defaults.rlimits);
  add_limits(plan.limits, request.rlimits);
  plan.tty = request.tty.has_value();
  return result;
}

SpawnOutcome run_plan(const SpawnPlan& plan, std::atomic<pid_t>& child_pid) {
  SpawnOutcome outcome;
  for (const int fd : plan.stdio) MSB_CHECK(fd < 0 || fd > 2);
  std::vector<char*> argv = pointers(plan.argv);
  std::vector<char*> env = pointers(plan.env);
  std::vector<char*> candidates = pointers(plan.candidates);
  ChildArguments arguments{argv.data(),
                           env.data(),
                           candidates.data(),
                           plan.cwd.c_str(),
                           plan.identity.groups.data(),
                           plan.identity.groups.size(),
                           &plan,
                           {},
                           false};
  void* stack = ::mmap(nullptr, kChildStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) {
    outcome.failure = {SpawnStage::kClone, errno, false};
    return outcome;
  }
  static_assert(sizeof(std::atomic<pid_t>) == sizeof(pid_t) && std::atomic<pid_t>::is_always_lock_free);
  clone_args clone{};
  clone.flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID;
  clone.exit_signal = SIGCHLD;
  clone.parent_tid = reinterpret_cast<std::uint64_t>(&child_pid);
  clone.stack = reinterpret_cast<std::uint64_t>(stack);
  clone.stack_size = kChildStackBytes;
  if (plan.cgroup_fd >= 0) {
    clone.flags |= CLONE_INTO_CGROUP;
    clone.cgroup = static_cast<__u64>(static_cast<unsigned>(plan.cgroup_fd));
  }
  // The child must not be interrupted by a handler in our memory: all signals stay blocked in every thread.
  const pid_t pid = clone_child(clone, arguments);
  const int clone_errno = errno;
  ::munmap(stack, kChildStackBytes);
  if (pid < 0) {
    outcome.failure = {SpawnStage::kClone, clone_errno, false};
    return outcome;
  }
  outcome.pid = pid;
  outcome.ok = !arguments.failed;
  outcome.failure = arguments.failure;
  return outcome;
}

}  // namespace msb::agent
