// SPDX-License-Identifier: Apache-2.0
// msb-image load: images from an archive.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>

#include "base/file.h"
#include "base/json.h"
#include "oci/commands.h"
#include "oci/confine_parent.h"
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

}  // namespace

Status load_command(const Arguments& arguments) {
  Options options(
      "load [-i FILE|DIRECTORY] [-t NAME]... [--rootfs NAME | --disk NAME] [--platform OS/ARCH] [-q] "
      "[--json]\n"
      "(standard input without -i; --rootfs: the archive is a root file system, not an image;\n"
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
  if (input != "-") {
    MSB_ASSIGN(file, open_file(input, O_RDONLY));
    fd = file.get();
    struct stat st {};
    if (::fstat(fd, &st) != 0) return sys_error("stat " + input);
    directory = S_ISDIR(st.st_mode);
  }
  confine_parent(store.home(), directory ? fd : -1, Network::kNone);
  if (!rootfs.empty() || !disk.empty()) {
    MSB_ASSIGN(const ImageReference name, parse_image_reference(rootfs + disk));
    if (directory || !tags.empty() || !name.digest.empty() || rootfs.empty() == disk.empty())
      return make_error(
          Errc::kInvalid,
          "load --rootfs and --disk take one name and one file; tar -C DIRECTORY -c . | msb load ...");
    auto image = disk.empty() ? load_rootfs(store, fd, name, load) : load_disk(store, fd, name, load);
    if (!image) return std::move(image).error().with_context("load a root file system");
    print({*image}, json, quiet);
    return {};
  }
  auto images = directory ? load_directory(store, fd, load) : load_archive(store, fd, load);
  if (!images)
    return std::move(images).error().with_context("load " +
                                                  (input == "-" ? std::string("standard input") : input));
  print(*images, json, quiet);
  return {};
}

}  // namespace msb::oci
