// SPDX-License-Identifier: Apache-2.0
// A tree that outgrows the memory it may keep: it goes on in its file, and a file that cannot grow is an
// error.
#include "oci/scratch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/unique_fd.h"
#include "oci/tree.h"

namespace msb::oci {
namespace {

constexpr std::uint32_t kFiles = 100'000;  // some 100 bytes each

std::string name_of(std::uint32_t i) { return "file-" + std::to_string(i); }

Status fill(Tree& tree) {
  for (std::uint32_t i = 0; i < kFiles; ++i) {
    Inode inode;
    inode.mode = S_IFREG | 0644;
    inode.size = i;
    MSB_ASSIGN(const InodeId id, tree.add_inode(inode));
    MSB_TRY(tree.put(kRootNode, name_of(i), id));
  }
  return {};
}

std::int64_t length_of(int fd) {
  struct stat st {};
  return ::fstat(fd, &st) == 0 ? st.st_size : -1;
}

TEST(Scratch, LargeTreesGoOnInTheFile) {
  const UniqueFd file(::memfd_create("scratch", MFD_CLOEXEC));
  Tree tree(Limits{}, file.get());
  EXPECT_EQ(length_of(file.get()), 0);
  ASSERT_TRUE(fill(tree).ok());
  EXPECT_GT(length_of(file.get()), 1 << 20);
  for (std::uint32_t i = 0; i < kFiles; i += 7) {
    const NodeId id = tree.find(kRootNode, name_of(i));
    ASSERT_NE(id, kNone);
    EXPECT_EQ(tree.inode_of(id).size, i);
  }
  tree.sort_children(kRootNode);
  EXPECT_EQ(tree.children(kRootNode).size(), kFiles);
}

TEST(Scratch, AFileThatCannotGrowIsAnErrorAndNoFault) {
  const UniqueFd file(::memfd_create("scratch", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::fcntl(file.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  Tree tree(Limits{}, file.get());
  EXPECT_FALSE(fill(tree).ok());
}

TEST(Scratch, WithoutAFileEverythingIsMemory) {
  Tree tree(Limits{});
  EXPECT_TRUE(fill(tree).ok());
}

}  // namespace
}  // namespace msb::oci
