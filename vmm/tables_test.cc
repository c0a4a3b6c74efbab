// SPDX-License-Identifier: Apache-2.0
// What the guest reads at boot: MP table, start info, command line, ramdisk archive, CPUID, registers.
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/arch/x86_64/mptable.h"
#include "vmm/arch/x86_64/registers.h"
#include "vmm/boot/cmdline.h"
#include "vmm/boot/cpio.h"
#include "vmm/boot/start_info.h"
#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

std::uint8_t sum(ByteView bytes) {
  return static_cast<std::uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0U));
}
template <typename T>
T at(const Bytes& bytes, std::size_t offset) {
  ByteReader reader{ByteView(bytes).subspan(offset)};
  return *reader.take<T>();
}

class MpTableCpus : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(MpTableCpus, ChecksumsEntriesAndRoom) {
  const MpTable mp = build_mp_table(GetParam(), 9);
  EXPECT_EQ(mp.pointer.size(), 16U);
  EXPECT_EQ(sum(mp.pointer), 0);
  EXPECT_EQ(sum(mp.table), 0);
  EXPECT_EQ(at<Le32>(mp.pointer, 4).get(), kMpTableAddress);
  EXPECT_EQ(at<Le16>(mp.table, 4).get(), mp.table.size());
  EXPECT_EQ(at<Le16>(mp.table, 34).get(), GetParam() + 1 + 1 + 9 + 1);
  EXPECT_LE(kMpTableAddress + mp.table.size(), kMpPointerAddress);
}

TEST_P(MpTableCpus, CpuIdsAreZeroToCountAndOneIsTheBootCpu) {
  const MpTable mp = build_mp_table(GetParam(), 9);
  for (std::uint32_t cpu = 0; cpu < GetParam(); ++cpu) {
    const std::size_t entry = 44 + cpu * 20;
    EXPECT_EQ(mp.table[entry], 0);
    EXPECT_EQ(mp.table[entry + 1], cpu);
    EXPECT_EQ(mp.table[entry + 3], cpu == 0 ? 3 : 1);
  }
}

INSTANTIATE_TEST_SUITE_P(All, MpTableCpus, ::testing::Values(1U, 2U, 8U, 64U));

TEST(StartInfo, SmallMachine_OneStretchWithTheTableReserved) {
  const StartInfo start = build_start_info(plan_regions(128 * kMiB), {0x7000000, 0x1234});
  EXPECT_EQ(at<Le32>(start.info, 0).get(), 0x336ec578U);
  EXPECT_EQ(at<Le32>(start.info, 12).get(), 1U);
  EXPECT_EQ(at<Le32>(start.info, 48).get(), 3U);
  ASSERT_EQ(start.memory_map.size(), 72U);
  EXPECT_EQ(at<Le64>(start.memory_map, 24).get(), kMpTableAddress);
  EXPECT_EQ(at<Le32>(start.memory_map, 24 + 16).get(), 2U);
  EXPECT_EQ(at<Le64>(start.memory_map, 48).get() + at<Le64>(start.memory_map, 56).get(), 128 * kMiB);
  EXPECT_EQ(at<Le64>(start.module_list, 0).get(), 0x7000000U);
}

TEST(StartInfo, LargeMachine_RestAboveFourGigabytes) {
  const StartInfo start = build_start_info(plan_regions(6 * kGiB), {});
  EXPECT_EQ(at<Le32>(start.info, 12).get(), 0U);
  EXPECT_EQ(at<Le32>(start.info, 48).get(), 4U);
  EXPECT_EQ(at<Le64>(start.memory_map, 72).get(), 4 * kGiB);
  EXPECT_EQ(at<Le64>(start.memory_map, 80).get(), 3 * kGiB);
}

TEST(Cmdline, DevicesAndSpareCpus) {
  const auto line = build_cmdline({.virtio_devices = 2, .cpus_online = 1, .cpus_max = 4, .extra = "a=b"});
  ASSERT_TRUE(line);
  EXPECT_NE(line->find(" virtio_mmio.device=512@0xd0000000:1 virtio_mmio.device=512@0xd0001000:2"),
            std::string::npos);
  EXPECT_NE(line->find(" maxcpus=1"), std::string::npos);
  EXPECT_TRUE(line->ends_with(" a=b"));
  EXPECT_EQ(line->find("  "), std::string::npos);
}

TEST(Cmdline, AllCpusOnline_NoLimitNamed) {
  EXPECT_EQ(build_cmdline({.cpus_online = 2, .cpus_max = 2, .extra = ""})->find("maxcpus"),
            std::string::npos);
}

TEST(Cmdline, BadExtra_Refused) {
  EXPECT_FALSE(build_cmdline({.extra = "a\nb"}));
  EXPECT_FALSE(build_cmdline({.extra = "virtio_mmio.device=1@2:3"}));
  const std::string longest(3000, 'x');
  const auto line = build_cmdline({.extra = longest});
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, Errc::kLimit);
}

TEST(Cpio, FilesAndEnd) {
  CpioWriter writer;
  writer.add_directory("d", 0700);
  writer.add_file("d/f", 0600, as_bytes("hello"));
  const Bytes archive = std::move(writer).finish();
  const std::string_view text = as_text(archive);
  EXPECT_EQ(archive.size() % 4, 0U);
  EXPECT_TRUE(text.starts_with("070701"));
  EXPECT_NE(text.find("hello"), std::string_view::npos);
  EXPECT_NE(text.find("TRAILER!!!"), std::string_view::npos);
  EXPECT_NE(text.find("00008180"), std::string_view::npos);  // S_IFREG | 0600
}

