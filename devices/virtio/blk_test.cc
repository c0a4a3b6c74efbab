// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/blk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <thread>

#include "devices/virtio/status.h"
#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices {
namespace {

using testing::Buffer;
using testing::FakeDriver;
using testing::Layout;
using testing::Used;

constexpr std::uint64_t kFlushFeature = std::uint64_t{1} << 9;

UniqueFd file_of(ByteView content) {
  UniqueFd fd(::memfd_create("disk", MFD_CLOEXEC));
  EXPECT_EQ(::pwrite(fd.get(), content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  return fd;
}
Bytes pattern(std::size_t size, std::uint8_t seed) {
  Bytes out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::uint8_t>(i / 512 * 7 + i + seed);
  return out;
}
Bytes request(std::uint32_t type, std::uint64_t sector) {
  ByteWriter writer;
  writer.put(Le32(type));
  writer.put(Le32(0));
  writer.put(Le64(sector));
  return std::move(writer).take();
}
Bytes erase_segment(std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags) {
  ByteWriter writer;
  writer.put(Le64(sector));
  writer.put(Le32(sectors));
  writer.put(Le32(flags));
  return std::move(writer).take();
}

// Everything a backend can be told to do wrong.
class FaultyBackend final : public BlockBackend {
 public:
  std::uint64_t size() const override { return 1 << 20; }
  bool read_only() const override { return false; }
  Status read(std::span<const vmm::HostRange>, std::uint64_t) override { return fail(); }
  Status write(std::span<const vmm::HostRange>, std::uint64_t, Durability durability) override {
    synced = durability == Durability::kSynced;
    return fail();
  }
  Status flush() override { return fail(); }
  Status discard(std::uint64_t, std::uint64_t) override { return fail(); }
  Status write_zeroes(std::uint64_t, std::uint64_t, Allocation) override { return fail(); }
  int error = 0;
  bool synced = false;

 private:
  Status fail() { return error == 0 ? Status() : Status(sys_error("test", error)); }
};

class BlkTest : public ::testing::Test {
 protected:
  void make(std::unique_ptr<BlockBackend> backend, Blk::Options options = {}) {
    loop_ = std::move(EventLoop::create()).value();
    blk_ = std::make_unique<Blk>(*loop_, std::vector<EventLoop*>{loop_.get()}, std::move(backend),
                                 std::move(options));
    driver_ = std::make_unique<FakeDriver>(*blk_);
  }
  void make_raw(std::size_t size, Blk::Options options = {}) {
    content_ = pattern(size, 3);
    UniqueFd file = file_of(content_);
    file_.reset(::dup(file.get()));
    make(std::move(make_raw_backend(std::move(file), DiskAccess::kReadWrite)).value(), std::move(options));
  }
  // Runs a request and returns its status byte.
  std::uint8_t run(std::vector<Buffer> buffers) {
    const Buffer status = driver_->writable(1);
    buffers.push_back(status);
    last_ = driver_->run(0, buffers);
    return driver_->bytes(status)[0];
  }
  Bytes on_disk(std::size_t offset, std::size_t length) {
    Bytes out(length);
    EXPECT_EQ(::pread(file_.get(), out.data(), length, static_cast<off_t>(offset)),
              static_cast<ssize_t>(length));
    return out;
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Blk> blk_;
  std::unique_ptr<FakeDriver> driver_;
  UniqueFd file_;
  Bytes content_;
  Used last_;
};

TEST_F(BlkTest, Config_TellsCapacityAndSegments) {
  make_raw(1 << 20);
  EXPECT_EQ(driver_->config(0, 8), (Bytes{0, 8, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(driver_->config(12, 4), (Bytes{254, 0, 0, 0}));
  EXPECT_EQ(driver_->config(1000, 2), (Bytes{0, 0}));
}

TEST_F(BlkTest, Read_ScatteredBuffers_FilledInOrder) {
  make_raw(1 << 20);
  driver_->start();
  const Buffer a = driver_->writable(512 + 100);
  const Buffer b = driver_->writable(1024 - 100);
  EXPECT_EQ(run({driver_->readable(request(0, 5)), a, b}), 0);
  EXPECT_EQ(last_.length, 1537u);
  Bytes got = driver_->bytes(a);
  const Bytes rest = driver_->bytes(b);
  got.insert(got.end(), rest.begin(), rest.end());
  EXPECT_EQ(got, Bytes(content_.begin() + 2560, content_.begin() + 2560 + 1536));
}

TEST_F(BlkTest, Read_IndirectChain_Works) {
  make_raw(1 << 20);
  driver_->start();
  const Buffer data = driver_->writable(512);
  const Buffer status = driver_->writable(1);
  driver_->run(0, {driver_->readable(request(0, 1)), data, status}, Layout::kIndirect);
  EXPECT_EQ(driver_->bytes(data), Bytes(content_.begin() + 512, content_.begin() + 1024));
}

TEST_F(BlkTest, Write_ThenRead_SameBytes) {
  make_raw(1 << 20);
  driver_->start();
  const Bytes data = pattern(4096, 99);
  EXPECT_EQ(run({driver_->readable(request(1, 8)), driver_->readable(data)}), 0);
  EXPECT_EQ(last_.length, 1u);
  EXPECT_EQ(on_disk(4096, 4096), data);
}

TEST_F(BlkTest, Write_HeaderAndDataInOneDescriptor_Works) {
  make_raw(1 << 20);
  driver_->start();
  Bytes both = request(1, 8);
  const Bytes data = pattern(512, 99);
  both.insert(both.end(), data.begin(), data.end());
  EXPECT_EQ(run({driver_->readable(both)}), 0);
  EXPECT_EQ(on_disk(4096, 512), data);
}

TEST_F(BlkTest, OutOfRange_IsIoError) {
  make_raw(1 << 20);
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(0, 2047)), driver_->writable(1024)}), 1);
  EXPECT_EQ(run({driver_->readable(request(0, ~std::uint64_t{0})), driver_->writable(512)}), 1);
  EXPECT_EQ(run({driver_->readable(request(0, 0)), driver_->writable(511)}), 1);
  EXPECT_EQ(run({driver_->readable(request(0, std::uint64_t{1} << 55)), driver_->writable(512)}), 1);
}

TEST_F(BlkTest, UnknownType_IsUnsupported) {
  make_raw(1 << 20);
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(77, 0))}), 2);
}

