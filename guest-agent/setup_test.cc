// SPDX-License-Identifier: Apache-2.0
// The pure parts of setting up the guest.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdlib>

#include "base/file.h"
#include "guest-agent/guest_info.h"
#include "guest-agent/init_handoff.h"
#include "guest-agent/mounts.h"
#include "guest-agent/net_setup.h"

namespace msb::agent {
namespace {

TEST(MountOptionsTest, FlagsAndDataAreSplit) {
  const MountOptions options = parse_mount_options("ro,noexec,mode=0700,,size=5m,rw");
  EXPECT_EQ(options.flags, static_cast<unsigned long>(MS_RDONLY | MS_NOEXEC));
  EXPECT_EQ(options.data, "mode=0700,size=5m");
  EXPECT_EQ(parse_mount_options("").data, "");
}

TEST(FindInitTest, TakesTheFirstProgram) {
  std::string root = ::testing::TempDir() + "initXXXXXX";
  ASSERT_NE(::mkdtemp(root.data()), nullptr);
  const auto missing = find_init(root);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().text.find("/sbin/init, /init"), std::string::npos);
  const auto program = [&](const std::string& path, mode_t mode) {
    ASSERT_TRUE(make_directories(parent_path(root + path)).ok());
    const auto fd = open_file(root + path, O_WRONLY | O_CREAT);
    ASSERT_TRUE(fd.ok());
    ASSERT_EQ(::fchmod(fd->get(), mode), 0);
  };
  ASSERT_TRUE(make_directories(root + "/sbin/init").ok());  // a folder is no program
  program("/init", 0644);                                   // nor is this
  program("/usr/lib/systemd/systemd", 0755);
  EXPECT_EQ(*find_init(root), "/usr/lib/systemd/systemd");
  ASSERT_EQ(::chmod((root + "/init").c_str(), 0755), 0);
  EXPECT_EQ(*find_init(root), "/init");
  const auto parent = open_file(parent_path(root), O_RDONLY | O_DIRECTORY);
  EXPECT_TRUE(remove_tree(parent->get(), root.substr(parent_path(root).size() + 1)).ok());
}

TEST(ResolvConfTest, OnlyPlainWordsAreWritten) {
  proto::GuestConfig::Net net;
  net.dns = {"10.0.0.1", "evil\nnameserver 6.6.6.6", "fd00::1"};
  net.search = {"a.example", "b c"};
  EXPECT_EQ(resolv_conf(net), "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example\n");
}

TEST(HostsTest, OwnNameAndConfiguredOnes) {
  proto::GuestConfig config;
  config.hostname = "box";
  config.hosts = {{"10.0.0.9", {"db", "bad name"}}, {"x y", {"z"}}};
  EXPECT_EQ(
      hosts_file(config),
      "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox\n10.0.0.9\tdb\n");
  config.net = proto::GuestConfig::Net{};
  config.net->ipv4 = proto::GuestConfig::Address{"172.16.0.2", 30, ""};
  EXPECT_NE(hosts_file(config).find("172.16.0.2\tbox\n"), std::string::npos);
}

TEST(GuestInfoTest, ProcFilesAreParsed) {
  EXPECT_EQ(parse_busy_ticks("cpu  1 2 3 100 200 4 5 6 7 8\ncpu0 9 9 9\n"), 15U);
  EXPECT_EQ(parse_busy_ticks("intr 5"), 0U);
  constexpr std::string_view kDevices =
      "Inter-|   Receive\n face |bytes\n    lo:  10 1 0 0 0 0 0 0 10 1 0\n  eth0: 1000 1 0 0 0 0 0 0 234 1 0 "
      "0 0 0 0 0\n";
  EXPECT_EQ(parse_interface_bytes(kDevices, "eth0"), 1234U);
  EXPECT_EQ(parse_interface_bytes(kDevices, "eth1"), 0U);
  EXPECT_EQ(parse_meminfo("MemTotal:  100 kB\nMemAvailable:   7 kB\n", "MemAvailable"), 7168U);
  EXPECT_EQ(parse_meminfo("MemTotal", "MemTotal"), 0U);
}

}  // namespace
}  // namespace msb::agent
