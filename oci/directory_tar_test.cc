// SPDX-License-Identifier: Apache-2.0
// A directory as a layer: what must survive, and that what changes meanwhile is noticed. Against GNU tar,
// with owners, devices and other attributes that only root can make: tests/images/differential.py.
#include "oci/directory_tar.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>

#include "base/file.h"
#include "oci/tar_writer.h"
#include "oci/testing/layers.h"

namespace msb::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DirectoryTarTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "msb-tree.XXXXXX";
    ASSERT_NE(::mkdtemp(path_.data()), nullptr);
    dir_ = open_file(path_, O_RDONLY | O_DIRECTORY).value();
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(AT_FDCWD, path_).ok()); }

  [[nodiscard]] std::string at(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, std::string_view content, mode_t mode = 0644) const {
    const auto file = open_file(at(name), O_WRONLY | O_CREAT | O_TRUNC, mode);
    ASSERT_TRUE(file.ok()) << file.error().text;
    ASSERT_TRUE(write_all(file->get(), content).ok());
    ASSERT_EQ(::fchmod(file->get(), mode), 0);
  }
  // The whole stream, or the error.
  [[nodiscard]] Result<std::string> pack(const Limits& limits = {}) const {
    DirectoryTar tar(dir_.get(), limits);
    return rest_of(tar);
  }
  [[nodiscard]] static Result<std::string> rest_of(DirectoryTar& tar) {
    std::string out;
    Bytes piece(1000);  // no multiple of a block
    for (;;) {
      MSB_ASSIGN(const std::size_t n, tar.read(piece));
      if (n == 0) return out;
      out += as_text(ByteView(piece).first(n));
    }
  }
  [[nodiscard]] std::string refusal(const Limits& limits = {}) const {
    const auto stream = pack(limits);
    return stream ? "accepted" : stream.error().text;
  }
  // As a layer has it.
  [[nodiscard]] std::map<std::string, testing::FoundFile> files() const {
    const auto stream = pack();
    EXPECT_TRUE(stream.ok()) << stream.error().text;
    if (!stream) return {};
    const auto layer = testing::unpack(as_bytes(*stream));
    EXPECT_TRUE(layer.ok()) << layer.error().text;
    return layer ? testing::list_all(layer->blob).value() : std::map<std::string, testing::FoundFile>{};
  }

  std::string path_;
  UniqueFd dir_;
};

