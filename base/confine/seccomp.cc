// SPDX-License-Identifier: Apache-2.0
#include "base/confine/seccomp.h"

#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "base/unique_fd.h"

namespace msb::confine {
namespace {
constexpr std::size_t kMaxProgramBytes = BPF_MAXINSNS * sizeof(sock_filter);
}

Result<SeccompProgram> SeccompProgram::compile(const std::vector<AllowedCall>& allowed) {
  const std::unique_ptr<void, decltype(&::seccomp_release)> context(::seccomp_init(SCMP_ACT_KILL_PROCESS),
                                                                    &::seccomp_release);
  if (!context) return make_error(Errc::kInternal, "seccomp: no context");
  for (const AllowedCall& call : allowed) {
    std::vector<scmp_arg_cmp> checks;
    for (const ArgumentCheck& check : call.checks) {
      checks.push_back({check.index, SCMP_CMP_MASKED_EQ, check.mask, check.value});
    }
    const std::uint32_t action =
        call.refusal == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(static_cast<std::uint32_t>(call.refusal));
    const int result = ::seccomp_rule_add_array(context.get(), action, call.number,
                                                static_cast<unsigned>(checks.size()), checks.data());
    if (result != 0) return sys_error("seccomp: system call " + std::to_string(call.number), -result);
  }
  const UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) return sys_error("seccomp: memfd_create");
  if (const int result = ::seccomp_export_bpf(context.get(), file.get()); result != 0) {
    return sys_error("seccomp: compile", -result);
  }
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return sys_error("seccomp: lseek");
  MSB_ASSIGN(const std::string bytes, read_all(file.get(), kMaxProgramBytes));
  SeccompProgram program;
  program.code_.resize(bytes.size() / sizeof(sock_filter));
  std::memcpy(program.code_.data(), bytes.data(), program.code_.size() * sizeof(sock_filter));
  return program;
}

Status SeccompProgram::install() const {
  sock_fprog program{};
  program.len = static_cast<unsigned short>(code_.size());
  program.filter = const_cast<sock_filter*>(code_.data());  // the kernel only reads
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0U, &program) != 0)
    return sys_error("install a seccomp filter");
  return {};
}

}  // namespace msb::confine
