// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/tree_transfer.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <map>
#include <utility>
#include <vector>

#include "base/file.h"
#include "guest-agent/file_ops.h"
#include "guest-agent/tree_walk.h"
#include "guest-agent/user_db.h"

namespace msb::agent {
namespace {

constexpr std::size_t kDataBytes = std::size_t{256} << 10;

proto::TreeEntry to_entry(const std::string& path, const struct stat& info) {
  const proto::FileInfo described = to_file_info(info);
  proto::TreeEntry entry;
  entry.path = path;
  entry.kind = described.kind;
  entry.mode = described.mode;
  entry.uid = described.uid;
  entry.gid = described.gid;
  entry.mtime_ns = described.mtime_ns;
  entry.size = described.size;
  entry.rdev = described.rdev;
  return entry;
}

class TreeSender {
 public:
  explicit TreeSender(FrameStream& stream) : stream_(stream) {}

  [[nodiscard]] Status send(int dir_fd, const std::string& name, const std::string& path,
                            const struct stat& info) {
    proto::TreeEntry entry = to_entry(path, info);
    if (entry.kind == proto::FileKind::kSocket) return {};  // nothing that could be kept
    if (entry.kind == proto::FileKind::kSymlink) {
      MSB_ASSIGN(entry.target, read_link(dir_fd, name));
    }
    if (entry.kind != proto::FileKind::kFile) return stream_.send_message(proto::FrameType::kEntry, entry);
    if (info.st_nlink > 1) {
      const auto [first, is_new] = links_.emplace(std::pair(info.st_dev, info.st_ino), path);
      if (!is_new) {
        entry.link = first->second;
        return stream_.send_message(proto::FrameType::kEntry, entry);
      }
    }
    // Never blocks on a FIFO that took the file's place; never follows a link that did.
    const UniqueFd fd(::openat(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd) return sys_error("open " + (path.empty() ? name : path));
    MSB_TRY(stream_.send_message(proto::FrameType::kEntry, entry));
    return send_contents(fd.get(), std::nullopt, stream_);
  }

 private:
  FrameStream& stream_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

// Opens `path` below the directory `top` without following any link and without leaving it.
UniqueFd open_below(int top, const std::string& path, std::uint64_t flags, std::uint64_t mode = 0) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, top, path.c_str(), &how, sizeof how)));
}

class TreeReceiver {
 public:
  TreeReceiver(FrameStream& stream, std::string destination, Owner owner)
      : stream_(stream), destination_(std::move(destination)), owner_(owner) {}

  [[nodiscard]] Status run() {
    while (true) {
      MSB_ASSIGN(const proto::Frame frame, stream_.receive());
      if (frame.type() == proto::FrameType::kDataEof) return finish();
      if (frame.type() != proto::FrameType::kEntry) {
        return make_error(Errc::kProtocol, "receive a tree: unexpected frame of type %u",
                          unsigned{frame.raw_type});
      }
      MSB_ASSIGN(const proto::TreeEntry entry, proto::from_json<proto::TreeEntry>(as_text(frame.payload)));
      MSB_TRY(entry.path.empty() ? start(entry) : add(entry));
    }
  }

 private:
  struct DirectoryTime {
    std::string path;
    std::int64_t mtime_ns;
  };

  // The starting point: a directory, or a single file (then it is the whole tree).
  [[nodiscard]] Status start(const proto::TreeEntry& entry) {
    if (top_ || single_) return make_error(Errc::kProtocol, "receive a tree: two starting points");
    if (entry.kind == proto::FileKind::kDirectory) {
      const bool made = ::mkdir(destination_.c_str(), 0700) == 0;
      if (!made && errno != EEXIST) return sys_error("make directory " + destination_);
      MSB_ASSIGN(top_, open_file(destination_, O_RDONLY | O_DIRECTORY));
      if (!made) return {};  // merged into: its own attributes stay
      return apply(top_.get(), ".", entry);
    }
    single_ = true;
    MSB_ASSIGN(const UniqueFd parent, open_file(parent_path(destination_), O_RDONLY | O_DIRECTORY));
    return create(parent.get(), destination_.substr(destination_.rfind('/') + 1), entry);
  }