TEST_F(DirectoryTarTest, KeepsWhatFilesAre) {
  ASSERT_EQ(::mkdir(at("d").c_str(), 0700), 0);
  ASSERT_EQ(::chmod(at("d").c_str(), 01751), 0);
  write("d/su", "content", 04755);
  write("d/empty", "", 0000);
  ASSERT_EQ(::link(at("d/su").c_str(), at("again").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/../nowhere", at("link").c_str()), 0);
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  const std::string odd = "\xff" + std::string(254, 'n');
  write(odd, "odd");
  const timespec times[2] = {{5, 5}, {-2, 750'000'001}};
  ASSERT_EQ(::utimensat(AT_FDCWD, at("d/su").c_str(), times, 0), 0);
  auto files = this->files();
  EXPECT_EQ(files["d"].info.mode, S_IFDIR | 01751);
  EXPECT_EQ(files["d/su"].info.mode, S_IFREG | 04755);
  EXPECT_EQ(files["d/su"].content, "content");
  EXPECT_EQ(files["d/su"].info.uid, ::getuid());
  EXPECT_EQ(files["d/su"].info.mtime_s, -2);
  EXPECT_EQ(files["d/su"].info.mtime_ns, 750'000'001U);
  EXPECT_EQ(files["d/su"].info.nid, files["again"].info.nid);
  EXPECT_EQ(files["d/su"].info.nlink, 2U);
  EXPECT_EQ(files["d/empty"].info.size, 0U);
  EXPECT_EQ(files["link"].content, "/etc/../nowhere");
  EXPECT_TRUE(S_ISFIFO(files["pipe"].info.mode));
  EXPECT_EQ(files[odd].content, "odd");
  EXPECT_EQ(files.size(), 8U);
}

TEST_F(DirectoryTarTest, KeepsHoles) {
  write("sparse", "first");
  const auto file = open_file(at("sparse"), O_WRONLY);
  ASSERT_TRUE(pwrite_exact(file->get(), as_bytes(std::string_view("last")), 1 << 18).ok());
  ASSERT_EQ(::ftruncate(file->get(), 3 << 18), 0);
  write("hole", "");
  ASSERT_EQ(::truncate(at("hole").c_str(), 1 << 17), 0);
  EXPECT_LT(pack()->size(), 64U * 1024) << "or this file system has no holes";
  auto files = this->files();
  std::string expected(3 << 18, '\0');
  expected.replace(0, 5, "first");
  expected.replace(1 << 18, 4, "last");
  EXPECT_TRUE(files["sparse"].content == expected);
  EXPECT_TRUE(files["hole"].content == std::string(1 << 17, '\0'));
}

TEST_F(DirectoryTarTest, KeepsAttributes) {
  write("file", "x");
  if (::setxattr(at("file").c_str(), "user.b", "two\0", 4, 0) != 0) GTEST_SKIP() << "no attributes here";
  ASSERT_EQ(::setxattr(at("file").c_str(), "user.a", "", 0, 0), 0);
  auto files = this->files();
  EXPECT_THAT(files["file"].xattrs,
              ElementsAre(Xattr{"user.a", ""}, Xattr{"user.b", std::string("two\0", 4)}));
  ASSERT_EQ(::setxattr(at("file").c_str(), "user.a=b", "", 0, 0), 0);
  EXPECT_THAT(refusal(), HasSubstr("user.a=b"));
}

TEST_F(DirectoryTarTest, TheSameTreeGivesTheSameBytes) {
  write("b", "1");
  write("a", "22");
  const auto once = pack();
  ASSERT_EQ(::unlink(at("a").c_str()), 0);
  write("a", "22");
  struct stat before {};
  ASSERT_EQ(::stat(at("b").c_str(), &before), 0);
  for (const char* name : {"a", "b", "."}) {
    const timespec times[2] = {{0, UTIME_OMIT}, {7, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, at(name).c_str(), times, 0), 0);
  }
  const auto twice = pack();
  ASSERT_EQ(::chmod(at("b").c_str(), 0600), 0);
  ASSERT_EQ(::chmod(at("b").c_str(), 0644), 0);  // a change time of its own
  EXPECT_EQ(pack().value(), twice.value());
  EXPECT_NE(once.value(), twice.value());  // the times differ
}

TEST_F(DirectoryTarTest, NoticesChanges) {
  write("file", std::string(100'000, 'x'));
  Bytes piece(4096);
  const auto half = [&](const auto& change) {
    write("file", std::string(100'000, 'x'));
    DirectoryTar tar(dir_.get(), {});
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(tar.read(piece).ok());  // two headers, some of the file
    change();
    const auto rest = rest_of(tar);
    return rest ? "accepted" : rest.error().text;
  };
  EXPECT_THAT(half([&] { ASSERT_EQ(::truncate(at("file").c_str(), 10), 0); }), HasSubstr("\"file\" changed"));
  EXPECT_THAT(half([&] { write("file", std::string(100'000, 'y')); }), HasSubstr("\"file\" changed"));
  EXPECT_THAT(half([&] { write("new", ""); }), HasSubstr("\".\" changed"));
  EXPECT_EQ(half([] {}), "accepted");
}

TEST_F(DirectoryTarTest, RefusesWhatALayerCannotSay) {
  EXPECT_THAT(refusal(), HasSubstr("empty"));
  write(".wh.file", "");
  EXPECT_THAT(refusal(), HasSubstr("\".wh.file\""));
  ASSERT_EQ(::unlink(at(".wh.file").c_str()), 0);
  write("one", "");
  write("two", "");
  Limits limits;
  limits.max_entries = 1;
  EXPECT_THAT(refusal(limits), HasSubstr("more than 1"));
}

TEST_F(DirectoryTarTest, LeavesSocketsOut) {
  write("file", "");
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(at("socket").size(), sizeof address.sun_path);
  std::strcpy(&address.sun_path[0], at("socket").c_str());
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  DirectoryTar tar(dir_.get(), {});
  ASSERT_TRUE(rest_of(tar).ok());
  EXPECT_EQ(tar.sockets(), 1U);
  EXPECT_EQ(files().size(), 2U);
}

// What tar_headers writes, TarReader reads as it was.
TEST(TarHeaders, AreReadBack) {
  TarEntry entry;
  entry.path = "d/" + std::string(200, '\xe4') + "/file";
  entry.mode = 07777;
  entry.uid = 4'000'000'000;
  entry.gid = 1U << 21;
  entry.mtime_s = -1;
  entry.mtime_ns = 750'000'000;
  entry.size = 5;
  entry.xattrs = {{"security.capability", std::string("\0=\n\xff", 4)},
                  {"user.long", std::string(5000, 'v')}};
  const auto check = [](const TarEntry& written, const std::string& data) {
    const auto headers = tar_headers(written);
    ASSERT_TRUE(headers.ok()) << headers.error().text;
    const std::string stream =
        *headers + data + std::string(tar_padding(data.size()), '\0') + std::string(kTarEnd, '\0');
    MemorySource source(as_bytes(stream));
    TarReader reader(source, Limits{});
    auto found = reader.next();
    ASSERT_TRUE(found.ok()) << found.error().text;
    ASSERT_TRUE(found->has_value());
    const TarEntry& read = **found;
    EXPECT_EQ(read.kind, written.kind);
    EXPECT_EQ(read.path, written.path);
    EXPECT_EQ(read.link, written.link);
    EXPECT_EQ(read.size, written.size);
    EXPECT_EQ(read.mode, written.mode);
    EXPECT_EQ(read.uid, written.uid);
    EXPECT_EQ(read.gid, written.gid);
    EXPECT_EQ(read.mtime_s, written.mtime_s);
    EXPECT_EQ(read.mtime_ns, written.mtime_ns);
    EXPECT_EQ(read.major, written.major);
    EXPECT_EQ(read.minor, written.minor);
    EXPECT_EQ(read.xattrs, written.xattrs);
    EXPECT_EQ(read.sparse, written.sparse);
    EXPECT_EQ(read.ranges.size(), written.ranges.size());
    std::string content;
    for (auto piece = reader.read_data(); piece.ok() && !piece->empty(); piece = reader.read_data())
      content += as_text(*piece);
    EXPECT_EQ(content, data);
    const auto end = reader.next();
    EXPECT_TRUE(end.ok() && !end->has_value());
  };
  check(entry, "12345");
  entry.mtime_s = -(std::int64_t{1} << 40);
  entry.mtime_ns = 0;
  check(entry, "12345");
  entry.mtime_s = std::int64_t{1} << 40;
  entry.sparse = true;
  entry.size = std::uint64_t{1} << 42;
  entry.ranges = {{4096, 3}, {1U << 30, 2}};
  check(entry, "12345");
  for (std::uint64_t i = 0; i < 1000; ++i) entry.ranges.push_back({(i + 2) << 30, 1});
  check(entry, "12345" + std::string(1000, 'x'));
  entry.size = entry.ranges.back().offset + 1;  // no hole at the end
  check(entry, "12345" + std::string(1000, 'x'));
  TarEntry device;
  device.kind = TarEntry::Kind::kBlockDevice;
  device.path = std::string(100, 'd');
  device.major = 4095;
  device.minor = 1048575;
  check(device, "");
  TarEntry link;
  link.kind = TarEntry::Kind::kSymlink;
  link.path = "l";
  link.link = std::string(4095, 'l');
  link.mode = 0777;
  check(link, "");
}

}  // namespace
}  // namespace msb::oci
