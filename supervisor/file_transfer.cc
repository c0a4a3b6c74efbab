// SPDX-License-Identifier: Apache-2.0
// Files between host and guest, through the agent: single files, whole trees, and a spec's patches.
//
// The guest is hostile: on the way out every path of a tree is checked by the protocol's parser (no "..", not
// absolute), opened below a directory descriptor, and no link that came over is ever followed.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <vector>

#include "base/file.h"
#include "proto/file_ops.h"
#include "supervisor/frame_link.h"
#include "supervisor/sandbox_impl.h"

namespace msb::supervisor {
namespace {

constexpr auto kFileDeadline = std::chrono::minutes(10);  // for one step, not for a whole tree
constexpr std::size_t kChunk = std::size_t{256} << 10;
constexpr std::size_t kMaxDepth = 256;

Deadline step_deadline() { return deadline_after(kFileDeadline); }

Result<FrameLink> request(const UniqueFd& directory, const proto::FileRequest& what) {
  MSB_ASSIGN(FrameLink link, connect_agent(directory.get(), step_deadline()));
  queue_request(link, proto::to_json(what));
  MSB_TRY(link.flush());
  return link;
}

// The next frame that is not HELLO; ERROR becomes an Error.
Result<proto::Frame> next_frame(FrameLink& link) {
  for (;;) {
    MSB_ASSIGN(const proto::Frame raw, link.wait_frame(step_deadline()));
    MSB_ASSIGN(const auto frame, skip_hello(raw));
    if (!frame) continue;
    if (frame->type() == proto::FrameType::kError) return error_from_frame(*frame, "");
    return *frame;
  }
}

Error unexpected(const proto::Frame& frame) {
  return make_error(Errc::kProtocol, "the guest's agent sent a frame of type %u",
                    static_cast<unsigned>(frame.raw_type));
}

// Sends while watching for an early ERROR: an agent that refuses stops reading.
Status send_data(FrameLink& link, proto::FrameType type, std::string_view payload) {
  link.queue(type, payload);
  while (link.queued_bytes() > kChunk) {
    MSB_ASSIGN(const auto early, link.next());
    if (early && early->type() == proto::FrameType::kError) return error_from_frame(*early, "");
    MSB_TRY(link.flush());
    if (link.queued_bytes() > kChunk) MSB_TRY(wait_for(link.fd(), link.wanted_events(), step_deadline()));
  }
  return {};
}

Status send_file(FrameLink& link, int fd) {
  std::string buffer(kChunk, '\0');
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return sys_error("read a file");
    if (n == 0) break;
    MSB_TRY(send_data(link, proto::FrameType::kData,
                      std::string_view(buffer.data(), static_cast<std::size_t>(n))));
  }
  return send_data(link, proto::FrameType::kDataEof, {});
}

std::int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }
timespec to_timespec(std::int64_t ns) {
  std::int64_t seconds = ns / 1'000'000'000;
  std::int64_t rest = ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    --seconds;
  }
  return {seconds, rest};
}

// Sends one host tree as the entries of a tree transfer.
class TreeSender {
 public:
  explicit TreeSender(FrameLink& link) : link_(link) {}

