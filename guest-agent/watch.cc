// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/watch.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <unordered_map>

#include "guest-agent/file_ops.h"
#include "guest-agent/tree_walk.h"

namespace msb::agent {
namespace {

using Kind = proto::WatchEvent::Kind;

constexpr std::uint32_t kMask = IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE | IN_DELETE_SELF |
                                IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF | IN_ATTRIB;

struct KindOfMask {
  std::uint32_t mask;
  Kind kind;
};
constexpr std::array<KindOfMask, 9> kKinds{{{IN_CREATE, Kind::kCreate},
                                            {IN_MODIFY, Kind::kModify},
                                            {IN_CLOSE_WRITE, Kind::kCloseWrite},
                                            {IN_DELETE, Kind::kDelete},
                                            {IN_DELETE_SELF, Kind::kDelete},
                                            {IN_MOVED_FROM, Kind::kMovedFrom},
                                            {IN_MOVE_SELF, Kind::kMovedFrom},
                                            {IN_MOVED_TO, Kind::kMovedTo},
                                            {IN_ATTRIB, Kind::kAttrib}}};

class Watcher {
 public:
  Watcher(UniqueFd inotify, std::string root, bool recursive, FrameStream& stream)
      : inotify_(std::move(inotify)), root_(std::move(root)), recursive_(recursive), stream_(stream) {}

  [[nodiscard]] Status start() {
    const int watch = ::inotify_add_watch(inotify_.get(), root_.c_str(), kMask);
    if (watch < 0) return sys_error("watch " + root_);
    paths_[watch] = "";
    if (recursive_) MSB_TRY(add_below(""));
    return {};
  }

  // Until the client is gone.
  [[nodiscard]] Status run() {
    while (true) {
      std::array<pollfd, 2> wait{{{inotify_.get(), POLLIN, 0}, {stream_.socket(), POLLIN | POLLRDHUP, 0}}};
      if (::poll(wait.data(), wait.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return sys_error("wait for changes");
      }
      if (wait[1].revents != 0) return {};  // a watching client says nothing more but good-bye
      MSB_TRY(forward());
    }
  }

 private:
  // Adds the directories below `relative` (or itself, when it is new).
  [[nodiscard]] Status add_below(const std::string& relative) {
    return walk_tree(root_ + (relative.empty() ? "" : "/" + relative), [&](const WalkEntry& entry) -> Status {
      if (S_ISDIR(entry.info.st_mode)) add(relative.empty() ? entry.path : relative + "/" + entry.path);
      return {};
    });
  }

  void add(const std::string& relative) {
    if (paths_.size() >= kMaxWatchedDirectories) {
      overflow_ = true;
      return;
    }
    const std::string path = root_ + "/" + relative;
    const int watch = ::inotify_add_watch(inotify_.get(), path.c_str(), kMask | IN_ONLYDIR | IN_DONT_FOLLOW);
    if (watch >= 0) paths_[watch] = relative;
  }

  [[nodiscard]] Status forward() {
    alignas(inotify_event) std::array<char, 16'384> buffer;
    const ssize_t got = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (got < 0) return errno == EINTR || errno == EAGAIN ? Status() : sys_error("read changes");
    std::size_t at = 0;
    const auto size = static_cast<std::size_t>(got);
    while (at < size && sizeof(inotify_event) <= size - at) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name = buffer.data() + at + sizeof event;
      at += sizeof event + event.len;
      MSB_TRY(forward_one(event, event.len == 0 ? std::string() : std::string(name)));
    }
    if (overflow_) {
      overflow_ = false;
      MSB_TRY(
          stream_.send_message(proto::FrameType::kEvent, proto::WatchEvent{Kind::kOverflow, "", false, 0}));
    }
    return {};
  }

  [[nodiscard]] Status forward_one(const inotify_event& event, const std::string& name) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) {
      overflow_ = true;
      return {};
    }
    const auto found = paths_.find(event.wd);
    if (found == paths_.end()) return {};
    const std::string directory = found->second;
    if ((event.mask & IN_IGNORED) != 0) {
      paths_.erase(found);
      return {};
    }
    // A watched directory below the root is reported by its parent already.
    if (name.empty() && !directory.empty() && (event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB)) != 0)
      return {};
    proto::WatchEvent out;
    for (const KindOfMask& entry : kKinds) {
      if ((event.mask & entry.mask) != 0) out.kind = entry.kind;
    }
    out.path = directory.empty() ? name : name.empty() ? directory : directory + "/" + name;
    out.directory = (event.mask & IN_ISDIR) != 0;
    out.cookie = event.cookie;
    if (recursive_ && out.directory && (out.kind == Kind::kCreate || out.kind == Kind::kMovedTo)) {
      add(out.path);
      (void)add_below(out.path);  // vanished again: nothing to watch
    }
    return stream_.send_message(proto::FrameType::kEvent, out);
  }

  UniqueFd inotify_;
  std::string root_;
  bool recursive_;
  FrameStream& stream_;
  std::unordered_map<int, std::string> paths_;
  bool overflow_ = false;
};

struct EmptyReply {
  void write(JsonWriter& out) const { out.begin_object().end_object(); }
};

}  // namespace

Status serve_watch(const proto::FileRequest& request, FrameStream& stream) {
  UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify) return sys_error("create an inotify instance");
  Watcher watcher(std::move(inotify), absolute(request.path), request.recursive, stream);
  MSB_TRY(watcher.start());
  MSB_TRY(stream.send_message(proto::FrameType::kReply, EmptyReply{}));
  return watcher.run();
}

}  // namespace msb::agent
