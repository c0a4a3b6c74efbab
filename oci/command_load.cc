// SPDX-License-Identifier: Apache-2.0
// msb-image load: images from an archive.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "oci/commands.h"
#include "oci/confine_parent.h"
#include "oci/directory_tar.h"
#include "oci/load.h"
#include "oci/rootfs.h"

namespace msb::oci {
namespace {

void print(const std::vector<LoadedImage>& images, bool json_output, bool quiet) {
  if (json_output) {
    JsonWriter json;
    json.begin_array();
    for (const LoadedImage& image : images) {
      json.begin_object()
          .field("references", image.references)
          .field("manifest_digest", image.manifest_digest)
          .end_object();
    }
    json.end_array();
    std::printf("%s\n", std::move(json).take().c_str());
    return;
  }
  const char* label = quiet ? "" : "Loaded image: ";
  for (const LoadedImage& image : images) {
    if (image.references.empty()) std::printf("%s%s\n", label, image.manifest_digest.c_str());
    for (const std::string& reference : image.references) std::printf("%s%s\n", label, reference.c_str());
  }
}

Result<LoadedImage> load_stream(const Store& store, int fd, const ImageReference& name,
                                const LoadOptions& options) {
  FdStream input(fd);
  return load_rootfs(store, input, name, options);
}

Result<LoadedImage> load_tree(const Store& store, int dir_fd, const ImageReference& name,
                              const LoadOptions& options) {
  DirectoryTar input(dir_fd, options.limits);
  MSB_ASSIGN(LoadedImage image, load_rootfs(store, input, name, options));
  if (input.sockets() != 0)
    MSB_WARN("sockets left out: %llu", static_cast<unsigned long long>(input.sockets()));
  return image;
}

}  // namespace

Status load_command(const Arguments& arguments) {
  Options options(
      "load [-i FILE|DIRECTORY] [-t NAME]... [--rootfs NAME | --disk NAME] [--platform OS/ARCH] [-q] "
      "[--json]\n"
      "(standard input without -i; --rootfs: the archive or directory is a root file system, not an image;\n"
      "--disk: the file is a raw or qcow2 disk image)");
  std::string input = "-";
  std::string platform;
  std::string rootfs;
  std::string disk;
  std::vector<std::string> tags;
  bool quiet = false;
  bool json = false;
  LoadOptions load;
  options.text("input", input, "i");
  options.list("tag", tags, "t");
  options.text("platform", platform);
  options.text("rootfs", rootfs);
  options.text("disk", disk);
  options.flag("quiet", quiet, "q");
  options.flag("json", json);
  add_limit_options(options, load.limits);
  MSB_TRY(options.parse(arguments));
  if (options.positional().size() == 1 && input == "-") {
    input = options.positional()[0];
  } else if (!options.positional().empty()) {
    return make_error(Errc::kInvalid, "load takes one archive, given with -i FILE");
  }
  for (const std::string& tag : tags) {
    MSB_ASSIGN(ImageReference reference, parse_image_reference(tag));
    load.tags.push_back(std::move(reference));
  }
  if (!platform.empty()) {
    MSB_ASSIGN(load.platform, parse_platform(platform));
  }
  MSB_ASSIGN(load.unpacker, unpacker_path());
  MSB_ASSIGN(const Store store, open_store());
  UniqueFd file;
  int fd = STDIN_FILENO;
  bool directory = false;
  const std::string what = input == "-" ? "standard input" : input;
  if (input != "-") {
    MSB_ASSIGN(file, open_file(input, O_RDONLY));
    fd = file.get();
    struct stat st {};
    if (::fstat(fd, &st) != 0) return sys_error("stat " + input);
    directory = S_ISDIR(st.st_mode);
  }
  confine_parent(store.home(), Job::kLoad,
                 {.readable_fd = directory ? fd : -1, .as_root = directory && !rootfs.empty()});
  if (!rootfs.empty() || !disk.empty()) {
    MSB_ASSIGN(const ImageReference name, parse_image_reference(rootfs + disk));
    if (!tags.empty() || !name.digest.empty() || rootfs.empty() == disk.empty())
      return make_error(Errc::kInvalid, "load takes one name, with --rootfs or with --disk");
    if (directory && !disk.empty())
      return make_error(Errc::kInvalid,
                        "load --disk takes a disk image; %s is a directory: --rootfs takes it",
                        input.c_str());
    auto image = !disk.empty() ? load_disk(store, fd, name, load)
                 : directory   ? load_tree(store, fd, name, load)
                               : load_stream(store, fd, name, load);
    if (!image) return std::move(image).error().with_context("load a root file system from " + what);
    print({*image}, json, quiet);
    return {};
  }
  auto images = directory ? load_directory(store, fd, load) : load_archive(store, fd, load);
  if (!images) return std::move(images).error().with_context("load " + what);
  print(*images, json, quiet);
  return {};
}

}  // namespace msb::oci