TEST_F(BlkTest, GetId_IsCutToTheBuffer) {
  make_raw(1 << 20, {.id = "root-disk-with-a-very-long-name"});
  driver_->start();
  const Buffer id = driver_->writable(20);
  EXPECT_EQ(run({driver_->readable(request(8, 0)), id}), 0);
  EXPECT_EQ(as_text(driver_->bytes(id)), "root-disk-with-a-ver");
  const Buffer small = driver_->writable(4);
  EXPECT_EQ(run({driver_->readable(request(8, 0)), small}), 0);
  EXPECT_EQ(as_text(driver_->bytes(small)), "root");
  EXPECT_EQ(last_.length, 5u);
}

TEST_F(BlkTest, DiscardAndWriteZeroes_ClearTheRange) {
  make_raw(1 << 20);
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(11, 0)), driver_->readable(erase_segment(8, 8, 0))}), 0);
  EXPECT_EQ(run({driver_->readable(request(13, 0)), driver_->readable(erase_segment(24, 3, 0))}), 0);
  EXPECT_EQ(run({driver_->readable(request(13, 0)), driver_->readable(erase_segment(40, 8, 1))}), 0);
  EXPECT_EQ(on_disk(4096, 4096), Bytes(4096));
  EXPECT_EQ(on_disk(24 * 512, 3 * 512), Bytes(3 * 512));
  EXPECT_EQ(on_disk(27 * 512, 512), Bytes(content_.begin() + 27 * 512, content_.begin() + 28 * 512));
  EXPECT_EQ(on_disk(40 * 512, 4096), Bytes(4096));
}

TEST_F(BlkTest, Erase_BadSegments_Refused) {
  make_raw(1 << 20);
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(11, 0)), driver_->readable(erase_segment(0, 1, 1))}), 2);
  EXPECT_EQ(run({driver_->readable(request(13, 0)), driver_->readable(erase_segment(2040, 9, 0))}), 1);
  EXPECT_EQ(run({driver_->readable(request(13, 0)), driver_->readable(Bytes(15))}), 1);
  EXPECT_EQ(run({driver_->readable(request(13, 0))}), 1);
  EXPECT_EQ(run({driver_->readable(request(13, 0)), driver_->readable(Bytes(16 * 33))}), 1);
  EXPECT_EQ(on_disk(0, 1 << 20), content_);
}

