// SPDX-License-Identifier: Apache-2.0
#include "base/confine/confine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/file.h"
#include "base/unique_fd.h"

namespace msb::confine {
namespace {

constexpr std::array<std::string_view, 12> kLayerNames{
    "no_new_privileges", "user_namespace", "mount_namespace", "network_namespace",
    "ipc_namespace",     "uts_namespace",  "empty_root",      "landlock",
    "capabilities",      "limits",         "no_dump",         "seccomp"};
static_assert(kLayerNames.size() == static_cast<std::size_t>(Layer::kSeccomp) + 1);

Status call(int result, const char* what) {
  if (result < 0) return sys_error(what);
  return {};
}

Status write_proc(const char* path, const std::string& text) {
  MSB_ASSIGN(const UniqueFd fd, open_file(path, O_WRONLY));
  return write_all(fd.get(), text);
}

Status map_self(uid_t uid, gid_t gid) {
  MSB_TRY(write_proc("/proc/self/setgroups", "deny"));
  const std::string user = std::to_string(uid);
  const std::string group = std::to_string(gid);
  MSB_TRY(write_proc("/proc/self/uid_map", user + " " + user + " 1"));
  return write_proc("/proc/self/gid_map", group + " " + group + " 1");
}

Status mount_empty_root() {
  MSB_TRY(call(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make the mounts private"));
  // Any directory will do as a place: the new root is moved away from it at once.
  const char* place = "/tmp";
  struct stat info {};
  if (::stat(place, &info) != 0 || !S_ISDIR(info.st_mode)) place = "/proc";
  constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  MSB_TRY(
      call(::mount("none", place, "tmpfs", kFlags, "size=4k,nr_inodes=2,mode=0555"), "mount an empty root"));
  MSB_TRY(call(::chdir(place), "enter the empty root"));
  // With the same place for both, the old root lands on top and can be dropped.
  MSB_TRY(call(static_cast<int>(::syscall(SYS_pivot_root, ".", ".")), "pivot_root"));
  MSB_TRY(call(::umount2(".", MNT_DETACH), "drop the old root"));
  MSB_TRY(call(::chdir("/"), "enter the empty root"));
  return call(::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kFlags, nullptr),
              "make the empty root read-only");
}

// Landlock's access bits by the level ("ABI") that brought them; the headers of the build may be older.
constexpr std::uint64_t kAccessAbi1 = (1ULL << 13) - 1;
constexpr std::uint64_t kAccessRefer = 1ULL << 13;     // 2
constexpr std::uint64_t kAccessTruncate = 1ULL << 14;  // 3
constexpr std::uint64_t kAccessIoctlDev = 1ULL << 15;  // 5
constexpr std::uint64_t kNetBoth = 3;                  // 4: bind, connect
constexpr std::uint64_t kScopeBoth = 3;                // 6: abstract Unix sockets, signals
struct RulesetAttributes {
  std::uint64_t handled_access_fs = 0;
  std::uint64_t handled_access_net = 0;
  std::uint64_t scoped = 0;
};

std::uint64_t access_bits(PathAccess access) {
  constexpr std::uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
  constexpr std::uint64_t kWrite = LANDLOCK_ACCESS_FS_WRITE_FILE | kAccessTruncate;
  switch (access) {
    case PathAccess::kRead:
      return kRead;
    case PathAccess::kReadExecute:
      return kRead | LANDLOCK_ACCESS_FS_EXECUTE;
    case PathAccess::kReadWrite:
      return kRead | kWrite;
    case PathAccess::kAll:
      return ~0ULL;
  }
  return 0;
}

Status landlock(const std::vector<PathRule>& rules, TcpAccess tcp) {
  const long level = ::syscall(SYS_landlock_create_ruleset, nullptr, 0UL, LANDLOCK_CREATE_RULESET_VERSION);
  if (level < 1) return sys_error("landlock");
  RulesetAttributes attributes;
  attributes.handled_access_fs = kAccessAbi1;
  if (level >= 2) attributes.handled_access_fs |= kAccessRefer;
  if (level >= 3) attributes.handled_access_fs |= kAccessTruncate;
  if (level >= 5) attributes.handled_access_fs |= kAccessIoctlDev;
  if (level >= 4 && tcp == TcpAccess::kNone) attributes.handled_access_net = kNetBoth;
  if (level >= 6) attributes.scoped = kScopeBoth;
  const std::size_t size = level >= 6 ? 24 : level >= 4 ? 16 : 8;
  const UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0U)));
  if (!ruleset) return sys_error("landlock_create_ruleset");
  for (const PathRule& rule : rules) {
    struct stat info {};
    if (::fstat(rule.path_fd, &info) != 0) return sys_error("landlock: stat a path");
    landlock_path_beneath_attr beneath{};
    beneath.parent_fd = rule.path_fd;
    beneath.allowed_access = access_bits(rule.access) & attributes.handled_access_fs;
    constexpr std::uint64_t kFileBits = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                        LANDLOCK_ACCESS_FS_READ_FILE | kAccessTruncate | kAccessIoctlDev;
    if (!S_ISDIR(info.st_mode)) beneath.allowed_access &= kFileBits;
    if (::syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &beneath, 0U) != 0) {
      return sys_error("landlock_add_rule");
    }
  }
  return call(static_cast<int>(::syscall(SYS_landlock_restrict_self, ruleset.get(), 0U)),
              "landlock_restrict_self");
}

