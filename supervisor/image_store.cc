// SPDX-License-Identifier: Apache-2.0
#include "supervisor/image_store.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/file.h"
#include "base/image_reference.h"
#include "base/json.h"
#include "base/socket.h"
#include "base/subprocess.h"
#include "supervisor/sandbox_dir.h"

extern char** environ;  // NOLINT: POSIX names it so

namespace msb::supervisor {
namespace {

constexpr std::size_t kMaxStoreJson = std::size_t{8} << 20;

// A path of the store: relative, without "..", so that a damaged file cannot name something outside.
Result<std::string> store_path(const Home& home, const std::string& relative) {
  if (relative.empty() || relative.front() == '/' ||
      ("/" + relative + "/").find("/../") != std::string::npos) {
    return make_error(Errc::kCorrupt, "the image store names \"%s\", which is not a path inside it",
                      relative.c_str());
  }
  return home.path() + "/" + relative;
}

Result<ImageConfig> read_config(const JsonView& view) {
  ImageConfig config;
  MSB_ASSIGN(config.env, view.get_strings_or_empty("env"));
  MSB_ASSIGN(config.entrypoint, view.get_strings_or_empty("entrypoint"));
  MSB_ASSIGN(config.cmd, view.get_strings_or_empty("cmd"));
  MSB_ASSIGN(config.workdir, view.get_string_or("workdir", ""));
  MSB_ASSIGN(config.user, view.get_string_or("user", ""));
  MSB_ASSIGN(config.stop_signal, view.get_string_or("stop_signal", ""));
  if (const auto labels = view.find("labels")) {
    MSB_ASSIGN(const auto members, labels->members());
    for (const auto& [key, value] : members) {
      MSB_ASSIGN(const std::string_view text, value.as_string());
      config.labels.push_back({std::string(key), std::string(text)});
    }
  }
  return config;
}

std::vector<std::string> environment_with_home(const Home& home) {
  std::vector<std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("MSB_HOME=")) out.emplace_back(*entry);
  }
  out.push_back("MSB_HOME=" + home.path());
  return out;
}

}  // namespace

Result<UniqueFd> hold_images(const Home& home) {
  MSB_TRY(make_directories(home.path() + "/images"));
  MSB_ASSIGN(UniqueFd lock, open_file(home.path() + "/images/lock", O_RDWR | O_CREAT));
  while (::flock(lock.get(), LOCK_SH) != 0) {
    if (errno != EINTR) return sys_error("lock the image store");
  }
  return lock;
}

Result<StoredImage> load_image(const Home& home, const std::string& file) {
  MSB_ASSIGN(const std::string path, store_path(home, file));
  MSB_ASSIGN(const std::string text, read_file(path, kMaxStoreJson));
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(text, {.max_bytes = kMaxStoreJson}));
  const JsonView root = document.root();
  StoredImage image;
  image.file = file;
  MSB_ASSIGN(const JsonView config, root.at("config"));
  MSB_ASSIGN(image.config, read_config(config));
  MSB_ASSIGN(const JsonView disk, root.at("root"));
  MSB_ASSIGN(image.file_system, disk.get_string_or("file_system", "erofs"));
  MSB_ASSIGN(const JsonView extents_view, disk.at("extents"));
  MSB_ASSIGN(const auto extents, extents_view.elements());
  for (const JsonView& extent : extents) {
    ImageExtent out;
    MSB_ASSIGN(const std::string relative, extent.get_string("path"));
    MSB_ASSIGN(out.path, store_path(home, relative));
    MSB_ASSIGN(out.offset, extent.get_uint("offset"));
    MSB_ASSIGN(out.length, extent.get_uint("length"));
    image.extents.push_back(std::move(out));
  }
  if (image.extents.empty())
    return make_error(Errc::kCorrupt, "%s: the image has no root disk", file.c_str());
  return image;
}

Result<std::optional<StoredImage>> find_image(const Home& home, std::string_view reference) {
  MSB_ASSIGN(const ImageReference parsed, parse_image_reference(reference));
  const auto text = read_file(home.path() + "/images/refs/" + parsed.key() + ".json", kMaxStoreJson);
  if (!text.ok()) {
    if (text.error().code == Errc::kNotFound) return std::optional<StoredImage>{};
    return Error(text.error());
  }
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(*text));
  MSB_ASSIGN(const std::string digest, document.root().get_string("manifest_digest"));
  MSB_ASSIGN(const std::string file, document.root().get_string("image"));
  auto image = load_image(home, file);
  if (!image.ok()) {
    if (image.error().code == Errc::kNotFound) return std::optional<StoredImage>{};
    return std::move(image).error();
  }
  image->reference = parsed.canonical();
  image->manifest_digest = digest;
  return std::optional<StoredImage>(std::move(image).value());
}

