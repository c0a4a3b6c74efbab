// SPDX-License-Identifier: Apache-2.0
#include "oci/confine_parent.h"

#include <fcntl.h>

#include "base/confine/confine.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "oci/commands.h"

namespace msb::oci {

void confine_parent(const std::string& home, int read_fd, Network network,
                    const std::vector<std::string>& readable_files) {
  confine::Report report;
  confine::set_no_new_privileges(report);
  confine::set_limits({}, report);
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
  if (read_fd >= 0) rules.push_back({read_fd, confine::PathAccess::kRead});
  confine::restrict_paths(
      rules, network == Network::kTcp ? confine::TcpAccess::kAll : confine::TcpAccess::kNone, report);
  confine::drop_capabilities(report);  // root's: the store belongs to whoever runs this
  if (!report.complete()) MSB_INFO("confinement is incomplete: %s", report.missing_text().c_str());
}

}  // namespace msb::oci