  [[nodiscard]] Status add(const proto::TreeEntry& entry) {
    if (!top_)
      return make_error(Errc::kProtocol, "receive a tree: %s comes before its directory", entry.path.c_str());
    const std::size_t slash = entry.path.rfind('/');
    if (slash == std::string::npos) return create(top_.get(), entry.path, entry);
    const std::string directory = entry.path.substr(0, slash);
    if (directory != parent_name_) {
      parent_ = open_below(top_.get(), directory, O_RDONLY | O_DIRECTORY);
      if (!parent_) return sys_error("open directory " + directory);
      parent_name_ = directory;
    }
    return create(parent_.get(), entry.path.substr(slash + 1), entry);
  }

  [[nodiscard]] Status create(int dir_fd, const std::string& name, const proto::TreeEntry& entry) {
    if (entry.kind == proto::FileKind::kDirectory) {
      if (::mkdirat(dir_fd, name.c_str(), 0700) == 0) return apply(dir_fd, name, entry);
      struct stat info {};
      if (errno == EEXIST && ::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
          S_ISDIR(info.st_mode)) {
        return {};
      }
      return sys_error("make directory " + shown(entry), errno == 0 ? EEXIST : errno);
    }
    if (::unlinkat(dir_fd, name.c_str(), 0) != 0 && errno != ENOENT)
      return sys_error("replace " + shown(entry));
    int result = 0;
    switch (entry.kind) {
      case proto::FileKind::kFile:
        if (entry.link.empty()) return create_file(dir_fd, name, entry);
        return create_hardlink(dir_fd, name, entry);
      case proto::FileKind::kSymlink:
        result = ::symlinkat(entry.target.c_str(), dir_fd, name.c_str());
        break;
      case proto::FileKind::kFifo:
        result = ::mkfifoat(dir_fd, name.c_str(), 0600);
        break;
      case proto::FileKind::kCharDevice:
        result = ::mknodat(dir_fd, name.c_str(), S_IFCHR | 0600, static_cast<dev_t>(entry.rdev));
        break;
      case proto::FileKind::kBlockDevice:
        result = ::mknodat(dir_fd, name.c_str(), S_IFBLK | 0600, static_cast<dev_t>(entry.rdev));
        break;
      case proto::FileKind::kSocket:
        return {};
      case proto::FileKind::kDirectory:
        break;  // handled above
    }
    if (result != 0) return sys_error("make " + shown(entry));
    return apply(dir_fd, name, entry);
  }

