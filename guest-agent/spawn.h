// SPDX-License-Identifier: Apache-2.0
// Starts a program in the guest: everything is prepared in the parent, then a child that shares our memory
// (clone3 with CLONE_VM and CLONE_VFORK) makes a dozen system calls and executes it. The calling thread
// sleeps until then; the child reports a failed call by writing errno and stage into our memory, so a spawn
// failure can never be taken for the program's own exit status.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "guest-agent/user_db.h"
#include "proto/agent.h"
#include "proto/guest_config.h"

namespace msb::agent {

// What the child does, in order; the name of a stage goes into error replies.
enum class SpawnStage : std::uint8_t {
  kPrepare,
  kClone,
  kSession,
  kTerminal,
  kStdio,
  kLimits,
  kUser,
  kChdir,
  kExec
};
[[nodiscard]] std::string_view spawn_stage_name(SpawnStage stage);

struct SpawnFailure {
  SpawnStage stage = SpawnStage::kPrepare;
  int sys_errno = 0;
  bool interpreter = false;  // kExec: the file is there, the interpreter it names is not
};
// The ERROR for a failed spawn (codes: see proto::ErrorReply).
[[nodiscard]] proto::ErrorReply spawn_error(const SpawnFailure& failure, const std::string& program,
                                            const std::string& cwd);

// A request made concrete: no defaults left to apply, users resolved.
struct SpawnPlan {
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::vector<std::string> candidates;  // paths to execute, tried in order
  std::string cwd;
  Identity identity;
  struct Limit {
    int resource = 0;
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
  };
  std::vector<Limit> limits;
  bool change_user = true;      // false: keep the caller's ids (tests without root)
  bool tty = false;             // stdio[0] is the terminal: make it the controlling one
  int stdio[3] = {-1, -1, -1};  // borrowed; -1: /dev/null
  int cgroup_fd = -1;           // cgroup v2 directory to start in; -1: the caller's
};

// Applies the guest's defaults to a request. Reads passwd and group (may block). Error: an ERROR reply ready
// to send.
struct PlanResult {
  SpawnPlan plan;
  proto::ErrorReply error;  // code empty: no error
};
[[nodiscard]] PlanResult make_plan(const proto::ExecRequest& request, const proto::GuestConfig& defaults);

// Runs the plan. `child_pid` holds the child's pid from before it runs until spawn() returns, so that whoever
// reaps children meanwhile knows it; after a failure the child still has to be reaped by them. Blocks until
// the program is executed. Returns the pid; `failure` is set when the child could not execute.
struct SpawnOutcome {
  pid_t pid = -1;  // also set when the child was made and failed
  bool ok = false;
  SpawnFailure failure;
};
[[nodiscard]] SpawnOutcome run_plan(const SpawnPlan& plan, std::atomic<pid_t>& child_pid);

}  // namespace msb::agent