Result<StoredImage> ensure_image(const Home& home, const Installation& installation,
                                 std::string_view reference, PullPolicy policy, bool quiet) {
  if (policy != PullPolicy::kAlways) {
    MSB_ASSIGN(auto image, find_image(home, reference));
    if (image) return std::move(*image);
    if (policy == PullPolicy::kNever) {
      return make_error(Errc::kNotFound,
                        "find image %.*s: it is not in the store, and the pull policy is \"never\"",
                        static_cast<int>(reference.size()), reference.data());
    }
  }
  std::vector<std::string> arguments = {"pull"};
  if (quiet) arguments.emplace_back("--quiet");
  arguments.emplace_back(reference);
  MSB_TRY(run_image_tool(home, installation, arguments, quiet));
  MSB_ASSIGN(auto image, find_image(home, reference));
  if (!image) {
    return make_error(Errc::kInternal,
                      "find image %.*s: msb-image fetched it, yet the store does not name it",
                      static_cast<int>(reference.size()), reference.data());
  }
  return std::move(*image);
}

Status run_image_tool(const Home& home, const Installation& installation,
                      const std::vector<std::string>& arguments, bool quiet) {
  SpawnOptions options;
  options.path = installation.libexec + "/msb-image";
  options.argv = {"msb-image"};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.env = environment_with_home(home);
  MSB_ASSIGN(auto said, socket_pair(SOCK_STREAM));
  options.fds.push_back({quiet ? said.second.get() : STDERR_FILENO, STDERR_FILENO});
  MSB_ASSIGN(Child child, spawn(options));
  said.second.reset();
  std::string last;
  if (quiet) {
    auto text = read_all(said.first.get(), std::size_t{1} << 20);
    if (text.ok()) last = std::move(text).value();
    while (!last.empty() && last.back() == '\n') last.pop_back();
    if (const auto newline = last.rfind('\n'); newline != std::string::npos) last.erase(0, newline + 1);
  }
  MSB_ASSIGN(const ExitStatus status, child.wait());
  if (status.success()) return {};
  std::string what = "msb-image " + arguments.front();
  if (!last.empty()) return Error{Errc::kUnavailable, 0, what + ": " + last};
  if (status.signal != 0)
    return make_error(Errc::kUnavailable, "%s: ended by signal %d", what.c_str(), status.signal);
  return make_error(Errc::kUnavailable, "%s: failed with exit code %d", what.c_str(), status.code);
}

Status copy_sparse(int source_fd, int target_fd) {
  struct stat info {};
  if (::fstat(source_fd, &info) != 0) return sys_error("read a file's size");
  if (::ioctl(target_fd, FICLONE, source_fd) == 0) return {};
  if (::ftruncate(target_fd, info.st_size) != 0) return sys_error("set a file's size");
  off_t at = 0;
  while (at < info.st_size) {
    const off_t data = ::lseek(source_fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // nothing but a hole is left
    if (data < 0) return sys_error("find a file's data");
    off_t end = ::lseek(source_fd, data, SEEK_HOLE);
    if (end < 0) return sys_error("find a file's holes");
    off_t from = data;
    if (::lseek(target_fd, data, SEEK_SET) < 0) return sys_error("position in a file");
    while (from < end) {
      const ssize_t copied = ::sendfile(target_fd, source_fd, &from, static_cast<std::size_t>(end - from));
      if (copied < 0 && errno == EINTR) continue;
      if (copied < 0) return sys_error("copy a file");
      if (copied == 0) return make_error(Errc::kCorrupt, "copy a file: it shrank meanwhile");
    }
    at = end;
  }
  return {};
}

Status make_upper_disk(const Home& home, const Installation& installation, std::uint64_t size_mib, int dir_fd,
                       const std::string& name) {
  const std::string path = home.path() + "/cache/upper-" + std::to_string(size_mib) + ".ext4";
  auto source = open_file(path, O_RDONLY);
  if (!source.ok() && source.error().code == Errc::kNotFound) {
    MSB_TRY(make_directories(home.path() + "/cache"));
    MSB_TRY(run_image_tool(home, installation, {"mkfs-upper", path, std::to_string(size_mib) + "M"}, true));
    source = open_file(path, O_RDONLY);
  }
  if (!source.ok()) return std::move(source).error();
  MSB_ASSIGN(const UniqueFd target, open_at(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  return copy_sparse(source->get(), target.get()).with_context("make the writable disk");
}

}  // namespace msb::supervisor