kvm_cpuid_entry2 leaf(std::uint32_t function, std::uint32_t index = 0) {
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  entry.index = index;
  entry.eax = entry.ebx = entry.ecx = entry.edx = 0xffffffff;
  return entry;
}

// A host that has every bit.
std::vector<kvm_cpuid_entry2> full_host() {
  std::vector<kvm_cpuid_entry2> table;
  for (const std::uint32_t function :
       {0x0U, 0x1U, 0x5U, 0x6U, 0x7U, 0xaU, 0x12U, 0x14U, 0x80000000U, 0x80000001U, 0x80000007U, 0x80000008U,
        0x8000000aU, 0x8000001eU, 0x80000022U}) {
    table.push_back(leaf(function));
  }
  for (std::uint32_t index = 0; index < 20; ++index) {
    kvm_cpuid_entry2 entry = leaf(0xd, index);
    if (index >= 2) {
      entry.eax = 64;
      entry.ebx = 576 + (index - 2) * 64;
      entry.ecx = 0;
    }
    table.push_back(entry);
  }
  return table;
}

std::map<std::pair<std::uint32_t, std::uint32_t>, kvm_cpuid_entry2> by_leaf(const CpuidRequest& request) {
  std::map<std::pair<std::uint32_t, std::uint32_t>, kvm_cpuid_entry2> out;
  for (const auto& entry : make_cpuid(full_host(), request)) out[{entry.function, entry.index}] = entry;
  return out;
}

TEST(Cpuid, HiddenFeatures_WhateverTheHostHas) {
  for (const CpuTemplate cpu_template : {CpuTemplate::kHost, CpuTemplate::kConservative}) {
    auto table = by_leaf({.apic_id = 0, .cpus = 1, .cpu_template = cpu_template});
    const kvm_cpuid_entry2& one = table[{1, 0}];
    EXPECT_EQ(one.ecx & (1U << 5), 0U) << "VMX";
    EXPECT_EQ(one.ecx & (1U << 3), 0U) << "MONITOR";
    EXPECT_NE(one.ecx & (1U << 31), 0U) << "hypervisor";
    EXPECT_NE(one.ecx & (1U << 21), 0U) << "x2APIC";
    EXPECT_EQ((table[{7, 0}].ebx & (1U << 2)), 0U) << "SGX";
    EXPECT_EQ((table[{7, 0}].edx & (7U << 22) & ~(1U << 23)), 0U) << "AMX";
    EXPECT_EQ((table[{0x80000001, 0}].ecx & (1U << 2)), 0U) << "SVM";
    EXPECT_EQ((table[{0xa, 0}].eax), 0U) << "counters";
    EXPECT_FALSE((table.contains({0x8000000a, 0})));
    EXPECT_FALSE((table.contains({0x14, 0})));
    EXPECT_EQ((table[{0xd, 0}].eax & (3U << 17)), 0U) << "AMX state";
    EXPECT_FALSE((table.contains({0xd, 18})));
  }
}

TEST(Cpuid, XsaveSize_CoversTheLastComponentLeft) {
  auto table = by_leaf({});
  EXPECT_EQ((table[{0xd, 0}].ecx), 576 + 7 * 64 + 64U);  // PKRU, component 9
  auto conservative = by_leaf({.cpu_template = CpuTemplate::kConservative});
  EXPECT_EQ((conservative[{0xd, 0}].ecx), 576 + 64U);  // AVX, component 2
}

TEST(Cpuid, Topology_IdsAndWidths) {
  auto table = by_leaf({.apic_id = 5, .cpus = 6});
  EXPECT_EQ((table[{1, 0}].ebx >> 24), 5U);
  EXPECT_EQ((table[{1, 0}].ebx >> 16 & 0xff), 6U);
  EXPECT_NE((table[{1, 0}].edx & (1U << 28)), 0U);
  EXPECT_EQ((table[{0xb, 1}].eax), 3U);
  EXPECT_EQ((table[{0xb, 1}].ebx), 6U);
  EXPECT_EQ((table[{0xb, 0}].edx), 5U);
}

TEST(Cpuid, HideXsave_NothingThatNeedsIt) {
  auto table = by_leaf({.hide_xsave = true});
  EXPECT_EQ((table[{1, 0}].ecx & (1U << 26 | 1U << 28)), 0U);
  EXPECT_EQ((table[{7, 0}].ebx & (1U << 5)), 0U);
  EXPECT_FALSE((table.contains({0xd, 0})));
}

TEST(Registers, Gdt_FlatCodeAndData) {
  const Bytes gdt = build_gdt();
  EXPECT_EQ(at<Le64>(gdt, 8).get(), 0x00cf9b000000ffffU);
  EXPECT_EQ(at<Le64>(gdt, 16).get(), 0x00cf93000000ffffU);
}

TEST(Registers, PvhEntry_ProtectedModeWithoutPaging) {
  kvm_sregs sregs{};
  set_pvh_segments(sregs);
  EXPECT_EQ(sregs.cr0, 0x11U);
  EXPECT_EQ(sregs.efer, 0U);
  EXPECT_EQ(pvh_registers(0x1000000).rbx, kStartInfoAddress);
}

}  // namespace
}  // namespace msb::vmm