  Status send(int dir_fd, const std::string& name, const std::string& path, std::size_t depth) {
    if (depth > kMaxDepth)
      return make_error(Errc::kLimit, "%s: nested deeper than %zu", path.c_str(), kMaxDepth);
    struct stat info {};
    if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return sys_error("read " + name);
    proto::TreeEntry entry;
    entry.path = path;
    entry.kind = proto::file_kind_from_mode(info.st_mode);
    entry.mode = info.st_mode & 07777U;
    entry.uid = info.st_uid;
    entry.gid = info.st_gid;
    entry.mtime_ns = nanoseconds(info.st_mtim);
    switch (entry.kind) {
      case proto::FileKind::kFile:
        return file(dir_fd, name, info, entry);
      case proto::FileKind::kDirectory:
        return directory(dir_fd, name, entry, depth);
      case proto::FileKind::kSymlink: {
        entry.target.resize(proto::kMaxPathBytes);
        const ssize_t n = ::readlinkat(dir_fd, name.c_str(), entry.target.data(), entry.target.size());
        if (n < 0) return sys_error("read the link " + name);
        entry.target.resize(static_cast<std::size_t>(n));
        return announce(entry);
      }
      case proto::FileKind::kFifo:
        return announce(entry);
      case proto::FileKind::kSocket:
        return {};  // a socket without its server is nothing to copy
      case proto::FileKind::kCharDevice:
      case proto::FileKind::kBlockDevice:
        entry.rdev = info.st_rdev;
        return announce(entry);
    }
    return {};
  }

