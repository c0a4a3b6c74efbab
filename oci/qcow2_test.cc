// SPDX-License-Identifier: Apache-2.0
// qcow2 images made by hand: what is read, and what is refused with which words. Images that QEMU makes are
// compared in tests/images/disk_roots.py.
#include "oci/qcow2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <string>

#include "base/file.h"
#include "base/unique_fd.h"
#include "base/wire.h"

namespace msb::oci {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kCluster = 512;
constexpr std::uint64_t kDiskSize = 3 * kCluster + 100;

// A version 3 image of small clusters: header, L1 table, one L2 table, then data, one cluster each.
class Qcow2File {
 public:
  Qcow2File() : bytes_(8 * kCluster, '\0') {
    put(0, Be32(0x514649fb));
    put(4, Be32(3));
    put(20, Be32(9));  // cluster bits
    put(24, Be64(kDiskSize));
    put(36, Be32(1));         // L1 entries
    put(40, Be64(kCluster));  // L1 table
    put(96, Be32(4));         // refcount order
    put(100, Be32(112));      // header length
    put(kCluster, Be64(2 * kCluster | 1ULL << 63));
    set_cluster(0, 3 * kCluster | 1ULL << 63);
    bytes_.replace(3 * kCluster, 4, "data");
  }
  template <typename T>
  void put(std::size_t at, T value) {
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void set_cluster(std::size_t index, std::uint64_t entry) { put(2 * kCluster + index * 8, Be64(entry)); }
  void cut(std::size_t length) { bytes_.resize(length); }

  // What is stored of the disk by offset, or under 0 the error.
  [[nodiscard]] std::map<std::uint64_t, std::string> read(std::uint64_t max_bytes = 1U << 30) const {
    const UniqueFd file(::memfd_create("disk", MFD_CLOEXEC));
    EXPECT_TRUE(write_all(file.get(), bytes_).ok());
    Limits limits;
    limits.max_image_bytes = max_bytes;
    std::map<std::uint64_t, std::string> found;
    const auto disk = open_qcow2(file.get(), limits);
    if (!disk) return {{0, disk.error().text}};
    EXPECT_EQ((*disk)->size(), kDiskSize);
    const Status status = (*disk)->read([&found](std::uint64_t offset, ByteView piece) {
      found[offset] = as_text(piece);
      return Status{};
    });
    return status.ok() ? found : std::map<std::uint64_t, std::string>{{0, status.error().text}};
  }
  [[nodiscard]] std::string refusal() const { return read()[0]; }

 private:
  std::string bytes_;
};

TEST(Qcow2, GivesStoredClustersAndNoHoles) {
  Qcow2File file;
  file.set_cluster(1, 4 * kCluster | 1);  // reads as zeros, whatever lies there
  file.set_cluster(3, 4 * kCluster);      // the last one, which the disk's end cuts
  const auto found = file.read();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found.at(0).substr(0, 4), "data");
  EXPECT_EQ(found.at(3 * kCluster).size(), 100U);
}

TEST(Qcow2, RefusesWhatLeadsElsewhere) {
  Qcow2File backing;
  backing.put(8, Be64(200));
  backing.put(16, Be32(11));
  EXPECT_THAT(backing.refusal(), HasSubstr("backing file"));
  Qcow2File external;
  external.put(72, Be64(4));
  EXPECT_THAT(external.refusal(), HasSubstr("another file"));
  Qcow2File encrypted;
  encrypted.put(32, Be32(2));
  EXPECT_THAT(encrypted.refusal(), HasSubstr("encrypted"));
}

TEST(Qcow2, RefusesFeaturesItDoesNotKnow) {
  Qcow2File file;
  file.put(72, Be64(1U << 9));
  EXPECT_THAT(file.refusal(), HasSubstr("0x200"));
  file.put(72, Be64(16));
  EXPECT_THAT(file.refusal(), HasSubstr("extended L2"));
  file.put(72, Be64(2));
  EXPECT_THAT(file.refusal(), HasSubstr("corrupt"));
  file.put(72, Be64(8));
  file.put(104, std::uint8_t{7});
  EXPECT_THAT(file.refusal(), HasSubstr("compression"));
  file.put(4, Be32(4));
  EXPECT_THAT(file.refusal(), HasSubstr("version 4"));
}

TEST(Qcow2, RefusesTablesThatCannotBe) {
  Qcow2File entry;
  entry.set_cluster(0, 3 * kCluster + 8);
  EXPECT_THAT(entry.refusal(), HasSubstr("L2 entry"));
  Qcow2File far;
  far.set_cluster(0, std::uint64_t{1} << 40);
  EXPECT_THAT(far.refusal(), HasSubstr("past the file's end"));
  Qcow2File l1;
  l1.put(kCluster, Be64(1));
  EXPECT_THAT(l1.refusal(), HasSubstr("L1 entry"));
  Qcow2File no_l1;
  no_l1.put(36, Be32(0));
  EXPECT_THAT(no_l1.refusal(), HasSubstr("too short"));
  Qcow2File huge_clusters;
  huge_clusters.put(20, Be32(64));
  EXPECT_THAT(huge_clusters.refusal(), HasSubstr("cannot be"));
  Qcow2File compressed;
  compressed.set_cluster(0, 1ULL << 62 | 3 * kCluster);
  EXPECT_THAT(compressed.refusal(), HasSubstr("broken"));
  Qcow2File cut;
  cut.cut(60);
  EXPECT_THAT(cut.refusal(), HasSubstr("within its header"));
}

TEST(Qcow2, BoundsTheDisk) { EXPECT_THAT(Qcow2File().read(kDiskSize - 1)[0], HasSubstr("more than")); }

}  // namespace
}  // namespace msb::oci