TEST_F(BlkTest, ReadOnlyDisk_RefusesWritesAndOffersNoErase) {
  content_ = pattern(8192, 1);
  make(std::move(make_raw_backend(file_of(content_), DiskAccess::kReadOnly)).value());
  EXPECT_NE(driver_->offered() & (1 << 5), 0u);
  EXPECT_EQ(driver_->offered() & (std::uint64_t{1} << 13), 0u);
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(1, 0)), driver_->readable(Bytes(512))}), 1);
  EXPECT_EQ(run({driver_->readable(request(13, 0)), driver_->readable(erase_segment(0, 8, 0))}), 2);
  EXPECT_EQ(run({driver_->readable(request(4, 0))}), 0);
}

TEST_F(BlkTest, Extents_AppearAsOneDisk) {
  const Bytes first = pattern(8192, 1);
  const Bytes second = pattern(8192, 2);
  const auto one = std::make_shared<UniqueFd>(file_of(first));
  const auto two = std::make_shared<UniqueFd>(file_of(second));
  auto backend = make_extent_backend({{one, 4096, 4096}, {two, 0, 1024}, {one, 0, 512}});
  ASSERT_TRUE(backend.ok());
  make(std::move(backend).value());
  driver_->start();
  const Buffer all = driver_->writable(4096 + 1024 + 512);
  EXPECT_EQ(run({driver_->readable(request(0, 0)), all}), 0);
  Bytes expected(first.begin() + 4096, first.end());
  expected.insert(expected.end(), second.begin(), second.begin() + 1024);
  expected.insert(expected.end(), first.begin(), first.begin() + 512);
  EXPECT_EQ(driver_->bytes(all), expected);
  const Buffer middle = driver_->writable(1024);
  EXPECT_EQ(run({driver_->readable(request(0, 9)), middle}), 0);
  EXPECT_EQ(driver_->bytes(middle), Bytes(expected.begin() + 9 * 512, expected.begin() + 11 * 512));
}

TEST_F(BlkTest, Extents_BadTables_Refused) {
  const auto file = std::make_shared<UniqueFd>(file_of(Bytes(4096)));
  EXPECT_FALSE(make_extent_backend({}).ok());
  EXPECT_FALSE(make_extent_backend({{file, 0, 0}}).ok());
  EXPECT_FALSE(make_extent_backend({{file, 1, 512}}).ok());
  EXPECT_FALSE(make_extent_backend({{file, 0, 4608}}).ok());
  EXPECT_FALSE(make_extent_backend({{file, 512, ~std::uint64_t{511}}}).ok());
}

TEST_F(BlkTest, TruncatedFile_IsIoErrorNotSilence) {
  make_raw(1 << 20);
  driver_->start();
  ASSERT_EQ(::ftruncate(file_.get(), 4096), 0);
  EXPECT_EQ(run({driver_->readable(request(0, 4)), driver_->writable(4096)}), 1);
}

TEST_F(BlkTest, HostError_ReachesTheGuest) {
  auto backend = std::make_unique<FaultyBackend>();
  backend->error = EIO;
  make(std::move(backend));
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(0, 0)), driver_->writable(512)}), 1);
  EXPECT_EQ(last_.length, 1u);
  EXPECT_EQ(run({driver_->readable(request(4, 0))}), 1);
  EXPECT_EQ(blk_->counters().errors.load(), 2u);
}

TEST_F(BlkTest, FullDisk_PausesAndRetriesWithoutAnError) {
  auto owned = std::make_unique<FaultyBackend>();
  FaultyBackend& backend = *owned;
  backend.error = ENOSPC;
  std::vector<bool> events;
  make(std::move(owned), {.retry_full_disk = std::chrono::microseconds(50),
                          .on_disk_full = [&events](bool full) { events.push_back(full); }});
  driver_->start();
  const Buffer status = driver_->writable(1);
  driver_->add(0, {driver_->readable(request(1, 0)), driver_->readable(Bytes(512)), status});
  driver_->kick(0);
  driver_->pump(50);
  EXPECT_TRUE(driver_->take_used(0).empty());
  backend.error = 0;
  EXPECT_EQ(driver_->wait_used(0).size(), 1u);
  EXPECT_EQ(driver_->bytes(status)[0], 0);
  EXPECT_EQ(events, (std::vector<bool>{true, false}));
  EXPECT_EQ(driver_->status() & kStatusNeedsReset, 0u);
}