Status empty_capabilities(std::uint32_t kept) {
  // The bounding set can only be emptied with CAP_SETPCAP; without it there is nothing to gain from it
  // either, since no_new_privs keeps execve from granting.
  for (unsigned long capability = 0; capability < 64; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break;
  }
  static_cast<void>(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
  __user_cap_header_struct header{};
  header.version = _LINUX_CAPABILITY_VERSION_3;
  __user_cap_data_struct left[2] = {};
  if (kept != 0) {
    __user_cap_data_struct now[2] = {};
    MSB_TRY(call(static_cast<int>(::syscall(SYS_capget, &header, now)), "capget"));
    left[0].permitted = left[0].effective = now[0].permitted & kept;
  }
  return call(static_cast<int>(::syscall(SYS_capset, &header, left)), "capset");
}

}  // namespace

std::string_view layer_name(Layer layer) { return kLayerNames[static_cast<std::size_t>(layer)]; }

void Report::add(Layer layer, const Status& status) {
  if (status) {
    applied_.push_back(layer);
  } else {
    missing_.emplace_back(layer, status.error().text);
  }
}

void Report::write(JsonWriter& out) const {
  out.begin_object().key("applied").begin_array();
  for (const Layer layer : applied_) out.string(layer_name(layer));
  out.end_array().key("missing").begin_array();
  for (const auto& [layer, why] : missing_) {
    out.begin_object().field("layer", layer_name(layer)).field("why", why).end_object();
  }
  out.end_array().end_object();
}

std::string Report::missing_text() const {
  std::string text;
  for (const auto& [layer, why] : missing_) {
    if (!text.empty()) text += ", ";
    text.append(layer_name(layer)).append(" (").append(why).append(")");
  }
  return text;
}

void enter_namespaces(const Namespaces& wanted, Report& report) {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  Status user = call(::unshare(CLONE_NEWUSER), "unshare");
  if (user) user = map_self(uid, gid);
  report.add(Layer::kUserNamespace, user);
  const auto enter = [&report](bool asked, int flag, Layer layer) {
    if (asked) report.add(layer, call(::unshare(flag), "unshare"));
  };
  enter(wanted.mount, CLONE_NEWNS, Layer::kMountNamespace);
  enter(wanted.network, CLONE_NEWNET, Layer::kNetworkNamespace);
  enter(wanted.ipc, CLONE_NEWIPC, Layer::kIpcNamespace);
  enter(wanted.uts, CLONE_NEWUTS, Layer::kUtsNamespace);
}

void enter_empty_root(Report& report) {
  const auto& applied = report.applied();
  if (std::find(applied.begin(), applied.end(), Layer::kMountNamespace) == applied.end()) {
    report.add(Layer::kEmptyRoot, make_error(Errc::kUnavailable, "there is no mount namespace"));
    return;
  }
  report.add(Layer::kEmptyRoot, mount_empty_root());
}

void restrict_paths(const std::vector<PathRule>& rules, TcpAccess tcp, Report& report) {
  report.add(Layer::kLandlock, landlock(rules, tcp));
}

void set_no_new_privileges(Report& report) {
  report.add(Layer::kNoNewPrivileges, call(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs"));
}

void drop_capabilities(Report& report, std::uint32_t kept) {
  report.add(Layer::kCapabilities, empty_capabilities(kept));
}

void set_limits(const std::vector<std::pair<int, rlim_t>>& limits, Report& report) {
  Status status;
  const auto set = [&status](int resource, rlim_t value) {
    const auto which = static_cast<__rlimit_resource>(resource);
    rlimit now{};
    if (::getrlimit(which, &now) != 0) return;
    const rlim_t bounded = std::min(value, now.rlim_max);
    const rlimit wanted{bounded, bounded};
    if (::setrlimit(which, &wanted) != 0) status = sys_error("setrlimit");
  };
  set(RLIMIT_CORE, 0);
  for (const auto& [resource, value] : limits) set(resource, value);
  report.add(Layer::kLimits, status);
}

void forbid_dumps(Report& report) {
  report.add(Layer::kNoDump, call(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "forbid dumps"));
}

}  // namespace msb::confine
