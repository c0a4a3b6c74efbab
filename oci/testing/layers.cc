// SPDX-License-Identifier: Apache-2.0
#include "oci/testing/layers.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/file.h"
#include "base/unique_fd.h"
#include "oci/erofs_xattr.h"
#include "oci/merge.h"
#include "oci/tar_split.h"

namespace msb::oci::testing {
namespace {

constexpr std::size_t kMaxContent = 1U << 20;  // of one file: sparse ones may claim terabytes
constexpr std::size_t kMaxListed = 100'000;
constexpr std::size_t kMaxAllContent = 16U << 20;

// A stream over bytes in memory.
class ViewStream final : public ByteStream {
 public:
  explicit ViewStream(ByteView data) : data_(data) {}
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override {
    const std::size_t take = std::min(out.size(), data_.size());
    std::copy_n(data_.begin(), take, out.begin());
    data_ = data_.subspan(take);
    return take;
  }

 private:
  ByteView data_;
};

Result<Bytes> content_of(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return sys_error("stat");
  Bytes out(static_cast<std::size_t>(st.st_size));
  MSB_TRY(pread_exact(fd, out, 0));
  return out;
}

Result<std::string> file_content(const erofs::Reader& reader, const erofs::Reader::Info& info) {
  std::string out;
  const std::uint64_t size = std::min<std::uint64_t>(info.size, kMaxContent);
  std::vector<std::uint32_t> chunks;
  if (info.layout == erofs::Layout::kChunked) {
    MSB_ASSIGN(chunks, reader.chunks(info));
  }
  while (out.size() < size) {
    const std::size_t take =
        std::min<std::size_t>(erofs::kBlockSize, static_cast<std::size_t>(size) - out.size());
    if (info.layout == erofs::Layout::kChunked) {
      const unsigned bits = erofs::Reader::chunk_bits(info);
      const std::uint32_t block = chunks.at(out.size() >> bits);
      if (block == erofs::kHole) {
        out.append(take, '\0');
        continue;
      }
      erofs::Reader::Info plain = info;
      plain.layout = erofs::Layout::kPlain;
      plain.data = block;
      MSB_ASSIGN(const ByteView piece,
                 reader.data(plain, out.size() & ((std::uint64_t{1} << bits) - 1), take));
      out += as_text(piece);
      continue;
    }
    MSB_ASSIGN(const ByteView piece, reader.data(info, out.size(), take));
    out += as_text(piece);
  }
  return out;
}

}  // namespace

Result<UnpackedLayer> unpack(ByteView stream, const Limits& limits) {
  const UniqueFd blob(::memfd_create("blob", MFD_CLOEXEC));
  const UniqueFd split(::memfd_create("split", MFD_CLOEXEC));
  if (!blob || !split) return sys_error("memfd_create");
  ViewStream input(stream);
  UnpackedLayer layer;
  MSB_ASSIGN(layer.summary, unpack_layer(input, {blob.get(), split.get()}, limits));
  MSB_ASSIGN(layer.blob, content_of(blob.get()));
  MSB_ASSIGN(layer.split, content_of(split.get()));
  return layer;
}

Result<std::string> rebuild(const UnpackedLayer& layer) {
  const UniqueFd blob(::memfd_create("blob", MFD_CLOEXEC));
  if (!blob) return sys_error("memfd_create");
  MSB_TRY(pwrite_exact(blob.get(), layer.blob, 0));
  ViewStream records(layer.split);
  TarSplitReader reader(records, blob.get(), layer.summary.tar_bytes);
  std::string out;
  for (;;) {
    MSB_ASSIGN(const ByteView piece, reader.read());
    if (piece.empty()) return out;
    out += as_text(piece);
  }
}

Result<std::map<std::string, FoundFile>> list_all(ByteView image) {
  MSB_ASSIGN(const erofs::Reader reader, erofs::Reader::open(image));
  std::map<std::string, FoundFile> found;
  std::size_t content_bytes = 0;
  std::vector<std::pair<std::string, std::uint64_t>> pending = {{"", reader.root()}};
  while (!pending.empty()) {
    const std::string path = pending.back().first;
    const std::uint64_t nid = pending.back().second;
    pending.pop_back();
    if (found.size() > kMaxListed) return make_error(Errc::kLimit, "too many files");
    // A damaged blob may hold a directory that contains itself.
    if (path.size() > PATH_MAX) return make_error(Errc::kLimit, "too deep");
    FoundFile file;
    MSB_ASSIGN(file.info, reader.inode(nid));
    MSB_ASSIGN(const std::string_view raw, reader.xattrs(file.info));
    MSB_ASSIGN(file.xattrs, erofs::decode_xattrs(raw));
    if (S_ISDIR(file.info.mode)) {
      MSB_TRY(reader.list(file.info, [&](std::string_view name, std::uint64_t child) -> Status {
        pending.emplace_back(path + (path.empty() ? "" : "/") + std::string(name), child);
        return {};
      }));
    } else if (S_ISLNK(file.info.mode)) {
      MSB_ASSIGN(const std::string_view target, reader.link_target(file.info));
      file.content = target;
    } else if (S_ISREG(file.info.mode) && file.info.size > 0) {
      MSB_ASSIGN(file.content, file_content(reader, file.info));
      content_bytes += file.content.size();
      if (content_bytes > kMaxAllContent) return make_error(Errc::kLimit, "too much content");
    }
    found.emplace(path, std::move(file));
  }
  return found;
}

Result<std::vector<std::string>> merge(const std::vector<std::string>& tars) {
  Tree tree{Limits{}};
  Merger merger(tree);
  std::vector<UnpackedLayer> layers;  // the tree borrows nothing from them; kept for the readers
  for (const std::string& tar : tars) {
    MSB_ASSIGN(UnpackedLayer layer, unpack(as_bytes(tar)));
    layers.push_back(std::move(layer));
    MSB_ASSIGN(const erofs::Reader reader, erofs::Reader::open(layers.back().blob));
    MSB_TRY(merger.add_layer(reader, static_cast<std::uint16_t>(layers.size() - 1)));
  }
  std::vector<std::string> lines;
  std::vector<NodeId> pending = {kRootNode};
  while (!pending.empty()) {
    const NodeId dir = pending.back();
    pending.pop_back();
    for (const NodeId id : tree.children(dir)) {
      const Inode& inode = tree.inode_of(id);
      char owner[64];
      const char type = inode.is_dir() ? 'd' : inode.is_symlink() ? 'l' : inode.is_regular() ? 'f' : 'n';
      std::snprintf(owner, sizeof owner, " %c %o %u:%u", type, inode.mode & 07777U, inode.uid, inode.gid);
      std::string line = tree.path(id) + owner;
      if (inode.is_symlink()) line += " -> " + std::string(tree.text(inode.data));
      if (inode.is_regular()) line += " " + std::to_string(inode.size) + "@" + std::to_string(inode.layer);
      lines.push_back(std::move(line));
      if (inode.is_dir()) pending.push_back(id);
    }
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

}  // namespace msb::oci::testing
