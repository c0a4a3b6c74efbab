// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine_link.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/file.h"

namespace msb::vmm {
namespace {

ino_t inode(const UniqueFd& fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd.get(), &info), 0);
  return info.st_ino;
}

UniqueFd some_file(const char* path) { return open_file(path, O_RDONLY).value(); }

TEST(MachineLink, Start_ValuesAndDescriptorsArrive) {
  auto pair = socket_pair(SOCK_SEQPACKET).value();
  MachineSpec spec;
  spec.cpus_online = 2;
  spec.cpus_max = 4;
  spec.cpu_template = CpuTemplate::kConservative;
  spec.memory_bytes = 512ULL << 20;
  spec.guest_config = std::string(300'000, 'x');
  spec.kernel = some_file("/proc/self/exe");
  spec.initrd = some_file("/etc/passwd");
  for (int disk = 0; disk < 3; ++disk) {
    DiskSpec entry;
    entry.id = "disk" + std::to_string(disk);
    for (int i = 0; i < 50; ++i)
      entry.extents.push_back({some_file("/etc/passwd"), 4096ULL * static_cast<unsigned>(i), 4096});
    spec.disks.push_back(std::move(entry));
  }
  spec.net = NetDeviceSpec{some_file("/etc/passwd"), {2, 3, 4, 5, 6, 7}, 9000, true};
  ASSERT_TRUE(send_start(pair.first.get(), spec, true));
  const auto got = receive_start(pair.second.get());
  ASSERT_TRUE(got) << got.error().text;
  EXPECT_TRUE(got->require_confinement);
  EXPECT_EQ(got->spec.cpus_max, 4U);
  EXPECT_EQ(got->spec.cpu_template, CpuTemplate::kConservative);
  EXPECT_EQ(got->spec.guest_config.size(), 300'000U);
  EXPECT_EQ(inode(got->spec.kernel), inode(spec.kernel));
  EXPECT_EQ(inode(got->spec.initrd), inode(spec.initrd));
  EXPECT_FALSE(got->spec.console.valid());
  ASSERT_EQ(got->spec.disks.size(), 3U);
  ASSERT_EQ(got->spec.disks[2].extents.size(), 50U);
  EXPECT_EQ(got->spec.disks[2].extents[49].offset, 49 * 4096U);
  EXPECT_EQ(got->spec.net->mac, spec.net->mac);
  EXPECT_EQ(got->spec.net->mtu, 9000);
}

TEST(MachineLink, Messages_RoundTrip) {
  auto pair = socket_pair(SOCK_SEQPACKET).value();
  ASSERT_TRUE(send(pair.first.get(), from_machine::Message(from_machine::Connect{7, 1})));
  auto connect = receive_from_machine(pair.second.get());
  ASSERT_TRUE(connect);
  EXPECT_EQ(std::get<from_machine::Connect>(*connect).id, 7U);
  ASSERT_TRUE(send(pair.first.get(),
                   from_machine::Message(from_machine::Ended{proto::ExitReason::kReboot, "x\xff"})));
  auto ended = receive_from_machine(pair.second.get());
  ASSERT_TRUE(ended) << ended.error().text;
  EXPECT_EQ(std::get<from_machine::Ended>(*ended).reason, proto::ExitReason::kReboot);
  ASSERT_TRUE(
      send(pair.second.get(), to_machine::Message(to_machine::Connected{7, some_file("/etc/passwd")})));
  auto connected = receive_to_machine(pair.first.get());
  ASSERT_TRUE(connected);
  EXPECT_TRUE(std::get<to_machine::Connected>(*connected).socket.valid());
}

TEST(MachineLink, Nonsense_IsAnError) {
  auto pair = socket_pair(SOCK_SEQPACKET).value();
  for (const char* text :
       {"x", "{}", R"({"op":"ended","reason":"nonsense","detail":""})", R"({"op":"connect","id":1})",
        R"({"op":"connect","id":1,"port":4294967296})", R"({"op":"what"})"}) {
    ASSERT_TRUE(send_with_fds(pair.first.get(), as_bytes(text), {}));
    EXPECT_FALSE(receive_from_machine(pair.second.get())) << text;
  }
  pair.first.reset();
  EXPECT_FALSE(receive_from_machine(pair.second.get()));
}

}  // namespace
}  // namespace msb::vmm
