// SPDX-License-Identifier: Apache-2.0
// msb-vmm: one sandbox. Started with its whole configuration on a descriptor, so that nothing shows in ps.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "proto/vm_spec.h"
#include "vmm/ending.h"
#include "vmm/exit_codes.h"
#include "vmm/kvm_check.h"
#include "vmm/machine_role.h"
#include "vmm/supervisor_role.h"

namespace {

constexpr std::size_t kMaxSpecBytes = std::size_t{32} << 20;

std::optional<int> parse_fd(const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 3 || value > 1 << 20) return std::nullopt;
  return static_cast<int>(value);
}

int usage() {
  std::fputs(
      "usage: msb-vmm --spec-fd N | --check-kvm\n"
      "--check-kvm tries a tiny guest and prints what it found as JSON. Otherwise: runs one sandbox as the "
      "JSON document on descriptor N says (proto/vm_spec.h). Not meant to be run by "
      "hand:\n"
      "use msb.\n",
      stderr);
  return msb::vmm::kExitUsage;
}

int run_spec(int fd) {
  auto text = msb::read_all(fd, kMaxSpecBytes);
  ::close(fd);
  if (!text) {
    msb::vmm::report_failure(std::nullopt, {"spec", text.error()});
    return msb::vmm::kExitUsage;
  }
  auto spec = msb::proto::VmSpec::parse(*text);
  if (!spec) {
    // Told where it can be told: the number may be the one thing that is right in it.
    std::optional<int> ready;
    if (const auto document = msb::JsonDocument::parse(*text); document && document->root().is_object()) {
      const auto number = document->root().get_int_or("ready_fd", -1);
      if (number && *number > 2 && *number < 1 << 20) ready = static_cast<int>(*number);
    }
    msb::vmm::report_failure(ready, {"spec", spec.error()});
    return msb::vmm::kExitUsage;
  }
  return msb::vmm::run_supervisor_role(std::move(spec).value());
}

int check_kvm() {
  const auto report = msb::vmm::check_kvm();
  std::puts(report.json().c_str());
  switch (report.verdict) {
    case msb::vmm::KvmVerdict::kGood:
      return msb::vmm::kExitOk;
    case msb::vmm::KvmVerdict::kAbsent:
      return msb::vmm::kExitKvmAbsent;
    case msb::vmm::KvmVerdict::kForbidden:
      return msb::vmm::kExitKvmForbidden;
    case msb::vmm::KvmVerdict::kInterpreting:
    case msb::vmm::KvmVerdict::kBroken:
      return msb::vmm::kExitKvmUnusable;
  }
  return msb::vmm::kExitKvmUnusable;
}

}  // namespace

int main(int argc, char** argv) {
  msb::log_setup("msb-vmm", msb::LogLevel::kInfo);
  if (argc == 2 && std::strcmp(argv[1], "--check-kvm") == 0) return check_kvm();
  if (argc != 3) return usage();
  const auto fd = parse_fd(argv[2]);
  if (!fd) return usage();
  if (std::strcmp(argv[1], "--spec-fd") == 0) return run_spec(*fd);
  if (std::strcmp(argv[1], "--machine") == 0) return msb::vmm::run_machine_role(*fd);
  return usage();
}
