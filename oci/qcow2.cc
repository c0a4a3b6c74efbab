// SPDX-License-Identifier: Apache-2.0
#include "oci/qcow2.h"

#define ZLIB_CONST  // next_in may point to const bytes
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/file.h"
#include "base/wire.h"

namespace msb::oci {
namespace {

constexpr std::uint32_t kMagic = 0x514649fb;  // "QFI" and a byte no text has
constexpr std::uint32_t kMinClusterBits = 9;
constexpr std::uint32_t kMaxClusterBits = 21;
constexpr std::uint64_t kMaxL1Entries = (32U << 20) / sizeof(Be64);  // QEMU's own bound
constexpr std::uint64_t kOffsetMask = 0x00fffffffffffe00;            // of L1 and L2 entries
constexpr std::uint64_t kCopied = 1ULL << 63;  // about refcounts: no matter when reading
constexpr std::uint64_t kCompressed = 1ULL << 62;
constexpr std::uint64_t kReadsAsZeros = 1;
constexpr std::uint64_t kSector = 512;  // unit of a compressed cluster's length
constexpr int kDeflateWindow = -15;     // no wrapping around it

enum Incompatible : std::uint64_t {
  kDirty = 1,  // refcounts may be stale, the tables are not
  kCorrupt = 2,
  kExternalData = 4,
  kCompressionType = 8,
  kExtendedL2 = 16,
};
constexpr std::uint64_t kUnderstood = kDirty | kCompressionType;

struct HeaderV2 {
  Be32 magic, version;
  Be64 backing_offset;
  Be32 backing_length;
  Be32 cluster_bits;
  Be64 size;
  Be32 encryption;
  Be32 l1_entries;
  Be64 l1_offset;
  Be64 refcount_offset;
  Be32 refcount_clusters;
  Be32 snapshots;
  Be64 snapshots_offset;
};
static_assert(sizeof(HeaderV2) == 72);
struct HeaderV3 {
  Be64 incompatible, compatible, autoclear;
  Be32 refcount_order, header_length;
  std::uint8_t compression = 0;  // there if header_length says so
};
static_assert(sizeof(HeaderV3) == 33);

enum class Codec : std::uint8_t { kDeflate = 0, kZstd = 1 };

Error damaged(const char* what) { return make_error(Errc::kProtocol, "qcow2 image: %s", what); }
Error unsupported(const char* what) { return make_error(Errc::kUnsupported, "qcow2 image: %s", what); }

template <WireStruct T>
Result<T> read_struct(int fd, std::uint64_t offset, std::size_t length = sizeof(T)) {
  Bytes bytes(sizeof(T));
  const Status status = pread_exact(fd, MutableBytes(bytes).first(length), offset);
  if (!status.ok())
    return status.error().code == Errc::kCorrupt ? damaged("it ends within its header")
                                                 : Error(status.error());
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

class Qcow2 final : public DiskSource {
 public:
  Qcow2(int fd, std::uint64_t file_size, const HeaderV2& header, Codec codec)
      : fd_(fd),
        file_size_(file_size),
        size_(header.size.get()),
        cluster_bits_(header.cluster_bits.get()),
        cluster_size_(std::uint64_t{1} << cluster_bits_),
        l1_offset_(header.l1_offset.get()),
        codec_(codec) {}

  [[nodiscard]] std::uint64_t size() const override { return size_; }

  [[nodiscard]] Status read(const Sink& sink) override {
    const std::uint64_t per_table = cluster_size_ * (cluster_size_ / sizeof(Be64));  // of the disk, in bytes
    Bytes table(static_cast<std::size_t>(cluster_size_));
    for (std::uint64_t at = 0, index = 0; at < size_; at += per_table, ++index) {
      MSB_ASSIGN(const std::uint64_t entry, l1_entry(index));
      if (entry == 0) continue;
      MSB_TRY(read_at(entry, table, "an L2 table"));
      MSB_TRY(read_table(table, at, sink));
    }
    return {};
  }

 private:
  // Offset of an L2 table, 0 for none.
  [[nodiscard]] Result<std::uint64_t> l1_entry(std::uint64_t index) const {
    Bytes raw(sizeof(Be64));
    MSB_TRY(read_at(l1_offset_ + index * sizeof(Be64), raw, "the L1 table"));
    Be64 entry;
    std::memcpy(&entry, raw.data(), sizeof entry);
    const std::uint64_t offset = entry.get() & kOffsetMask;
    if ((entry.get() & ~(kOffsetMask | kCopied)) != 0 || offset % cluster_size_ != 0)
      return damaged("an L1 entry that cannot be");
    return offset;
  }

  [[nodiscard]] Status read_table(ByteView table, std::uint64_t at, const Sink& sink) {
    Bytes cluster(static_cast<std::size_t>(cluster_size_));
    for (std::size_t i = 0; i < table.size() && at < size_; i += sizeof(Be64), at += cluster_size_) {
      Be64 entry;
      std::memcpy(&entry, table.data() + i, sizeof entry);
      const std::uint64_t value = entry.get();
      const std::uint64_t offset = value & kOffsetMask;
      if ((value & kCompressed) != 0) {
        MSB_TRY(read_compressed(value & ~(kCompressed | kCopied), cluster));
      } else if ((value & ~(kOffsetMask | kCopied | kReadsAsZeros)) != 0 || offset % cluster_size_ != 0) {
        return damaged("an L2 entry that cannot be");
      } else if (offset == 0 || (value & kReadsAsZeros) != 0) {
        continue;
      } else {
        MSB_TRY(read_at(offset, cluster, "a cluster"));
      }
      MSB_TRY(
          sink(at, ByteView(cluster).first(static_cast<std::size_t>(std::min(cluster_size_, size_ - at)))));
    }
    return {};
  }

  // The entry's low bits are the byte where the data begins, those above how many more sectors it touches.
  [[nodiscard]] Status read_compressed(std::uint64_t entry, MutableBytes cluster) {
    const unsigned offset_bits = 62 - (cluster_bits_ - 8);
    const std::uint64_t offset = entry & ((std::uint64_t{1} << offset_bits) - 1);
    const std::uint64_t sectors = (entry >> offset_bits) + 1;
    if (offset >= file_size_) return damaged("compressed data past its end");
    // The last sector may end after the file does.
    const std::uint64_t length = std::min(sectors * kSector - offset % kSector, file_size_ - offset);
    compressed_.resize(static_cast<std::size_t>(length));
    MSB_TRY(read_at(offset, compressed_, "compressed data"));
    const bool whole = codec_ == Codec::kZstd ? unzstd(cluster) : inflate_into(cluster);
    return whole ? Status{} : damaged("a compressed cluster is broken");
  }

  [[nodiscard]] bool inflate_into(MutableBytes out) const {
    z_stream z{};
    if (inflateInit2(&z, kDeflateWindow) != Z_OK) return false;
    z.next_in = compressed_.data();
    z.avail_in = static_cast<uInt>(compressed_.size());
    z.next_out = out.data();
    z.avail_out = static_cast<uInt>(out.size());
    const int rc = ::inflate(&z, Z_FINISH);
    const bool whole = (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && z.avail_out == 0;
    inflateEnd(&z);
    return whole;
  }

  [[nodiscard]] bool unzstd(MutableBytes out) const {
    const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(),
                                                                               ZSTD_freeDStream);
    if (!stream) return false;
    ZSTD_inBuffer in{compressed_.data(), compressed_.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    while (to.pos < to.size) {
      const std::size_t before = to.pos + in.pos;
      if (ZSTD_isError(ZSTD_decompressStream(stream.get(), &to, &in)) != 0 || to.pos + in.pos == before)
        return false;
    }
    return true;
  }

  [[nodiscard]] Status read_at(std::uint64_t offset, MutableBytes out, const char* what) const {
    if (offset > file_size_ || out.size() > file_size_ - offset)
      return make_error(Errc::kProtocol, "qcow2 image: %s lies past the file's end", what);
    return pread_exact(fd_, out, offset);
  }

  int fd_;
  std::uint64_t file_size_;
  std::uint64_t size_;
  std::uint32_t cluster_bits_;
  std::uint64_t cluster_size_;
  std::uint64_t l1_offset_;
  Codec codec_;
  Bytes compressed_;
};

Result<Codec> read_extension(int fd) {
  // The last byte is not there in headers of the first years, whose length says so.
  MSB_ASSIGN(HeaderV3 more, read_struct<HeaderV3>(fd, sizeof(HeaderV2), offsetof(HeaderV3, compression)));
  const std::uint64_t features = more.incompatible.get();
  if ((features & kCorrupt) != 0) return unsupported("it is marked corrupt; qemu-img check -r all mends it");
  if ((features & kExternalData) != 0)
    return unsupported("its data is in another file; qemu-img convert makes it one");
  if ((features & kExtendedL2) != 0)
    return unsupported("it has extended L2 entries; qemu-img convert makes one without");
  if ((features & ~kUnderstood) != 0)
    return make_error(Errc::kUnsupported, "qcow2 image: it needs features (0x%llx) that are not known here",
                      static_cast<unsigned long long>(features & ~kUnderstood));
  if ((features & kCompressionType) == 0) return Codec::kDeflate;
  if (more.header_length.get() < sizeof(HeaderV2) + sizeof(HeaderV3))
    return damaged("its header is too short");
  MSB_ASSIGN(more, read_struct<HeaderV3>(fd, sizeof(HeaderV2)));
  if (more.compression > static_cast<std::uint8_t>(Codec::kZstd))
    return unsupported("an unknown compression");
  return static_cast<Codec>(more.compression);
}

}  // namespace

bool is_qcow2(ByteView first_bytes) {
  Be32 magic;
  if (first_bytes.size() < sizeof magic) return false;
  std::memcpy(&magic, first_bytes.data(), sizeof magic);
  return magic.get() == kMagic;
}

Result<std::unique_ptr<DiskSource>> open_qcow2(int fd, const Limits& limits) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return sys_error("stat a disk image");
  MSB_ASSIGN(const HeaderV2 header, read_struct<HeaderV2>(fd, 0));
  const std::uint32_t version = header.version.get();
  if (version != 2 && version != 3)
    return make_error(Errc::kUnsupported, "qcow2 image: version %u, where 2 and 3 are known", version);
  if (header.backing_offset.get() != 0 || header.backing_length.get() != 0)
    return unsupported("it needs a backing file, which is never followed; qemu-img convert makes it whole");
  if (header.encryption.get() != 0) return unsupported("it is encrypted");
  const std::uint32_t bits = header.cluster_bits.get();
  if (bits < kMinClusterBits || bits > kMaxClusterBits) return damaged("clusters of a size that cannot be");
  const std::uint64_t size = header.size.get();
  if (size > limits.max_image_bytes)
    return make_error(Errc::kLimit, "a disk of more than %llu bytes",
                      static_cast<unsigned long long>(limits.max_image_bytes));
  const unsigned table_bits = bits + bits - 3;  // log2 of what one L2 table covers
  const std::uint64_t tables = size == 0 ? 0 : ((size - 1) >> table_bits) + 1;
  if (tables > kMaxL1Entries) return make_error(Errc::kLimit, "qcow2 image: an L1 table of more than 32 MiB");
  const std::uint64_t l1 = header.l1_offset.get();
  if (tables > header.l1_entries.get() || l1 > INT64_MAX - kMaxL1Entries * sizeof(Be64))
    return damaged("an L1 table that is too short or too far away");
  Codec codec = Codec::kDeflate;
  if (version == 3) {
    MSB_ASSIGN(codec, read_extension(fd));
  }
  return std::unique_ptr<DiskSource>(
      std::make_unique<Qcow2>(fd, static_cast<std::uint64_t>(st.st_size), header, codec));
}

}  // namespace msb::oci
