// SPDX-License-Identifier: Apache-2.0
#include "oci/confine_parent.h"

#include <fcntl.h>
#include <linux/capability.h>

#include "base/confine/confine.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "oci/commands.h"

namespace msb::oci {
namespace {
constexpr rlim_t kMaxOpenFiles = 4096;
constexpr std::uint32_t kReadAll = 1U << CAP_DAC_READ_SEARCH | 1U << CAP_SYS_ADMIN;
}  // namespace

void confine_parent(const std::string& home, ReadableDirectory directory, Network network,
                    const std::vector<std::string>& readable_files) {
  confine::Report report;
  confine::set_no_new_privileges(report);
  // A directory is walked with a descriptor for each level.
  confine::set_limits(directory.fd >= 0 ? std::vector<std::pair<int, rlim_t>>{{RLIMIT_NOFILE, kMaxOpenFiles}}
                                        : std::vector<std::pair<int, rlim_t>>{},
                      report);
  std::vector<UniqueFd> opened;
  std::vector<confine::PathRule> rules;
  const auto allow = [&](const std::string& path, confine::PathAccess access) {
    auto fd = open_file(path, O_PATH);
    if (!fd) return;  // what is not there needs no rule
    rules.push_back({fd->get(), access});
    opened.push_back(std::move(fd).value());
  };
  allow(home + "/images", confine::PathAccess::kAll);
  // The unpacker's program and its libraries.
  if (const auto program = unpacker_path()) allow(*program, confine::PathAccess::kReadExecute);
  for (const char* path : {"/usr", "/lib", "/lib64", "/etc/ld.so.cache"})
    allow(path, confine::PathAccess::kReadExecute);
  allow("/dev/null", confine::PathAccess::kReadWrite);
  if (network == Network::kTcp) {
    for (const char* path : {"/etc", "/run/systemd/resolve", "/var/lib/ca-certificates", "/dev/urandom"})
      allow(path, confine::PathAccess::kRead);
    for (const std::string& path : readable_files) allow(path, confine::PathAccess::kRead);
  }
  if (directory.fd >= 0) rules.push_back({directory.fd, confine::PathAccess::kRead});
  confine::restrict_paths(
      rules, network == Network::kTcp ? confine::TcpAccess::kAll : confine::TcpAccess::kNone, report);
  // Root's: the store belongs to whoever runs this.
  confine::drop_capabilities(report, directory.as_root ? kReadAll : 0);
  if (!report.complete()) MSB_INFO("confinement is incomplete: %s", report.missing_text().c_str());
}

}  // namespace msb::oci
