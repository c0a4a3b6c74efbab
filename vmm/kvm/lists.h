// SPDX-License-Identifier: Apache-2.0
// Counted lists as KVM takes them, and the request numbers that go with them. The kernel's headers declare
// these with flexible arrays behind an empty structure, which is 0 bytes in C and 1 in C++: offsets, sizes
// and, with the sizes, the request numbers come out wrong. So they are written down here. Private to vmm/kvm.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace msb::vmm::kvm {

inline constexpr unsigned long kGetMsrIndexList = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x02, 4);
inline constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
inline constexpr unsigned long kSetGsiRouting = _IOC(_IOC_WRITE, KVMIO, 0x6a, 8);
inline constexpr unsigned long kGetMsrs = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x88, 8);
inline constexpr unsigned long kSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);
inline constexpr unsigned long kSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);
inline constexpr unsigned long kGetCpuid2 = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x91, 8);
inline constexpr unsigned long kGetXsave = _IOC(_IOC_READ, KVMIO, 0xa4, 4096);
inline constexpr unsigned long kSetXsave = _IOC(_IOC_WRITE, KVMIO, 0xa5, 4096);
inline constexpr unsigned long kGetXsave2 = _IOC(_IOC_READ, KVMIO, 0xcf, 4096);

// A count of 32 bits, padding up to `kHeader` bytes, then the entries.
template <typename Entry, std::size_t kHeader = 8>
class CountedList {
  static_assert(kHeader % alignof(Entry) == 0 && std::is_trivially_copyable_v<Entry>);

 public:
  explicit CountedList(std::size_t count)
      : words_(std::make_unique<std::uint64_t[]>((kHeader + count * sizeof(Entry)) / 8 + 1)),
        capacity_(count) {
    const auto value = static_cast<std::uint32_t>(count);
    std::memcpy(words_.get(), &value, sizeof value);
  }
  explicit CountedList(std::span<const Entry> entries) : CountedList(entries.size()) {
    std::copy(entries.begin(), entries.end(), this->entries().begin());
  }
  [[nodiscard]] void* get() { return words_.get(); }
  // As many as KVM left in the count, never more than there is room for.
  [[nodiscard]] std::span<Entry> entries() {
    std::uint32_t count = 0;
    std::memcpy(&count, words_.get(), sizeof count);
    auto* first = reinterpret_cast<Entry*>(reinterpret_cast<char*>(words_.get()) + kHeader);
    return {first, std::min<std::size_t>(count, capacity_)};
  }

 private:
  std::unique_ptr<std::uint64_t[]> words_;
  std::size_t capacity_;
};

}  // namespace msb::vmm::kvm
