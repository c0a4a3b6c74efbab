// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "supervisor/names.h"
#include "supervisor/sandbox_dir.h"
#include "supervisor/supervisor.h"

namespace msb::supervisor {
namespace {

std::string default_home() {
  if (const char* home = std::getenv("MSB_HOME"); home != nullptr && *home != '\0') return home;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/')
    return std::string(data) + "/msb";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr && *home != '\0' ? home : "/root") + "/.local/share/msb";
}

bool is_directory(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// Whether a machine runs there, or is coming up; true when that cannot be said.
bool is_up(int dir_fd) {
  const auto file = read_state(dir_fd);
  if (!file.ok()) return true;
  const auto derived = derive_state(*file);
  if (!derived.ok() || !derived->is_over()) return true;
  return !wait_for_end(dir_fd, SteadyClock{}.now()).ok();
}

// Names in a directory, "." and ".." left out; unsorted.
Result<std::vector<std::string>> entries(int dir_fd) {
  const int copy = ::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return sys_error("open the sandboxes' directory");
  DIR* dir = ::fdopendir(copy);
  if (dir == nullptr) {
    const Error error = sys_error("read the sandboxes' directory");
    ::close(copy);
    return error;
  }
  std::vector<std::string> out;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name(&entry->d_name[0]);
    if (name != "." && name != "..") out.emplace_back(name);
  }
  ::closedir(dir);
  return out;
}

}  // namespace

Deadline deadline_after(Duration delay) { return SteadyClock{}.now() + delay; }

Result<Installation> Installation::found() {
  std::vector<std::string> prefixes;
  if (const auto self = executable_path(); self.ok()) {
    const std::string directory = parent_path(*self);
    prefixes.push_back(parent_path(directory));
    if (directory.ends_with("/libexec/msb")) prefixes.push_back(parent_path(parent_path(directory)));
  }
  if (const char* prefix = std::getenv("MSB_PREFIX"); prefix != nullptr && *prefix == '/')
    prefixes.emplace_back(prefix);
  prefixes.emplace_back("/usr/local");
  prefixes.emplace_back("/usr");
  for (const std::string& prefix : prefixes) {
    Installation out{prefix + "/libexec/msb", prefix + "/share/msb"};
    if (::access((out.libexec + "/msb-vmm").c_str(), X_OK) == 0) return out;
  }
  return make_error(
      Errc::kNotFound,
      "find libexec/msb/msb-vmm: it is not beside this program, nor below $MSB_PREFIX, /usr/local or /usr");
}

Result<Home> Home::open(std::string path) {
  Home home;
  home.path_ = path.empty() ? default_home() : std::move(path);
  if (!home.path_.starts_with("/"))
    return make_error(Errc::kInvalid, "MSB_HOME: \"%s\" is not an absolute path", home.path_.c_str());
  while (home.path_.size() > 1 && home.path_.back() == '/') home.path_.pop_back();
  const std::string sandboxes = home.path_ + "/sandboxes";
  if (!is_directory(sandboxes)) MSB_TRY(make_directories(sandboxes));
  MSB_ASSIGN(home.sandboxes_, open_file(sandboxes, O_RDONLY | O_DIRECTORY));
  return home;
}

Result<std::vector<std::string>> Home::names() const {
  MSB_ASSIGN(std::vector<std::string> out, entries(sandboxes_.get()));
  std::erase_if(out, [](const std::string& name) { return name.front() == '.'; });
  std::sort(out.begin(), out.end());
  return out;
}

Result<SandboxSummary> Home::summary(const std::string& name) const {
  MSB_TRY(check_name(name));
  MSB_ASSIGN(const std::string text, read_record(sandboxes_.get(), name + "/spec.json"));
  auto record = record_summary_from_json(text);
  if (!record.ok()) return std::move(record).error().with_context("spec.json of " + name);
  MSB_ASSIGN(const StateFile file, read_state(sandboxes_.get(), name + "/state.json"));
  MSB_ASSIGN(DerivedState derived, derive_state(file));
  SandboxSummary out;
  out.name = name;
  out.state = derived.state;
  out.image = std::move(record->image);
  out.labels = std::move(record->labels);
  out.created_ns = record->created_ns;
  out.ending = std::move(derived.ending);
  return out;
}

void Home::sweep() const {
  auto all = entries(sandboxes_.get());
  if (!all.ok()) return;
  for (const std::string& name : *all) {
    const bool named = name.front() != '.';
    if (named && ::faccessat(sandboxes_.get(), (name + "/ephemeral").c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    // Whoever makes or removes it holds its ops.lock; a lock that is free has lost its holder.
    auto dir = open_at(sandboxes_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!dir.ok()) continue;
    auto lock = open_at(dir->get(), "ops.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (!lock.ok() || ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) continue;
    if (named && is_up(dir->get())) continue;
    (void)remove_tree(sandboxes_.get(), name).ok();
  }
}

std::string_view state_name(State state) {
  switch (state) {
    case State::kCreated:
      return "created";
    case State::kStarting:
      return "starting";
    case State::kRunning:
      return "running";
    case State::kPaused:
      return "paused";
    case State::kStopping:
      return "stopping";
    case State::kStopped:
      return "stopped";
    case State::kCrashed:
      return "crashed";
  }
  return "";
}

}  // namespace msb::supervisor
