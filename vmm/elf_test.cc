// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/wire.h"

namespace msb::vmm {
namespace {

// An image with one loadable segment at 16 MiB and one note segment, built field by field.
struct ImageOptions {
  std::uint64_t load_address = 0x1000000;
  std::uint64_t load_file_size = 256;
  std::uint64_t load_memory_size = 512;
  std::uint64_t load_offset = 0x200;
  std::uint32_t note_type = 18;
  std::uint64_t note_value = 0x1000010;
  std::uint32_t note_size = 8;
  std::uint16_t machine = 62;
  std::uint16_t program_headers = 2;
};

void put_program_header(ByteWriter& out, std::uint32_t type, std::uint64_t offset, std::uint64_t address,
                        std::uint64_t file_size, std::uint64_t memory_size) {
  out.put(Le32{type});
  out.put(Le32{5U});
  for (const std::uint64_t value : {offset, address, address, file_size, memory_size, std::uint64_t{4096}}) {
    out.put(Le64{value});
  }
}

Bytes image(const ImageOptions& o) {
  ByteWriter out;
  out.put_bytes(Bytes{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  out.put(Le16{std::uint16_t{2}});
  out.put(Le16{o.machine});
  out.put(Le32{1U});
  out.put(Le64{0x1000000UL});
  out.put(Le64{64UL});
  out.put(Le64{0UL});
  out.put(Le32{0U});
  for (const std::uint16_t value : {std::uint16_t{64}, std::uint16_t{56}, o.program_headers, std::uint16_t{0},
                                    std::uint16_t{0}, std::uint16_t{0}}) {
    out.put(Le16{value});
  }
  put_program_header(out, 1, o.load_offset, o.load_address, o.load_file_size, o.load_memory_size);
  put_program_header(out, 4, 0x180, 0, 12 + 4 + o.note_size, 12 + 4 + o.note_size);
  out.put_zeros(0x180 - out.size());
  out.put(Le32{4U});
  out.put(Le32{o.note_size});
  out.put(Le32{o.note_type});
  out.put_text(std::string_view("Xen\0", 4));
  out.put(Le64{o.note_value});
  out.put_zeros(0x400 - out.size());
  return std::move(out).take();
}

Result<ElfKernel> parse(const Bytes& file) {
  return parse_elf_kernel(
      [&](std::uint64_t offset, std::size_t length) -> Result<Bytes> {
        if (offset > file.size() || length > file.size() - offset) return make_error(Errc::kCorrupt, "short");
        const auto first = file.begin() + static_cast<std::ptrdiff_t>(offset);
        return Bytes(first, first + static_cast<std::ptrdiff_t>(length));
      },
      file.size());
}

TEST(ElfKernel, GoodImage_SegmentsAndEntry) {
  const auto kernel = parse(image({}));
  ASSERT_TRUE(kernel) << kernel.error().text;
  ASSERT_EQ(kernel->segments.size(), 1U);
  EXPECT_EQ(kernel->segments[0].address, 0x1000000U);
  EXPECT_EQ(kernel->pvh_entry, 0x1000010U);
  EXPECT_EQ(kernel->end, 0x1000200U);
}

TEST(ElfKernel, FourByteEntryNote_Accepted) {
  const auto kernel = parse(image({.note_size = 4}));
  ASSERT_TRUE(kernel) << kernel.error().text;
  EXPECT_EQ(kernel->pvh_entry, 0x1000010U);
}

struct BadImage {
  const char* name;
  ImageOptions options;
  const char* text;
};

class ElfKernelBad : public ::testing::TestWithParam<BadImage> {};

TEST_P(ElfKernelBad, Refused_NamesTheFault) {
  const auto kernel = parse(image(GetParam().options));
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.error().code, Errc::kInvalid);
  EXPECT_NE(kernel.error().text.find(GetParam().text), std::string::npos) << kernel.error().text;
}

INSTANTIATE_TEST_SUITE_P(
    All, ElfKernelBad,
    ::testing::Values(BadImage{"machine", {.machine = 3}, "not for x86-64"},
                      BadImage{"no_headers", {.program_headers = 0}, "no or too many"},
                      BadImage{"many_headers", {.program_headers = 65}, "no or too many"},
                      BadImage{"beyond_file", {.load_file_size = 0x400}, "beyond the end"},
                      BadImage{"offset_wraps", {.load_offset = ~std::uint64_t{0} - 8}, "beyond the end"},
                      BadImage{"memory_below_file", {.load_memory_size = 8}, "larger in the file"},
                      BadImage{"low_address", {.load_address = 0x1000}, "outside of 1 MiB"},
                      BadImage{"address_wraps", {.load_memory_size = ~std::uint64_t{0}}, "outside of 1 MiB"},
                      BadImage{"no_note", {.note_type = 17}, "no PVH entry note"},
                      BadImage{"entry_outside", {.note_value = 0x2000000}, "outside of its segments"},
                      BadImage{"entry_high", {.note_value = 0x100000000}, "above 4 GiB"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(ElfKernel, CompressedImage_SaysWhatToGive) {
  Bytes file(0x400);
  std::memcpy(&file[0x202], "HdrS", 4);
  const auto kernel = parse(file);
  ASSERT_FALSE(kernel);
  EXPECT_NE(kernel.error().text.find("uncompressed vmlinux"), std::string::npos);
}

TEST(ElfKernel, EveryTruncation_RefusedWithoutCrash) {
  const Bytes whole = image({});
  for (std::size_t size = 0; size < 0x300; ++size) {
    EXPECT_FALSE(parse(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)))) << size;
  }
}

}  // namespace
}  // namespace msb::vmm
