// SPDX-License-Identifier: Apache-2.0
// Sandbox::create: prepared in a directory of its own, given its name in one rename, taken back when it
// fails.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "supervisor/grammar.h"
#include "supervisor/image_store.h"
#include "supervisor/sandbox_impl.h"
#include "supervisor/vm_spec_builder.h"

namespace msb::supervisor {
namespace {

Result<std::string> random_hex() {
  std::array<unsigned char, 4> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return sys_error("get random bytes");
  std::array<char, 9> text{};
  std::snprintf(text.data(), text.size(), "%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]);
  return std::string(text.data());
}

struct Staged {
  std::string name;  // ".new-..."
  UniqueFd directory;
  UniqueFd lock;
};

// A fresh directory whose ops.lock is ours. A sweeper that looks in the moment between the two takes it away;
// then another one is made.
Result<Staged> stage(int sandboxes_fd) {
  for (int attempt = 0; attempt < 8; ++attempt) {
    Staged out;
    MSB_ASSIGN(const std::string random, random_hex());
    out.name = ".new-" + random;
    if (::mkdirat(sandboxes_fd, out.name.c_str(), 0700) != 0) {
      if (errno == EEXIST) continue;
      return sys_error("make the sandbox's directory");
    }
    auto directory = open_at(sandboxes_fd, out.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!directory.ok()) continue;
    auto lock = open_at(directory->get(), "ops.lock", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!lock.ok() || ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) continue;
    struct stat info {};
    if (::fstat(lock->get(), &info) != 0 || info.st_nlink == 0) continue;
    out.directory = std::move(directory).value();
    out.lock = std::move(lock).value();
    return out;
  }
  return make_error(Errc::kInternal, "make the sandbox's directory: no luck in eight attempts");
}

// Keeps the logs of a sandbox that never came up where `msb logs` finds them, in place of older ones.
void keep_diagnosis(const std::string& home, int sandboxes_fd, const std::string& from,
                    const std::string& name) {
  if (!make_directories(home + "/failed").ok()) return;
  auto failed = open_file(home + "/failed", O_RDONLY | O_DIRECTORY);
  if (!failed.ok() || !remove_tree(failed->get(), name).ok()) return;
  (void)::renameat(sandboxes_fd, (from + "/logs").c_str(), failed->get(), name.c_str());
}

void add_image_labels(SandboxSpec& spec, const ImageConfig& image) {
  for (const Label& label : image.labels) {
    bool taken = !parse_label(label.key + "=" + label.value).ok();  // reserved ones are dropped
    for (const Label& own : spec.labels) taken = taken || own.key == label.key;
    if (!taken) spec.labels.push_back(label);
  }
}

}  // namespace

Result<Sandbox> Sandbox::create(const Home& home, SandboxSpec spec, const CreateOptions& options) {
  MSB_TRY(validate_spec(spec));
  for (const Mount& mount : spec.mounts) {
    if (mount.kind != Mount::Kind::kTmpfs) {
      return make_error(Errc::kUnsupported,
                        "mount %s: host folders and volumes are not offered yet; copy files with msb cp",
                        mount.target.c_str());
    }
  }
  if (spec.root_disk.kind == RootDisk::Kind::kTmpfs && !spec.patches.empty() && options.main) {
    return make_error(Errc::kUnsupported,
                      "patches: with a tmpfs root they cannot precede a detached command");
  }
  const bool named = !spec.name.empty();
  struct stat there {};
  if (named && ::fstatat(home.sandboxes_fd(), spec.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0) {
    return make_error(Errc::kExists, "the name \"%s\" is taken", spec.name.c_str());
  }
  MSB_ASSIGN(const Installation installation, Installation::found());
  MSB_ASSIGN(UniqueFd images, hold_images(home));
  MSB_ASSIGN(const StoredImage image, ensure_image(home, installation, spec.image, spec.pull, options.quiet));
  add_image_labels(spec, image.config);

  MSB_ASSIGN(Staged staged, stage(home.sandboxes_fd()));
  const auto undo = [&](const std::string& name, Error error) {
    (void)remove_tree(home.sandboxes_fd(), name).ok();
    return error;
  };
  if (spec.root_disk.kind == RootDisk::Kind::kDisk) {
    auto disk =
        make_upper_disk(home, installation, spec.root_disk.size_mib, staged.directory.get(), "upper.ext4");
    if (!disk.ok()) return undo(staged.name, std::move(disk).error());
  }
  SandboxRecord record;
  record.image_reference = image.reference;
  record.manifest_digest = image.manifest_digest;
  record.image_file = image.file;
  record.created_ns = wall_clock_ns();
  if (options.main) {
    ExecSpec main = *options.main;
    main.argv = resolve_command(spec, image.config, main.argv);
    if (main.argv.empty()) {
      return undo(staged.name,
                  make_error(Errc::kInvalid, "there is nothing to run: the image names no command"));
    }
    record.main_json = proto::to_json(to_request(main));
  }

  auto impl = std::make_unique<Impl>();
  for (int attempt = 0;; ++attempt) {
    if (!named) {
      MSB_ASSIGN(const std::string random, random_hex());
      spec.name = "msb-" + random;
    }
    record.spec = spec;
    // What must survive a host crash is synced; an ephemeral sandbox need not.
    auto written = write_file_atomic(staged.directory.get(), "spec.json", record_to_json(record), 0600,
                                     spec.ephemeral ? Durability::kBuffered : Durability::kSynced);
    if (!written.ok()) return undo(staged.name, std::move(written).error());
    if (::renameat2(home.sandboxes_fd(), staged.name.c_str(), home.sandboxes_fd(), spec.name.c_str(),
                    RENAME_NOREPLACE) == 0) {
      break;
    }
    const int error = errno;
    if (error == EEXIST && !named && attempt < 8) continue;
    if (error == EEXIST) {
      return undo(staged.name, make_error(Errc::kExists, "the name \"%s\" is taken", spec.name.c_str()));
    }
    return undo(staged.name, sys_error("name the sandbox", error));
  }
  images.reset();
  impl->home_path = home.path();
  impl->name = spec.name;
  impl->directory = std::move(staged.directory);
  impl->sandboxes = UniqueFd(::fcntl(home.sandboxes_fd(), F_DUPFD_CLOEXEC, 0));
  Sandbox sandbox(std::move(impl));
  if (!options.boot) return sandbox;

  const auto bring_up = [&]() -> Status {
    if (spec.patches.empty()) return sandbox.impl_->boot(record, options.start);
    if (!options.main) {
      MSB_TRY(sandbox.impl_->boot(record, options.start));
      return apply_patches(sandbox, spec.patches);
    }
    // The command must find the patches in place: a first run without it puts them on the disk.
    SandboxRecord first = record;
    first.main_json.clear();
    first.spec.ephemeral = false;
    MSB_TRY(
        sandbox.impl_->boot(first, {.lifetime = Lifetime::kAttached, .deadline = options.start.deadline}));
    MSB_TRY(apply_patches(sandbox, spec.patches));
    MSB_TRY(sandbox.impl_->control(R"({"op":"stop","grace_ms":0,"force":false})", options.start.deadline));
    MSB_TRY(wait_for_end(sandbox.directory_fd(), deadline_after(std::chrono::seconds(10))));
    return sandbox.impl_->boot(record, options.start);
  };
  if (options.on_boot) options.on_boot();
  auto up = bring_up();
  if (!up.ok()) {
    (void)sandbox.impl_->force_end(deadline_after(std::chrono::seconds(10))).ok();
    if (const auto hidden = hide_tree(home.sandboxes_fd(), spec.name)) {
      keep_diagnosis(home.path(), home.sandboxes_fd(), *hidden, spec.name);
      (void)remove_tree(home.sandboxes_fd(), *hidden).ok();
    }
    return std::move(up).error();
  }
  return sandbox;
}

}  // namespace msb::supervisor
