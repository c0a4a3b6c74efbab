// SPDX-License-Identifier: Apache-2.0
// How a process of ours takes its own rights away, in stages, before the first byte from outside.
//
// Theory of operation. Each stage is one call; what the host does not allow (user namespaces switched off, an
// old kernel) is noted in a Report and the other stages still apply: the caller decides whether that is
// enough. The order is the caller's, and matters: namespaces need a single thread and come first; the empty
// root needs the mount namespace; Landlock and seccomp need no_new_privs; capabilities go after what needs
// them; the seccomp filter comes last, one for each kind of thread (seccomp.h).
//
// Single-threaded until the stages for the whole process are done. Nothing here is about any one program:
// what a role may do stands beside that role.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace msb::confine {

enum class Layer : std::uint8_t {
  kNoNewPrivileges,
  kUserNamespace,
  kMountNamespace,
  kNetworkNamespace,
  kIpcNamespace,
  kUtsNamespace,
  kEmptyRoot,
  kLandlock,
  kCapabilities,
  kLimits,
  kNoDump,
  kSeccomp,
};
[[nodiscard]] std::string_view layer_name(Layer layer);

// Which layers stand and which do not, with the reason.
class Report {
 public:
  void add(Layer layer, const Status& status);
  [[nodiscard]] bool complete() const { return missing_.empty(); }
  [[nodiscard]] const std::vector<Layer>& applied() const { return applied_; }
  [[nodiscard]] const std::vector<std::pair<Layer, std::string>>& missing() const { return missing_; }
  // {"applied":["landlock",...],"missing":[{"layer":"user_namespace","why":"..."}]}
  void write(JsonWriter& out) const;
  // "user_namespace (unshare: operation not permitted), ..." or "".
  [[nodiscard]] std::string missing_text() const;

 private:
  std::vector<Layer> applied_;
  std::vector<std::pair<Layer, std::string>> missing_;
};

// A new user namespace (this user mapped to itself, no groups changeable) and the others asked for inside it.
struct Namespaces {
  bool mount = false;
  bool network = false;  // nothing but a loopback that is down
  bool ipc = false;
  bool uts = false;
};
void enter_namespaces(const Namespaces& wanted, Report& report);

// Makes an empty, read-only tmpfs the root and the working directory. Needs the mount namespace; without it
// nothing is changed and the layer counts as missing. Open descriptors stay usable.
void enter_empty_root(Report& report);

// What may be reached by path from here on; everything else is refused. `path_fd` (O_PATH, borrowed) is a
// file or a directory with all below it.
enum class PathAccess : std::uint8_t { kRead, kReadExecute, kReadWrite, kAll };
struct PathRule {
  int path_fd;
  PathAccess access;
};
enum class TcpAccess : std::uint8_t { kNone, kAll };
// Landlock, at the level the kernel has (TCP is only covered from its fourth on). Needs no_new_privs.
void restrict_paths(const std::vector<PathRule>& rules, TcpAccess tcp, Report& report);

// PR_SET_NO_NEW_PRIVS.
void set_no_new_privileges(Report& report);
// Empties the permitted, effective, inheritable, ambient and bounding sets. Of the first two what is there of
// `kept` (bits by the numbers of the first 32 capabilities) stays; programs started from here have nothing
// all the same.
void drop_capabilities(Report& report, std::uint32_t kept = 0);
// Soft and hard limits, e.g. {RLIMIT_NOFILE, 64}. Core dumps are always limited to nothing. A limit that
// would have to be raised is left as it is.
void set_limits(const std::vector<std::pair<int, rlim_t>>& limits, Report& report);
// Core dumps off, and no tracing by other processes of this user.
void forbid_dumps(Report& report);

}  // namespace msb::confine
