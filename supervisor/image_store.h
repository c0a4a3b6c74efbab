// SPDX-License-Identifier: Apache-2.0
// What the image store's files say about a resolved image. msb-image owns and writes the store; a start only
// reads two small files of it, so that nothing of registries, archives or TLS is loaded on the way to a
// running sandbox.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "supervisor/spec.h"
#include "supervisor/supervisor.h"

namespace msb::supervisor {

struct ImageConfig {
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string workdir;
  std::string user;
  std::string stop_signal;
  std::vector<Label> labels;
};

struct ImageExtent {
  std::string path;  // absolute
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

struct StoredImage {
  std::string reference;  // canonical
  std::string manifest_digest;
  std::string file;  // below $MSB_HOME
  ImageConfig config;
  std::string file_system;           // of the root disk, as mount(2) names it
  std::vector<ImageExtent> extents;  // of the root disk, in order
};

// Keeps `msb image rm` and `prune` waiting while an image is being looked up and written into a sandbox's
// record; after that the record itself protects it. Shared: any number of creators hold it at once.
[[nodiscard]] Result<UniqueFd> hold_images(const Home& home);

// nullopt: not in the store. `reference` as people write it.
[[nodiscard]] Result<std::optional<StoredImage>> find_image(const Home& home, std::string_view reference);
// The image whose description is `file` below $MSB_HOME; kNotFound when it was removed.
[[nodiscard]] Result<StoredImage> load_image(const Home& home, const std::string& file);
// find_image, after fetching it through msb-image where the policy says so. Progress goes to stderr unless
// `quiet`.
[[nodiscard]] Result<StoredImage> ensure_image(const Home& home, const Installation& installation,
                                               std::string_view reference, PullPolicy policy, bool quiet);

// Makes `name` below `dir_fd`: a sparse ext4 of `size_mib`, copied from a template in $MSB_HOME/cache that
// msb-image makes once per size.
[[nodiscard]] Status make_upper_disk(const Home& home, const Installation& installation,
                                     std::uint64_t size_mib, int dir_fd, const std::string& name);
// Copies a file's data and holes; by reference where the filesystem can.
[[nodiscard]] Status copy_sparse(int source_fd, int target_fd);

// Runs msb-image with `arguments` and waits; stdout goes to /dev/null, stderr to ours unless `quiet`. An
// error holds the last line it said when quiet.
[[nodiscard]] Status run_image_tool(const Home& home, const Installation& installation,
                                    const std::vector<std::string>& arguments, bool quiet);

}  // namespace msb::supervisor