TEST_F(BlkTest, FullDisk_ResetForgetsTheRetry) {
  auto owned = std::make_unique<FaultyBackend>();
  owned->error = ENOSPC;
  make(std::move(owned), {.retry_full_disk = std::chrono::microseconds(50)});
  driver_->start();
  driver_->add(0, {driver_->readable(request(1, 0)), driver_->readable(Bytes(512)), driver_->writable(1)});
  driver_->kick(0);
  driver_->pump();
  driver_->reset();
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(8, 0)), driver_->writable(20)}), 0);
}

TEST_F(BlkTest, WithoutFlush_WritesAreSynced) {
  auto owned = std::make_unique<FaultyBackend>();
  FaultyBackend& backend = *owned;
  make(std::move(owned));
  driver_->start(kFlushFeature);
  EXPECT_EQ(run({driver_->readable(request(1, 0)), driver_->readable(Bytes(512))}), 0);
  EXPECT_TRUE(backend.synced);
}

TEST_F(BlkTest, Governor_DelaysButLosesNothing) {
  struct Governor final : IoGovernor {
    Duration admit(IoKind, std::uint64_t, Instant) override {
      return ++asked <= 3 ? Duration{10'000} : Duration{0};
    }
    int asked = 0;
  } governor;
  make(std::make_unique<FaultyBackend>(), {.governor = &governor});
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(4, 0))}), 0);
  EXPECT_EQ(governor.asked, 4);
  EXPECT_EQ(blk_->counters().delayed.load(), 3u);
}

TEST_F(BlkTest, RequestWithoutStatusByte_NeedsReset) {
  make_raw(1 << 20);
  driver_->start();
  driver_->add(0, {driver_->readable(request(1, 0))});
  driver_->kick(0);
  driver_->pump();
  EXPECT_NE(driver_->status() & kStatusNeedsReset, 0u);
  driver_->reset();
  driver_->start();
  EXPECT_EQ(run({driver_->readable(request(4, 0))}), 0);
}

TEST_F(BlkTest, ManyRequestsAtOnce_AllDone) {
  make_raw(1 << 20);
  driver_->start();
  for (int i = 0; i < 80; ++i) {
    driver_->add(0, {driver_->readable(request(0, static_cast<std::uint64_t>(i))), driver_->writable(512),
                     driver_->writable(1)});
  }
  driver_->kick(0);
  EXPECT_EQ(driver_->wait_used(0, 80).size(), 80u);
}

// Several queues on threads of their own, resets in the middle: nothing may touch memory after a reset, and
// TSan has something to look at.
TEST_F(BlkTest, QueuesOnThreads_ResetUnderLoad) {
  content_ = pattern(1 << 20, 3);
  loop_ = std::move(EventLoop::create()).value();
  auto one = std::move(EventLoop::create()).value();
  auto two = std::move(EventLoop::create()).value();
  blk_ = std::make_unique<Blk>(*loop_, std::vector<EventLoop*>{one.get(), two.get()},
                               std::move(make_raw_backend(file_of(content_), DiskAccess::kReadWrite)).value(),
                               Blk::Options{});
  driver_ = std::make_unique<FakeDriver>(*blk_);
  std::thread threads[] = {std::thread([&] { EXPECT_TRUE(loop_->run().ok()); }),
                           std::thread([&] { EXPECT_TRUE(one->run().ok()); }),
                           std::thread([&] { EXPECT_TRUE(two->run().ok()); })};
  driver_->loops_run_elsewhere();
  const Bytes zeros(4096);
  for (int life = 0; life < 40; ++life) {
    driver_->start(0, 16);
    // One for each queue: two threads that fill one buffer are the guest's race, not ours.
    const Buffer data[] = {driver_->writable(4096), driver_->writable(4096)};
    for (int i = 0; i < 4; ++i) {
      for (std::uint16_t q = 0; q < 2; ++q) {
        driver_->add(q, {driver_->readable(request(0, 0)), data[q], driver_->writable(1)});
        driver_->kick(q);
      }
    }
    if (life % 2 == 0) driver_->wait_used(0, 4);
    driver_->reset();
    for (const Buffer& one_data : data) ASSERT_TRUE(driver_->memory().write(one_data.address, zeros));
    for (int i = 0; i < 50; ++i) {
      for (const Buffer& one_data : data) ASSERT_EQ(driver_->bytes(one_data), zeros);
    }
  }
  for (EventLoop* loop : {loop_.get(), one.get(), two.get()}) loop->stop();
  for (std::thread& thread : threads) thread.join();
  // The transport leaves its loops when it goes, so it goes before them.
  driver_.reset();
  blk_.reset();
}

}  // namespace
}  // namespace msb::devices