 private:
  Status announce(const proto::TreeEntry& entry) {
    return send_data(link_, proto::FrameType::kEntry, proto::to_json(entry));
  }
  Status file(int dir_fd, const std::string& name, const struct stat& info, proto::TreeEntry& entry) {
    if (info.st_nlink > 1) {
      const auto [first, fresh] = seen_.try_emplace({info.st_dev, info.st_ino}, entry.path);
      if (!fresh) {
        entry.link = first->second;
        return announce(entry);
      }
    }
    MSB_ASSIGN(const UniqueFd fd, open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    entry.size = static_cast<std::uint64_t>(info.st_size);
    MSB_TRY(announce(entry));
    return send_file(link_, fd.get());
  }
  Status directory(int dir_fd, const std::string& name, const proto::TreeEntry& entry, std::size_t depth) {
    MSB_ASSIGN(UniqueFd fd, open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    MSB_TRY(announce(entry));
    const int own = fd.get();
    DIR* dir = ::fdopendir(::fcntl(own, F_DUPFD_CLOEXEC, 0));
    if (dir == nullptr) return sys_error("read the folder " + name);
    std::vector<std::string> names;
    while (const dirent* child = ::readdir(dir)) {
      const std::string_view text(&child->d_name[0]);
      if (text != "." && text != "..") names.emplace_back(text);
    }
    ::closedir(dir);
    std::sort(names.begin(), names.end());
    for (const std::string& child : names) {
      MSB_TRY(send(own, child, entry.path.empty() ? child : entry.path + "/" + child, depth + 1));
    }
    return {};
  }

  FrameLink& link_;
  std::map<std::pair<dev_t, ino_t>, std::string> seen_;
};

// Writes a tree that comes from a guest below one directory of the host.
class TreeReceiver {
 public:
  // `base_fd`/`name` is where the starting point goes; it must not exist unless both are directories.
  TreeReceiver(int base_fd, std::string name) : base_fd_(base_fd), name_(std::move(name)) {}

  Status take(FrameLink& link) {
    for (;;) {
      MSB_ASSIGN(const proto::Frame frame, next_frame(link));
      if (frame.type() == proto::FrameType::kDataEof) break;
      if (frame.type() != proto::FrameType::kEntry) return unexpected(frame);
      MSB_ASSIGN(const proto::TreeEntry entry, proto::from_json<proto::TreeEntry>(as_text(frame.payload)));
      MSB_TRY(one(link, entry).with_context(entry.path.empty() ? name_ : entry.path));
    }
    // Times and modes of directories last: writing into them changes the one and may need more of the other.
    for (auto entry = directories_.rbegin(); entry != directories_.rend(); ++entry)
      MSB_TRY(finish_directory(*entry));
    MSB_ASSIGN(const proto::Frame reply, next_frame(link));
    return reply.type() == proto::FrameType::kReply ? Status{} : Status(unexpected(reply));
  }

 private:
  struct Place {
    UniqueFd parent;
    std::string name;
  };
  // The directory that holds `path`, walked component by component without following links.
  Result<Place> place(const std::string& path) {
    UniqueFd parent(::fcntl(base_fd_, F_DUPFD_CLOEXEC, 0));
    if (!parent) return sys_error("open the target folder");
    std::string_view rest = path;
    std::string name = name_;
    while (!rest.empty()) {
      MSB_ASSIGN(parent, open_at(parent.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      const auto slash = rest.find('/');
      name = rest.substr(0, slash);
      rest = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash + 1);
    }
    return Place{std::move(parent), std::move(name)};
  }

  Status one(FrameLink& link, const proto::TreeEntry& entry) {
    MSB_ASSIGN(const Place at, place(entry.path));
    const int dir = at.parent.get();
    if (entry.kind != proto::FileKind::kDirectory) {
      // What is there already gives way, as with cp; a directory does not.
      if (::unlinkat(dir, at.name.c_str(), 0) != 0 && errno != ENOENT) return sys_error("replace");
    }
    switch (entry.kind) {
      case proto::FileKind::kDirectory:
        if (::mkdirat(dir, at.name.c_str(), 0700) != 0 && errno != EEXIST)
          return sys_error("make the folder");
        directories_.push_back(entry);
        return {};
      case proto::FileKind::kFile:
        return file(link, dir, at.name, entry);
      case proto::FileKind::kSymlink:
        if (::symlinkat(entry.target.c_str(), dir, at.name.c_str()) != 0) return sys_error("make the link");
        return owner_and_time(dir, at.name, entry);
      case proto::FileKind::kFifo:
        if (::mkfifoat(dir, at.name.c_str(), 0600) != 0) return sys_error("make the pipe");
        return mode_owner_time(dir, at.name, entry);
      case proto::FileKind::kSocket:
        return {};
      case proto::FileKind::kCharDevice:
      case proto::FileKind::kBlockDevice:
        return make_error(Errc::kUnsupported, "a device file of a guest is not made on the host");
    }
    return {};
  }

  Status file(FrameLink& link, int dir, const std::string& name, const proto::TreeEntry& entry) {
    if (!entry.link.empty()) {
      MSB_ASSIGN(const Place source, place(entry.link));
      if (::linkat(source.parent.get(), source.name.c_str(), dir, name.c_str(), 0) != 0)
        return sys_error("make the hard link");
      return {};
    }
    MSB_ASSIGN(const UniqueFd fd, open_at(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    for (;;) {
      MSB_ASSIGN(const proto::Frame frame, next_frame(link));
      if (frame.type() == proto::FrameType::kDataEof) break;
      if (frame.type() != proto::FrameType::kData) return unexpected(frame);
      MSB_TRY(write_all(fd.get(), as_text(frame.payload)));
    }
    return mode_owner_time(dir, name, entry);
  }

  // A guest's set-id bits mean nothing good on a host where the owner may be someone else.
  static mode_t host_mode(const proto::TreeEntry& entry) {
    return entry.mode & (::geteuid() == 0 ? 01777U : 0777U);
  }

  Status owner_and_time(int dir, const std::string& name, const proto::TreeEntry& entry) {
    if (entry.mtime_ns) {
      const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(*entry.mtime_ns)};
      if (::utimensat(dir, name.c_str(), &times[0], AT_SYMLINK_NOFOLLOW) != 0)
        return sys_error("set the time");
    }
    return {};
  }
  Status mode_owner_time(int dir, const std::string& name, const proto::TreeEntry& entry) {
    MSB_ASSIGN(const UniqueFd fd, open_at(dir, name, O_PATH | O_NOFOLLOW));
    const std::string proc = "/proc/self/fd/" + std::to_string(fd.get());
    if (::chmod(proc.c_str(), host_mode(entry)) != 0) return sys_error("set the mode");
    return owner_and_time(dir, name, entry);
  }
  Status finish_directory(const proto::TreeEntry& entry) {
    MSB_ASSIGN(const Place at, place(entry.path));
    return mode_owner_time(at.parent.get(), at.name, entry);
  }

  int base_fd_;
  std::string name_;
  std::vector<proto::TreeEntry> directories_;
};

// Directory and last part of a host path; "." and "/" have no last part of their own.
std::pair<std::string, std::string> split_path(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

Result<std::optional<proto::FileInfo>> guest_stat(const UniqueFd& directory, const std::string& path) {
  proto::FileRequest what;
  what.op = proto::FileOp::kStat;
  what.path = path;
  MSB_ASSIGN(FrameLink link, request(directory, what));
  auto reply = wait_reply(link, step_deadline());
  if (!reply.ok() && reply.error().code == Errc::kNotFound) return std::optional<proto::FileInfo>{};
  if (!reply.ok()) return std::move(reply).error();
  MSB_ASSIGN(auto info, proto::from_json<proto::FileInfo>(*reply));
  return std::optional<proto::FileInfo>(std::move(info));
}

}  // namespace

Result<std::string> Sandbox::read_file(const std::string& path, std::size_t max_bytes) {
  proto::FileRequest what;
  what.op = proto::FileOp::kRead;
  what.path = path;
  MSB_ASSIGN(FrameLink link, request(impl_->directory, what));
  std::string out;
  for (bool replied = false;;) {
    MSB_ASSIGN(const proto::Frame frame, next_frame(link));
    if (frame.type() == proto::FrameType::kReply && !replied) {
      replied = true;
    } else if (frame.type() == proto::FrameType::kData) {
      if (frame.payload.size() > max_bytes - out.size()) {
        return make_error(Errc::kLimit, "read %s: larger than %zu bytes", path.c_str(), max_bytes);
      }
      out += as_text(frame.payload);
    } else if (frame.type() == proto::FrameType::kDataEof) {
      return out;
    } else {
      return unexpected(frame);
    }
  }
}

Status Sandbox::write_file(const std::string& path, std::string_view data, std::uint32_t mode) {
  proto::FileRequest what;
  what.op = proto::FileOp::kWrite;
  what.path = path;
  what.mode = mode;
  what.parents = true;
  MSB_ASSIGN(FrameLink link, request(impl_->directory, what));
  while (!data.empty()) {
    const std::size_t chunk = std::min(data.size(), kChunk);
    MSB_TRY(send_data(link, proto::FrameType::kData, data.substr(0, chunk)));
    data.remove_prefix(chunk);
  }
  MSB_TRY(send_data(link, proto::FrameType::kDataEof, {}));
  MSB_TRY(wait_reply(link, step_deadline()));
  return {};
}

Status Sandbox::copy_in(const std::string& host_path, const std::string& guest_path) {
  const auto [directory, name] = split_path(host_path);
  MSB_ASSIGN(const UniqueFd base, open_file(directory, O_RDONLY | O_DIRECTORY));
  struct stat source {};
  if (::fstatat(base.get(), name.c_str(), &source, AT_SYMLINK_NOFOLLOW) != 0)
    return sys_error("read " + host_path);
  std::string target = guest_path;
  // Into a folder that exists, or that a trailing slash says should: below it, under the source's name.
  MSB_ASSIGN(const auto there, guest_stat(impl_->directory, guest_path));
  const bool into = (there && there->kind == proto::FileKind::kDirectory) || guest_path.ends_with("/");
  if (into && name != "." && name != "..") {
    while (!target.empty() && target.back() == '/') target.pop_back();
    target += "/" + name;
  }
  proto::FileRequest what;
  what.op = proto::FileOp::kTreeIn;
  what.path = target;
  what.parents = true;
  MSB_ASSIGN(FrameLink link, request(impl_->directory, what));
  MSB_TRY(TreeSender(link).send(base.get(), name, "", 0));
  MSB_TRY(send_data(link, proto::FrameType::kDataEof, {}));
  MSB_TRY(wait_reply(link, step_deadline()));
  return {};
}

Status Sandbox::copy_out(const std::string& guest_path, const std::string& host_path) {
  auto [directory, name] = split_path(host_path);
  struct stat there {};
  const bool exists = ::stat(host_path.c_str(), &there) == 0;
  if ((exists && S_ISDIR(there.st_mode)) || host_path.ends_with("/") || name == "." || name == "..") {
    directory = host_path;
    name = split_path(guest_path).second;
    if (name.empty() || name == ".")
      return make_error(Errc::kInvalid, "copy %s: say a target name", guest_path.c_str());
  }
  MSB_ASSIGN(const UniqueFd base, open_file(directory, O_RDONLY | O_DIRECTORY));
  proto::FileRequest what;
  what.op = proto::FileOp::kTreeOut;
  what.path = guest_path;
  MSB_ASSIGN(FrameLink link, request(impl_->directory, what));
  return TreeReceiver(base.get(), name).take(link);
}

Status apply_patches(Sandbox& sandbox, const std::vector<Patch>& patches) {
  const UniqueFd directory(::fcntl(sandbox.directory_fd(), F_DUPFD_CLOEXEC, 0));
  for (const Patch& patch : patches) {
    const auto apply = [&]() -> Status {
      proto::FileRequest what;
      what.path = patch.path;
      switch (patch.op) {
        case Patch::Op::kText:
          return sandbox.write_file(patch.path, patch.content, patch.mode.value_or(0644));
        case Patch::Op::kFile:
        case Patch::Op::kDir: {
          // Exactly there: an existing folder of that name is filled, not entered.
          const auto [base_path, name] = split_path(patch.source);
          MSB_ASSIGN(const UniqueFd base, open_file(base_path, O_RDONLY | O_DIRECTORY));
          what.op = proto::FileOp::kTreeIn;
          what.parents = true;
          what.owner = "0:0";
          MSB_ASSIGN(FrameLink link, request(directory, what));
          MSB_TRY(TreeSender(link).send(base.get(), name, "", 0));
          MSB_TRY(send_data(link, proto::FrameType::kDataEof, {}));
          MSB_TRY(wait_reply(link, step_deadline()));
          break;
        }
        case Patch::Op::kAppend: {
          what.op = proto::FileOp::kWrite;
          what.write_mode = proto::WriteMode::kAppend;
          MSB_ASSIGN(FrameLink link, request(directory, what));
          MSB_TRY(send_data(link, proto::FrameType::kData, patch.content));
          MSB_TRY(send_data(link, proto::FrameType::kDataEof, {}));
          MSB_TRY(wait_reply(link, step_deadline()));
          break;
        }
        case Patch::Op::kMkdir:
        case Patch::Op::kSymlink:
        case Patch::Op::kRemove: {
          what.op = patch.op == Patch::Op::kMkdir     ? proto::FileOp::kMkdir
                    : patch.op == Patch::Op::kSymlink ? proto::FileOp::kSymlink
                                                      : proto::FileOp::kRemove;
          if (patch.op == Patch::Op::kMkdir) {
            what.parents = true;
            what.mode = patch.mode.value_or(0755);
          } else if (patch.op == Patch::Op::kSymlink) {
            what.to = patch.content;
          } else {
            what.recursive = true;
            what.missing_ok = true;
          }
          MSB_ASSIGN(FrameLink link, request(directory, what));
          MSB_TRY(wait_reply(link, step_deadline()));
          return {};
        }
      }
      if (!patch.mode || patch.op == Patch::Op::kDir) return {};
      proto::FileRequest chmod;
      chmod.op = proto::FileOp::kChmod;
      chmod.path = patch.path;
      chmod.mode = patch.mode;
      MSB_ASSIGN(FrameLink link, request(directory, chmod));
      MSB_TRY(wait_reply(link, step_deadline()));
      return {};
    };
    MSB_TRY(apply().with_context("patch " + patch.path));
  }
  return {};
}

}  // namespace msb::supervisor
