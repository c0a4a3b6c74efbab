// SPDX-License-Identifier: Apache-2.0
// What CPUID tells the guest: the host's features minus what a guest must not see, and the topology of this
// VM. Pure: tables in, tables out. Facts: Intel SDM vol. 2 (CPUID), AMD APM vol. 3 appendix E, Linux
// Documentation/virt/kvm/x86/cpuid.rst.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace msb::vmm {

enum class CpuTemplate : std::uint8_t {
  kHost,          // all that the host offers and a guest may have
  kConservative,  // what every x86-64-v3 server of the last ten years has: for migration and for odd hosts
};
// "host", "conservative"; nullopt for another name.
[[nodiscard]] std::optional<CpuTemplate> cpu_template_from_name(std::string_view name);

struct CpuidRequest {
  std::uint32_t apic_id = 0;  // of the vCPU the table is for
  std::uint32_t cpus = 1;     // in the VM, 1 to 64: one package, one thread per core
  CpuTemplate cpu_template = CpuTemplate::kHost;
  bool tsc_deadline = true;  // KVM_CAP_TSC_DEADLINE_TIMER
  bool hide_xsave = false;   // see host_loses_xcr0()
};

// True on a host that is itself emulated in software (QEMU's TCG): its SVM lets a guest's XSETBV through
// unseen, so KVM's idea of XCR0, and with it CPUID and FPU switching, would be wrong. XSAVE and AVX are
// hidden there.
[[nodiscard]] bool host_loses_xcr0();

// `supported` is KVM_GET_SUPPORTED_CPUID's table. Taken away whatever the template: nested virtualisation,
// performance counters, SGX, processor trace, AMX (its state is large and needs a permission), power
// management.
[[nodiscard]] std::vector<kvm_cpuid_entry2> make_cpuid(const std::vector<kvm_cpuid_entry2>& supported,
                                                       const CpuidRequest& request);

}  // namespace msb::vmm