  [[nodiscard]] Status create_file(int dir_fd, const std::string& name, const proto::TreeEntry& entry) {
    const UniqueFd fd(
        ::openat(dir_fd, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return sys_error("create " + shown(entry));
    while (true) {
      MSB_ASSIGN(const proto::Frame frame, stream_.receive());
      if (frame.type() == proto::FrameType::kDataEof) break;
      if (frame.type() != proto::FrameType::kData) {
        return make_error(Errc::kProtocol, "receive %s: unexpected frame of type %u", shown(entry).c_str(),
                          unsigned{frame.raw_type});
      }
      MSB_TRY(write_all(fd.get(), as_text(frame.payload)).with_context(shown(entry)));
    }
    return apply(dir_fd, name, entry);
  }

  [[nodiscard]] Status create_hardlink(int dir_fd, const std::string& name, const proto::TreeEntry& entry) {
    if (!top_) return make_error(Errc::kProtocol, "receive a tree: a link without its file");
    const UniqueFd target = open_below(top_.get(), entry.link, O_PATH | O_NOFOLLOW);
    if (!target) return sys_error("open " + entry.link);
    if (::linkat(target.get(), "", dir_fd, name.c_str(), AT_EMPTY_PATH) != 0)
      return sys_error("link " + shown(entry));
    return {};
  }

  // Owner, mode, time of what was just made under `name`.
  [[nodiscard]] Status apply(int dir_fd, const std::string& name, const proto::TreeEntry& entry) {
    const uid_t uid = owner_.uid != kUnset ? owner_.uid : entry.uid.value_or(kUnset);
    const gid_t gid = owner_.gid != kUnset ? owner_.gid : entry.gid.value_or(kUnset);
    if ((uid != kUnset || gid != kUnset) &&
        ::fchownat(dir_fd, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return sys_error("set the owner of " + shown(entry));
    }
    if (entry.kind != proto::FileKind::kSymlink && ::fchmodat(dir_fd, name.c_str(), entry.mode, 0) != 0) {
      return sys_error("set the mode of " + shown(entry));
    }
    if (!entry.mtime_ns) return {};
    if (entry.kind == proto::FileKind::kDirectory) {
      directories_.push_back({entry.path, *entry.mtime_ns});
      return {};
    }
    return set_time(dir_fd, name, *entry.mtime_ns, shown(entry));
  }

  [[nodiscard]] static Status set_time(int dir_fd, const std::string& name, std::int64_t ns,
                                       const std::string& what) {
    constexpr std::int64_t kNanoseconds = 1'000'000'000;
    std::int64_t seconds = ns / kNanoseconds;
    std::int64_t rest = ns % kNanoseconds;
    if (rest < 0) {
      rest += kNanoseconds;
      --seconds;
    }
    const timespec times[2] = {{0, UTIME_OMIT}, {static_cast<time_t>(seconds), static_cast<long>(rest)}};
    if (::utimensat(dir_fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      return sys_error("set the time of " + what);
    return {};
  }

  // The times of directories come last: filling one changes it.
  [[nodiscard]] Status finish() {
    if (!top_ && !single_) return make_error(Errc::kProtocol, "receive a tree: it is empty");
    for (auto directory = directories_.rbegin(); directory != directories_.rend(); ++directory) {
      const UniqueFd fd = directory->path.empty()
                              ? open_below(top_.get(), ".", O_RDONLY | O_DIRECTORY)
                              : open_below(top_.get(), directory->path, O_RDONLY | O_DIRECTORY);
      if (fd) MSB_TRY(set_time(fd.get(), ".", directory->mtime_ns, directory->path));
    }
    return {};
  }

  [[nodiscard]] std::string shown(const proto::TreeEntry& entry) const {
    return entry.path.empty() ? destination_ : destination_ + "/" + entry.path;
  }

  static constexpr uid_t kUnset = static_cast<uid_t>(-1);
  FrameStream& stream_;
  std::string destination_;
  Owner owner_;
  UniqueFd top_;
  UniqueFd parent_;
  std::string parent_name_;
  bool single_ = false;
  std::vector<DirectoryTime> directories_;
};

}  // namespace

Status send_contents(int fd, std::optional<std::uint64_t> limit, FrameStream& stream) {
  Bytes buffer(kDataBytes);
  std::uint64_t left = limit.value_or(UINT64_MAX);
  while (left != 0) {
    const ssize_t got =
        ::read(fd, buffer.data(), static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), left)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return sys_error("read the file");
    if (got == 0) break;
    MSB_TRY(stream.send(proto::FrameType::kData, ByteView(buffer).first(static_cast<std::size_t>(got))));
    left -= static_cast<std::uint64_t>(got);
  }
  return stream.send(proto::FrameType::kDataEof, {});
}

Status send_tree(const proto::FileRequest& request, FrameStream& stream) {
  std::string path = absolute(request.path);
  struct stat info {};
  if ((request.follow ? ::stat(path.c_str(), &info) : ::lstat(path.c_str(), &info)) != 0) {
    return sys_error("look at " + path);
  }
  if (request.follow) {
    char resolved[PATH_MAX];
    if (::realpath(path.c_str(), resolved) == nullptr) return sys_error("resolve " + path);
    path = resolved;
  }
  TreeSender sender(stream);
  MSB_TRY(sender.send(AT_FDCWD, path, "", info));
  if (S_ISDIR(info.st_mode)) {
    MSB_TRY(walk_tree(path, [&](const WalkEntry& entry) {
      return sender.send(entry.dir_fd, entry.name, entry.path, entry.info);
    }));
  }
  return stream.send(proto::FrameType::kDataEof, {});
}

Status receive_tree(const proto::FileRequest& request, FrameStream& stream) {
  std::string destination = absolute(request.path);
  while (destination.size() > 1 && destination.back() == '/') destination.pop_back();
  Owner owner;
  if (!request.owner.empty()) {
    MSB_ASSIGN(owner, resolve_owner(read_passwd(), read_group(), request.owner));
  }
  if (request.parents) MSB_TRY(make_directories(parent_path(destination), 0755));
  return TreeReceiver(stream, std::move(destination), owner).run();
}

}  // namespace msb::agent
