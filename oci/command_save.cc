// SPDX-License-Identifier: Apache-2.0
// msb-image save, verify: images out of the store again.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <set>

#include "base/file.h"
#include "base/image_reference.h"
#include "base/log.h"
#include "oci/catalog.h"
#include "oci/commands.h"
#include "oci/confine_parent.h"
#include "oci/save.h"
#include "oci/unpack_disk.h"

namespace msb::oci {
namespace {

// Images in the order they were first named, each with the names it was asked for by.
Result<std::vector<SavedImage>> choose(const Catalog& catalog, const std::vector<std::string>& wanted) {
  std::vector<SavedImage> images;
  for (const std::string& text : wanted) {
    MSB_ASSIGN(const ImageRecord* image, find_image(catalog, text));
    if (image->from_disk())
      return make_error(Errc::kUnsupported, "save %s: it came as a disk image and has no layers to save",
                        quote_for_log(text).c_str());
    SavedImage* saved = nullptr;
    for (SavedImage& have : images) {
      if (have.image == image) saved = &have;
    }
    if (saved == nullptr) saved = &images.emplace_back(SavedImage{image, {}});
    const auto reference = parse_image_reference(text);
    if (reference && catalog.references.contains(reference->canonical()))
      saved->references.push_back(reference->canonical());
  }
  return images;
}

// Complete under another name first: no half archive is left behind under the one that was asked for.
Status save_file(const Store& store, const std::vector<SavedImage>& images, int dir_fd,
                 const std::string& name, const Limits& limits) {
  const std::string temporary = name + ".tmp." + std::to_string(::getpid());
  MSB_ASSIGN(const UniqueFd fd, open_at(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL, 0666));
  Status status = save_images(store, images, fd.get(), limits);
  if (status.ok() && ::fdatasync(fd.get()) != 0) status = sys_error("sync");
  if (status.ok() && ::renameat(dir_fd, temporary.c_str(), dir_fd, name.c_str()) != 0)
    status = sys_error("rename");
  if (!status.ok()) ::unlinkat(dir_fd, temporary.c_str(), 0);
  return status;
}

// `path` is named by the content it must have.
Status verify_disk(const Store& store, const std::string& path, const Limits& limits) {
  MSB_ASSIGN(const UniqueFd file, open_at(store.images_fd(), path, O_RDONLY));
  MSB_ASSIGN(const std::string id, disk_id(file.get(), limits));
  return disk_path(id) == path ? Status{} : Status(make_error(Errc::kCorrupt, "its content is another"));
}

}  // namespace

Status save_command(const Arguments& arguments) {
  Options options("save [-o FILE] IMAGE...   (standard output without -o)");
  std::string output = "-";
  Limits limits;
  options.text("output", output, "o");
  add_limit_options(options, limits);
  MSB_TRY(options.parse(arguments));
  if (options.positional().empty()) return make_error(Errc::kInvalid, "usage: msb save [-o FILE] IMAGE...");
  if (output == "-" && ::isatty(STDOUT_FILENO) == 1)
    return make_error(Errc::kInvalid, "save: an archive is not for a terminal; use -o FILE or a pipe");
  MSB_ASSIGN(const Store store, open_store());
  // Once confined, this process finds no path outside the store: what it writes to is opened first.
  UniqueFd stream;
  UniqueFd directory;
  struct stat st {};
  if (output == "-") {
    stream = UniqueFd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
    if (!stream) return sys_error("save to standard output");
  } else if (::stat(output.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {  // a pipe or device: as it is
    MSB_ASSIGN(stream, open_file(output, O_WRONLY));
  } else {
    MSB_ASSIGN(directory, open_file(parent_path(output), O_PATH | O_DIRECTORY));
  }
  confine_parent(store.home(), Job::kSave, {.writable_fd = directory.get()});
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  MSB_ASSIGN(const Catalog catalog, read_catalog(store));
  MSB_ASSIGN(const auto images, choose(catalog, options.positional()));
  const auto context = "save " + output;
  if (stream) return save_images(store, images, stream.get(), limits).with_context(context);
  return save_file(store, images, directory.get(), output.substr(output.rfind('/') + 1), limits)
      .with_context(context);
}

Status verify_command(const Arguments& arguments) {
  Options options("verify [IMAGE...]   (all without arguments)");
  Limits limits;
  add_limit_options(options, limits);
  MSB_TRY(options.parse(arguments));
  MSB_ASSIGN(const Store store, open_store());
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  MSB_ASSIGN(const Catalog catalog, read_catalog(store));
  std::vector<const ImageRecord*> images;
  for (const std::string& text : options.positional()) {
    MSB_ASSIGN(const ImageRecord* image, find_image(catalog, text));
    images.push_back(image);
  }
  if (options.positional().empty()) {
    for (const auto& [digest, image] : catalog.images) images.push_back(&image);
  }
  std::set<std::string> checked;
  std::size_t bad = catalog.damaged.size();
  for (const std::string& file : catalog.damaged) std::printf("damaged images/%s\n", file.c_str());
  const auto report = [&bad](const std::string& what, const Status& status) {
    bad += status.ok() ? 0U : 1U;
    std::printf("%s %s%s%s\n", status.ok() ? "ok" : "damaged", what.c_str(), status.ok() ? "" : ": ",
                status.ok() ? "" : status.error().text.c_str());
  };
  for (const ImageRecord* image : images) {
    for (const ImageLayer& layer : image->layers) {
      if (checked.insert(layer.diff_id).second)
        report(layer.diff_id, verify_layer(store, layer.diff_id, limits));
    }
    if (!image->from_disk()) continue;
    for (const std::string& file : image->files) {
      if (checked.insert(file).second) report(file, verify_disk(store, file, limits));
    }
  }
  if (bad != 0)
    return make_error(Errc::kCorrupt, "%zu damaged; remove those images and fetch them again", bad);
  return {};
}

}  // namespace msb::oci
