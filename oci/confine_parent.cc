// SPDX-License-Identifier: Apache-2.0
#include "oci/confine_parent.h"

#include <fcntl.h>
#include <linux/capability.h>

#include "base/confine/confine.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "oci/commands.h"
#include "oci/image_calls.h"

namespace msb::oci {
namespace {

constexpr rlim_t kMaxOpenFiles = 4096;

// Of root's capabilities: to read what belongs to others, and to replace it.
std::uint32_t kept_capabilities(const Besides& besides) {
  std::uint32_t kept = 0;
  if (besides.as_root) kept |= 1U << CAP_DAC_READ_SEARCH;
  if (besides.writable_fd >= 0) kept |= 1U << CAP_DAC_OVERRIDE | 1U << CAP_FOWNER;
  return kept;
}

}  // namespace

void confine_parent(const std::string& home, Job job, const Besides& besides) {
  confine::Report report;
  confine::set_no_new_privileges(report);
  // A directory is walked with a descriptor for each level.
  confine::set_limits(besides.readable_fd >= 0
                          ? std::vector<std::pair<int, rlim_t>>{{RLIMIT_NOFILE, kMaxOpenFiles}}
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
  if (job != Job::kSave) {  // the unpacker's program and its libraries
    if (const auto program = unpacker_path()) allow(*program, confine::PathAccess::kReadExecute);
    for (const char* path : {"/usr", "/lib", "/lib64", "/etc/ld.so.cache"})
      allow(path, confine::PathAccess::kReadExecute);
    allow("/dev/null", confine::PathAccess::kReadWrite);
  }
  if (job == Job::kPull) {
    for (const char* path : {"/etc", "/run/systemd/resolve", "/var/lib/ca-certificates", "/dev/urandom"})
      allow(path, confine::PathAccess::kRead);
    for (const std::string& path : besides.readable_files) allow(path, confine::PathAccess::kRead);
  }
  if (besides.readable_fd >= 0) rules.push_back({besides.readable_fd, confine::PathAccess::kRead});
  if (besides.writable_fd >= 0) rules.push_back({besides.writable_fd, confine::PathAccess::kAll});
  confine::restrict_paths(rules, job == Job::kPull ? confine::TcpAccess::kAll : confine::TcpAccess::kNone,
                          report);
  confine::drop_capabilities(report, kept_capabilities(besides));  // the store belongs to whoever runs this
  if (job != Job::kPull) {
    confine::forbid_dumps(report);
    report.add(confine::Layer::kSeccomp, job == Job::kSave ? restrict_save_calls() : restrict_load_calls());
  }
  if (!report.complete()) MSB_INFO("confinement is incomplete: %s", report.missing_text().c_str());
}

}  // namespace msb::oci
