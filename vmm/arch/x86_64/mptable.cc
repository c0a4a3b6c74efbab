// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/mptable.h"

#include <array>
#include <numeric>

#include "base/check.h"
#include "base/wire.h"
#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

constexpr std::uint8_t kSpecRevision = 4;      // 1.4
constexpr std::uint8_t kApicVersion = 0x14;    // integrated APIC
constexpr std::uint8_t kIoapicVersion = 0x11;  // 82093AA
constexpr std::uint8_t kCpuEnabled = 1;
constexpr std::uint8_t kCpuBootstrap = 2;
constexpr std::uint8_t kIsaBusId = 0;
constexpr std::uint8_t kTypeInt = 0;
constexpr std::uint8_t kTypeNmi = 1;
constexpr std::uint8_t kAllApics = 0xff;

struct FloatingPointer {
  std::array<char, 4> signature{'_', 'M', 'P', '_'};
  Le32 table;
  std::uint8_t length = 1;  // in paragraphs of 16 bytes
  std::uint8_t revision = kSpecRevision;
  std::uint8_t checksum = 0;
  std::array<std::uint8_t, 5> features{};
};
static_assert(sizeof(FloatingPointer) == 16 && WireStruct<FloatingPointer>);

struct TableHeader {
  std::array<char, 4> signature{'P', 'C', 'M', 'P'};
  Le16 length;
  std::uint8_t revision = kSpecRevision;
  std::uint8_t checksum = 0;
  std::array<char, 8> oem{'M', 'S', 'B', ' ', ' ', ' ', ' ', ' '};
  std::array<char, 12> product{'M', 'I', 'C', 'R', 'O', 'V', 'M', ' ', ' ', ' ', ' ', ' '};
  Le32 oem_table;
  Le16 oem_table_size;
  Le16 entries;
  Le32 local_apic;
  Le16 extended_length;
  std::uint8_t extended_checksum = 0;
  std::uint8_t reserved = 0;
};
static_assert(sizeof(TableHeader) == 44 && WireStruct<TableHeader>);

struct CpuEntry {
  std::uint8_t type = 0;
  std::uint8_t apic_id = 0;
  std::uint8_t apic_version = kApicVersion;
  std::uint8_t flags = 0;
  Le32 signature{0x600U};  // family 6; the kernel reads CPUID instead
  Le32 features{0x201U};   // FPU and APIC
  Le32 reserved[2];
};
static_assert(sizeof(CpuEntry) == 20 && WireStruct<CpuEntry>);

struct BusEntry {
  std::uint8_t type = 1;
  std::uint8_t id = kIsaBusId;
  std::array<char, 6> name{'I', 'S', 'A', ' ', ' ', ' '};
};
static_assert(sizeof(BusEntry) == 8);

struct IoapicEntry {
  std::uint8_t type = 2;
  std::uint8_t id = 0;
  std::uint8_t version = kIoapicVersion;
  std::uint8_t flags = 1;  // usable
  Le32 address;
};
static_assert(sizeof(IoapicEntry) == 8);

struct InterruptEntry {
  std::uint8_t type = 3;  // 3: of the I/O APIC, 4: of the local APICs
  std::uint8_t kind = kTypeInt;
  Le16 flags{std::uint16_t{0}};  // polarity and trigger as the bus has them: ISA is edge, active high
  std::uint8_t bus = kIsaBusId;
  std::uint8_t bus_irq = 0;
  std::uint8_t apic = 0;
  std::uint8_t pin = 0;
};
static_assert(sizeof(InterruptEntry) == 8);

// The byte that makes all of `bytes` add up to zero.
std::uint8_t checksum(ByteView bytes) {
  return static_cast<std::uint8_t>(0U - std::accumulate(bytes.begin(), bytes.end(), 0U));
}

}  // namespace

MpTable build_mp_table(std::uint32_t cpus, std::uint32_t pins) {
  MSB_CHECK(cpus >= 1 && cpus <= kMaxVcpus && pins >= 1 && pins <= kMaxIoapicPins);
  // An APIC id is 8 bits wide here; the I/O APIC takes the first free one.
  const auto ioapic_id = static_cast<std::uint8_t>(cpus);
  ByteWriter body;
  std::uint16_t entries = 0;
  const auto add = [&](const auto& entry) {
    body.put(entry);
    ++entries;
  };
  for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
    CpuEntry entry;
    entry.apic_id = static_cast<std::uint8_t>(cpu);
    entry.flags = cpu == 0 ? kCpuEnabled | kCpuBootstrap : kCpuEnabled;
    add(entry);
  }
  add(BusEntry{});
  IoapicEntry ioapic;
  ioapic.id = ioapic_id;
  ioapic.address.set(static_cast<std::uint32_t>(kIoapicBase));
  add(ioapic);
  for (std::uint32_t pin = 0; pin < pins; ++pin) {
    InterruptEntry entry;
    entry.bus_irq = static_cast<std::uint8_t>(pin);
    entry.apic = ioapic_id;
    entry.pin = static_cast<std::uint8_t>(pin);
    add(entry);
  }
  InterruptEntry nmi;  // LINT1 of every CPU
  nmi.type = 4;
  nmi.kind = kTypeNmi;
  nmi.apic = kAllApics;
  nmi.pin = 1;
  add(nmi);

  TableHeader header;
  header.length.set(static_cast<std::uint16_t>(sizeof(TableHeader) + body.size()));
  header.entries.set(entries);
  header.local_apic.set(static_cast<std::uint32_t>(kLocalApicBase));
  ByteWriter table;
  table.put(header);
  table.put_bytes(body.view());
  table.at(offsetof(TableHeader, checksum), 1)[0] = checksum(table.view());
  MSB_CHECK(table.size() <= kMpPointerAddress - kMpTableAddress);

  FloatingPointer start;
  start.table.set(static_cast<std::uint32_t>(kMpTableAddress));
  ByteWriter pointer;
  pointer.put(start);
  pointer.at(offsetof(FloatingPointer, checksum), 1)[0] = checksum(pointer.view());
  return {std::move(pointer).take(), std::move(table).take()};
}

}  // namespace msb::vmm
