// SPDX-License-Identifier: Apache-2.0
// DirectoryTar: a directory of this host read as the tar stream it would be packed into, so that it becomes a
// layer on the same way as any other. The same tree gives the same bytes: names come sorted, no access or
// change time is in it.
//
// Owners, modes, times to the nanosecond, hard links, devices, holes and extended attributes are kept, and so
// are mounts below the directory; sockets are left out, for they are nothing without who listens. Symbolic
// links are never followed: each name is looked at in its directory's descriptor, and opened only if it is a
// file or a directory. Whatever changes between being looked at and being read to its end is an error, never
// half a file.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/byte_stream.h"
#include "oci/limits.h"
#include "oci/tar_reader.h"

namespace msb::oci {

class DirectoryTar final : public ByteStream {
 public:
  // `dir_fd` (borrowed) is the directory, open for reading.
  DirectoryTar(int dir_fd, const Limits& limits) : dir_fd_(dir_fd), limits_(limits) {}

  // Errors, with the path: kProtocol for an empty directory and a name that means a removal in a layer
  // (".wh.NAME"), kBusy for what changed meanwhile, kLimit, and those of the system.
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override;
  // Left out so far.
  [[nodiscard]] std::uint64_t sockets() const { return sockets_; }

 private:
  struct Folder {
    UniqueFd fd;
    struct stat seen {};
    std::string path;  // of the tree; ends in a slash unless it is the root's, which is empty
    std::vector<std::string> names;
    std::size_t next = 0;
  };
  struct File {
    UniqueFd fd;
    struct stat seen {};
    std::string path;
    std::vector<SparseRange> ranges;  // to be read
    std::size_t range = 0;
    std::uint64_t done = 0;    // of the current range
    std::uint64_t stored = 0;  // of all ranges
  };
  // A file of several names: the first, and how many more may come.
  struct Linked {
    std::string path;
    nlink_t left = 0;
  };

  [[nodiscard]] Status next();
  [[nodiscard]] Status begin();
  [[nodiscard]] Status add(const std::string& name);
  [[nodiscard]] Status add_folder(UniqueFd fd, const struct stat& seen, std::string path);
  [[nodiscard]] Status add_file(UniqueFd fd, const struct stat& seen, TarEntry entry);
  [[nodiscard]] Result<std::size_t> read_file(MutableBytes out);
  [[nodiscard]] Status put(const TarEntry& entry);

  int dir_fd_;
  Limits limits_;
  std::string pending_;  // headers and padding
  std::size_t sent_ = 0;
  std::optional<File> file_;     // whose data comes after pending_
  std::vector<Folder> folders_;  // from the root to the one being read
  std::map<std::pair<dev_t, ino_t>, Linked> links_;
  std::uint64_t sockets_ = 0;
  bool begun_ = false;
  bool ended_ = false;
};

}  // namespace msb::oci
