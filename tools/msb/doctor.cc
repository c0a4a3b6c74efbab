// SPDX-License-Identifier: Apache-2.0
// msb doctor: can this host run sandboxes, how fast, and what to do where it cannot.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/file.h"
#include "base/json.h"
#include "base/socket.h"
#include "base/subprocess.h"
#include "supervisor/quantities.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum DoctorOption : int { kFormat = kFirstVerbOption };
constexpr std::array<Option, 1> kOptions = {{{kFormat, "format", 0, "FORMAT", "table or json"}}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

enum class Verdict : std::uint8_t { kGood, kAdvice, kBad };
struct Check {
  std::string name;
  Verdict verdict = Verdict::kGood;
  std::string found;
  std::string fix;  // a command or a sentence; empty when good
};

Check check_kvm_device() {
  Check check{"kvm", Verdict::kGood, "/dev/kvm can be opened", {}};
  const int fd = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    ::close(fd);
    return check;
  }
  check.verdict = Verdict::kBad;
  if (errno == EACCES || errno == EPERM) {
    check.found = "/dev/kvm is there, but this user may not open it";
    check.fix = "sudo usermod -aG kvm $USER, then log in again";
  } else if (errno == ENOENT) {
    const auto cpu = read_file("/proc/cpuinfo", std::size_t{4} << 20);
    const bool intel = cpu.ok() && cpu->find(" vmx") != std::string::npos;
    const bool amd = cpu.ok() && cpu->find(" svm") != std::string::npos;
    check.found = "there is no /dev/kvm";
    if (intel || amd) {
      check.fix = std::string("sudo modprobe ") + (intel ? "kvm_intel" : "kvm_amd");
    } else {
      check.fix =
          "the CPU shows neither vmx nor svm: switch virtualisation on in the firmware, or, inside a virtual "
          "machine, "
          "nested virtualisation on its host";
    }
  } else {
    check.found = sys_error("open /dev/kvm").text;
    check.fix = "see the kernel's log (dmesg | grep kvm)";
  }
  return check;
}

// Boots a tiny guest through msb-vmm, which knows what a host must be able to do, and times it.
Check check_boot(const supervisor::Installation& installation) {
  Check check{"boot", Verdict::kGood, {}, {}};
  const auto failed = [&](std::string found) {
    check.verdict = Verdict::kBad;
    check.found = std::move(found);
    if (check.fix.empty())
      check.fix = "this host's KVM cannot run guests; on nested virtualisation, try another kind of host";
    return check;
  };
  auto pipe = socket_pair(SOCK_STREAM);
  if (!pipe.ok()) return failed(pipe.error().text);
  const SteadyClock clock;
  const Instant start = clock.now();
  SpawnOptions options;
  options.path = installation.libexec + "/msb-vmm";
  options.argv = {"msb-vmm", "--check-kvm"};
  options.fds = {{pipe->second.get(), STDOUT_FILENO}, {pipe->second.get(), STDERR_FILENO}};
  auto child = spawn(options);
  if (!child.ok()) return failed(child.error().text);
  pipe->second.reset();
  auto said = read_all(pipe->first.get(), 65536);
  auto status = child->wait(std::chrono::seconds(60));
  if (!status.ok()) {
    (void)child->send_signal(9).ok();
    (void)child->wait().ok();
    return failed("the test guest did not end within a minute");
  }
  const auto micros = (clock.now() - start).count() / 1000;
  std::string text = said.ok() ? *said : std::string{};
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (!status->success()) {
    if (auto document = JsonDocument::parse(text); document.ok()) {
      // "what is wrong; what to do", as every error of msb-vmm.
      if (const auto detail = document->root().get_string("detail"); detail.ok()) {
        const std::size_t end = detail->find("; ");
        text = detail->substr(0, end);
        if (end != std::string::npos) check.fix = detail->substr(end + 2);
      }
    }
    return failed(text.empty() ? "the test guest did not run" : text);
  }
  check.found = "a test guest ran in " + std::to_string(micros / 1000) + "." +
                std::to_string(micros % 1000 / 100) + " ms";
  return check;
}

Check check_user_namespaces() {
  Check check{"user namespaces", Verdict::kGood, "can be made", {}};
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(::syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */) == 0 ? 0 : 1);
  int status = 0;
  while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return check;
  check.verdict = Verdict::kAdvice;
  check.found = "cannot be made here: one layer of the machine's confinement is missing";
  check.fix =
      "sudo sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 "
      "user.max_user_namespaces=15000 (those that exist)";
  return check;
}

Check check_landlock() {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, 1U);
  if (version > 0) return {"landlock", Verdict::kGood, "version " + std::to_string(version), {}};
  return {"landlock", Verdict::kAdvice, "not there: one layer of confinement is missing",
          "boot a kernel from 5.13 on with landlock in lsm="};
}

Check check_seccomp() {
  const auto text = read_file("/proc/sys/kernel/seccomp/actions_avail", 4096);
  if (text.ok() && text->find("kill_process") != std::string::npos)
    return {"seccomp", Verdict::kGood, "filters work", {}};
  return {"seccomp", Verdict::kBad, "the kernel has no seccomp filters",
          "boot a kernel with CONFIG_SECCOMP_FILTER"};
}

