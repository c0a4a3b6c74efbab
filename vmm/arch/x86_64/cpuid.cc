// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/cpuid.h"

#include <cpuid.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace msb::vmm {
namespace {

constexpr std::uint32_t bit(unsigned n) { return std::uint32_t{1} << n; }
template <typename... Bits>
constexpr std::uint32_t bits(Bits... n) {
  return (bit(static_cast<unsigned>(n)) | ...);
}

// Leaf 1.
constexpr std::uint32_t kL1EcxHidden =
    bits(2, 3, 5, 6, 7, 8, 10, 15);  // DTES64 MONITOR VMX SMX EIST TM2 CNXT PDCM
constexpr std::uint32_t kL1EcxX2apic = bit(21);
constexpr std::uint32_t kL1EcxTscDeadline = bit(24);
constexpr std::uint32_t kL1EcxHypervisor = bit(31);
constexpr std::uint32_t kL1EdxHidden = bits(21, 22, 29);  // DS ACPI TM
constexpr std::uint32_t kL1EdxHtt = bit(28);
// Leaf 7.
constexpr std::uint32_t kL7EbxHidden = bits(2, 4, 11, 12, 14, 15, 25);  // SGX HLE RTM PQM MPX PQE PT
constexpr std::uint32_t kL7EcxHidden = bits(5, 13, 16, 24, 30);         // WAITPKG TME LA57 BUS_LOCK SGX_LC
constexpr std::uint32_t kL7EdxHidden = bits(5, 18, 22, 24, 25);         // UINTR PCONFIG AMX-BF16 -TILE -INT8
// Extended leaves.
constexpr std::uint32_t kE1EcxHidden = bits(2, 3, 10, 12, 13, 15, 19, 23, 24, 26, 28);  // SVM ... counters
constexpr std::uint32_t kE7EdxInvariantTsc = bit(8);

// XCR0 components: x87 SSE AVX, AVX-512 (5-7), PKRU (9); no MPX (3, 4), no AMX (17, 18).
constexpr std::uint32_t kXcr0Allowed = bits(0, 1, 2, 5, 6, 7, 9);
constexpr std::uint32_t kXcr0Conservative = bits(0, 1, 2);

// The conservative template: x86-64-v3 and the AES, SHA-free crypto set of that age, and every bit that tells
// of a mitigation (hiding one would make the guest less safe, not more portable).
constexpr std::uint32_t kConservativeL1Ecx =
    bits(0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
constexpr std::uint32_t kConservativeL7Ebx = bits(0, 1, 3, 5, 7, 8, 9, 10, 18, 19, 20);
constexpr std::uint32_t kConservativeL7Ecx = bit(2);                               // UMIP
constexpr std::uint32_t kConservativeL7Edx = bits(9, 10, 14, 26, 27, 28, 29, 31);  // SRBDS MD_CLEAR ... SSBD
constexpr std::uint32_t kConservativeE1Ecx = bits(0, 1, 4, 5, 6, 7, 8, 22);

using Entry = kvm_cpuid_entry2;

// Topology leaves are written anew for this VM.
bool dropped(const Entry& entry) {
  switch (entry.function) {
    case 0xb:         // x2APIC topology: built below
    case 0x1f:        // the same, second version
    case 0x12:        // SGX
    case 0x14:        // processor trace
    case 0x1d:        // AMX tiles
    case 0x1e:        // AMX multiplier
    case 0x8000000a:  // SVM
    case 0x80000022:  // performance counters
    case 0x80000026:  // AMD topology, second version
      return true;
    default:
      return false;
  }
}

void edit_leaf1(Entry& entry, const CpuidRequest& request) {
  entry.ebx = (entry.ebx & 0x0000ffff) | (request.cpus << 16) | (request.apic_id << 24);
  entry.ecx &= ~kL1EcxHidden;
  if (request.cpu_template == CpuTemplate::kConservative) entry.ecx &= kConservativeL1Ecx;
  entry.ecx |= kL1EcxX2apic | kL1EcxHypervisor;
  entry.ecx = request.tsc_deadline ? entry.ecx | kL1EcxTscDeadline : entry.ecx & ~kL1EcxTscDeadline;
  entry.edx &= ~(kL1EdxHidden | kL1EdxHtt);
  if (request.cpus > 1) entry.edx |= kL1EdxHtt;
}

// Deterministic cache parameters (4 at Intel, 0x8000001d at AMD): levels 1 and 2 are a core's own, level 3 is
// the package's; one thread per core.
void edit_cache_leaf(Entry& entry, std::uint32_t cpus) {
  if ((entry.eax & 0x1f) == 0) return;
  const std::uint32_t level = (entry.eax >> 5) & 7;
  const std::uint32_t sharing = level >= 3 ? cpus - 1 : 0;
  entry.eax = (entry.eax & 0x00003fff) | (sharing << 14);
  if (entry.function == 4) entry.eax |= std::min(cpus - 1, 63U) << 26;
}

void edit_leaf7(Entry& entry, CpuTemplate cpu_template) {
  const bool conservative = cpu_template == CpuTemplate::kConservative;
  if (entry.index == 0) {
    entry.ebx &= ~kL7EbxHidden;
    entry.ecx &= ~kL7EcxHidden;
    entry.edx &= ~kL7EdxHidden;
    if (!conservative) return;
    entry.eax = 0;  // no further sub-leaf
    entry.ebx &= kConservativeL7Ebx;
    entry.ecx &= kConservativeL7Ecx;
    entry.edx &= kConservativeL7Edx;
  } else if (entry.index == 1) {
    entry.eax &= ~bits(17, 21);  // FRED, AMX-FP16
    entry.edx &= ~bit(8);        // AMX-COMPLEX
    if (conservative) entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
  }
}

// Leaf 0xd describes the state components of XCR0; hide those of hidden features, and their room.
void edit_xsave(std::vector<Entry>& table, CpuTemplate cpu_template) {
  const std::uint32_t allowed = cpu_template == CpuTemplate::kConservative ? kXcr0Conservative : kXcr0Allowed;
  std::erase_if(table, [&](const Entry& e) {
    return e.function == 0xd && e.index >= 2 && e.index < 32 && (e.ecx & 1) == 0 &&
           (allowed & bit(e.index)) == 0;
  });
  std::uint32_t size = 576;  // legacy region and header
  for (const Entry& entry : table) {
    const bool component =
        entry.function == 0xd && entry.index >= 2 && entry.index < 32 && (entry.ecx & 1) == 0;
    if (component) size = std::max(size, entry.ebx + entry.eax);
  }
  for (Entry& entry : table) {
    if (entry.function != 0xd || entry.index != 0) continue;
    entry.eax &= allowed;
    entry.edx = 0;
    entry.ecx = size;
  }
}

// XSAVE and all that needs it.
void hide_xsave(std::vector<Entry>& table) {
  std::erase_if(table, [](const Entry& e) { return e.function == 0xd; });
  for (Entry& entry : table) {
    if (entry.function == 1) entry.ecx &= ~bits(12, 26, 27, 28, 29);  // FMA XSAVE OSXSAVE AVX F16C
    if (entry.function == 7 && entry.index == 0) {
      entry.ebx &= ~bits(5, 16, 17, 21, 26, 27, 28, 30, 31);  // AVX2, AVX-512
      entry.ecx &= ~bits(1, 3, 4, 6, 9, 10, 11, 12, 14);      // AVX-512, PKU, VAES, VPCLMULQDQ
      entry.edx &= ~bits(2, 3, 8, 23);                        // AVX-512
    }
    if (entry.function == 7 && entry.index == 1)
      entry.eax &= ~bits(4, 5, 23);                                    // AVX-VNNI, AVX512-BF16, AVX-IFMA
    if (entry.function == 0x80000001) entry.ecx &= ~bits(11, 15, 16);  // XOP, LWP, FMA4
  }
}

void add_x2apic_topology(std::vector<Entry>& table, const CpuidRequest& request) {
  const auto core_bits = static_cast<std::uint32_t>(std::bit_width(request.cpus - 1));
  Entry smt{};
  smt.function = 0xb;
  smt.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  smt.ebx = 1;
  smt.ecx = 1U << 8;  // level 0 is of type SMT
  smt.edx = request.apic_id;
  Entry core = smt;
  core.index = 1;
  core.eax = core_bits;
  core.ebx = request.cpus;
  core.ecx = 1U | 2U << 8;  // level 1 is of type core
  Entry end = smt;
  end.index = 2;
  end.ebx = 0;
  end.ecx = 2;
  table.insert(table.end(), {smt, core, end});
}

void edit_extended(Entry& entry, const CpuidRequest& request) {
  switch (entry.function) {
    case 0x80000001:
      entry.ecx &= ~kE1EcxHidden;
      if (request.cpu_template == CpuTemplate::kConservative) entry.ecx &= kConservativeE1Ecx;
      break;
    case 0x80000007:
      entry.eax = entry.ebx = entry.ecx = 0;
      entry.edx &= kE7EdxInvariantTsc;
      break;
    case 0x80000008:
      entry.ecx = (entry.ecx & ~0xf0ffU) | (request.cpus - 1) |
                  static_cast<std::uint32_t>(std::bit_width(request.cpus - 1)) << 12;
      break;
    case 0x8000001d:
      edit_cache_leaf(entry, request.cpus);
      break;
    case 0x8000001e:
      entry.eax = request.apic_id;
      entry.ebx = request.apic_id & 0xff;  // core id; one thread per core
      entry.ecx = 0;
      break;
    default:
      break;
  }
}

}  // namespace

std::optional<CpuTemplate> cpu_template_from_name(std::string_view name) {
  if (name == "host") return CpuTemplate::kHost;
  if (name == "conservative") return CpuTemplate::kConservative;
  return std::nullopt;
}

bool host_loses_xcr0() {
  std::uint32_t eax = 0;
  std::uint32_t signature[3] = {};
  __cpuid(1, eax, signature[0], signature[1], signature[2]);
  if ((signature[1] & kL1EcxHypervisor) == 0) return false;
  __cpuid(0x40000000, eax, signature[0], signature[1], signature[2]);
  return std::memcmp(signature, "TCGTCGTCGTCG", sizeof signature) == 0;
}

std::vector<kvm_cpuid_entry2> make_cpuid(const std::vector<kvm_cpuid_entry2>& supported,
                                         const CpuidRequest& request) {
  std::vector<Entry> table = supported;
  std::erase_if(table, dropped);
  for (Entry& entry : table) {
    switch (entry.function) {
      case 0x0:
        entry.eax = std::clamp(entry.eax, 0xbU, 0x16U);  // the topology leaf is always there
        break;
      case 0x1:
        edit_leaf1(entry, request);
        break;
      case 0x4:
        edit_cache_leaf(entry, request.cpus);
        break;
      case 0x5:  // MONITOR/MWAIT
      case 0xa:  // performance counters
        entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
        break;
      case 0x6:
        entry.eax = bit(2);  // the local APIC timer runs always
        entry.ebx = entry.ecx = entry.edx = 0;
        break;
      case 0x7:
        edit_leaf7(entry, request.cpu_template);
        break;
      default:
        if (entry.function >= 0x80000000U) edit_extended(entry, request);
        break;
    }
  }
  if (request.hide_xsave) {
    hide_xsave(table);
  } else {
    edit_xsave(table, request.cpu_template);
  }
  add_x2apic_topology(table, request);
  return table;
}

}  // namespace msb::vmm