Check check_files(const supervisor::Installation& installation) {
  Check check{"installation", Verdict::kGood, parent_path(parent_path(installation.libexec)), {}};
  for (const std::string& path : {installation.libexec + "/msb-vmm", installation.libexec + "/msb-net",
                                  installation.libexec + "/msb-image", installation.libexec + "/msb-registry",
                                  installation.data + "/vmlinux", installation.data + "/agent.cpio"}) {
    if (::access(path.c_str(), R_OK) == 0) continue;
    check.verdict = Verdict::kBad;
    check.found = path + " is missing";
    check.fix = "install msb again";
    return check;
  }
  return check;
}

Check check_disk(const supervisor::Home& home) {
  struct statvfs info {};
  if (::statvfs(home.path().c_str(), &info) != 0)
    return {"disk", Verdict::kBad, sys_error("look at " + home.path()).text, "set MSB_HOME"};
  const std::uint64_t free_mib = info.f_bavail * info.f_frsize >> 20;
  Check check{"disk", Verdict::kGood, supervisor::format_size_mib(free_mib) + " free in " + home.path(), {}};
  if (free_mib < 2048) {
    check.verdict = Verdict::kAdvice;
    check.fix = "msb image prune, or set MSB_HOME to a larger disk";
  }
  return check;
}

Check check_reflink(const supervisor::Home& home) {
  Check check{"copies", Verdict::kGood, "by reference (reflink)", {}};
  MSB_CHECK(!home.path().empty());
  const int source = ::open(home.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  const int target = ::open(home.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  const bool cloned =
      source >= 0 && target >= 0 && ::write(source, "x", 1) == 1 && ::ioctl(target, FICLONE, source) == 0;
  if (source >= 0) ::close(source);
  if (target >= 0) ::close(target);
  if (!cloned) check.found = "sparse copies; a filesystem with reflinks (XFS, btrfs) would make them free";
  return check;
}

Result<int> doctor(const Parsed& args) {
  MSB_TRY(no_more_than(args, 0));
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat)));
  std::vector<Check> checks;
  utsname host{};
  ::uname(&host);
  checks.push_back({"host",
                    Verdict::kGood,
                    std::string(&host.sysname[0]) + " " + &host.release[0] + " " + &host.machine[0],
                    {}});
  checks.push_back(check_kvm_device());
  const bool device = checks.back().verdict == Verdict::kGood;
  const auto installation = supervisor::Installation::found();
  if (!installation.ok()) {
    checks.push_back(
        {"installation", Verdict::kBad, installation.error().text, "install msb again, or set MSB_PREFIX"});
  } else {
    checks.push_back(check_files(*installation));
    if (device) checks.push_back(check_boot(*installation));
  }
  checks.push_back(check_seccomp());
  checks.push_back(check_user_namespaces());
  checks.push_back(check_landlock());
  const auto home = supervisor::Home::open();
  if (!home.ok()) {
    checks.push_back(
        {"state directory", Verdict::kBad, home.error().text, "set MSB_HOME to a directory you own"});
  } else {
    checks.push_back(check_disk(*home));
    checks.push_back(check_reflink(*home));
  }
  bool healthy = true;
  for (const Check& check : checks) healthy = healthy && check.verdict != Verdict::kBad;

  if (format == Format::kJson) {
    JsonWriter out(JsonWriter::Style::kPretty);
    out.begin_object().field("healthy", healthy).field("version", MSB_VERSION).key("checks").begin_array();
    for (const Check& check : checks) {
      const char* verdict = check.verdict == Verdict::kGood     ? "good"
                            : check.verdict == Verdict::kAdvice ? "advice"
                                                                : "bad";
      out.begin_object().field("name", check.name).field("verdict", verdict).field("found", check.found);
      if (!check.fix.empty()) out.field("fix", check.fix);
      out.end_object();
    }
    out.end_array().end_object();
    print(std::move(out).take());
    return healthy ? kExitOk : kExitFailure;
  }
  const bool color = color_wanted(STDOUT_FILENO);
  std::string text;
  for (const Check& check : checks) {
    const std::string_view mark = check.verdict == Verdict::kGood     ? "✓"
                                  : check.verdict == Verdict::kAdvice ? "!"
                                                                      : "✗";
    const std::string_view paint = check.verdict == Verdict::kGood     ? "\033[32m"
                                   : check.verdict == Verdict::kAdvice ? "\033[33m"
                                                                       : "\033[31m";
    if (color) text += paint;
    text += mark;
    if (color) text += "\033[0m";
    text += " " + check.name + ": " + printable(check.found) + "\n";
    if (!check.fix.empty()) text += "    → " + check.fix + "\n";
  }
  text += healthy ? "This host can run sandboxes.\n" : "This host cannot run sandboxes yet.\n";
  print(text);
  return healthy ? kExitOk : kExitFailure;
}

}  // namespace

const Verb kDoctorVerb = {"doctor",
                          "",
                          Group::kOther,
                          "Check that this host can run sandboxes, by running one",
                          "[--format json]",
                          "Exit code 0: it can; 1: it cannot, and what to do is said.",
                          kTables,
                          Words::kOptionsAnywhere,
                          kExitFailure,
                          doctor,
                          ""};

}  // namespace msb::cli
