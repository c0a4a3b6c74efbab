// SPDX-License-Identifier: Apache-2.0
// The lab's first second. See boot.h.
//
// The initramfs holds this program as /init, the modules needed to mount the root in /early and those for KVM
// in /late, both to be loaded in the order of their names. A child loads the late ones while the root is
// mounted.

#include "boot.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace msb::lab {
namespace {

constexpr const char* kOverlayMount = "/run/lab/root";  // the root without what is mounted on it
constexpr const char* kCgroups = "/sys/fs/cgroup";

struct Mount {
  const char* source;
  const char* target;  // below the new root
  const char* type;
  unsigned long flags;
  const char* options;
};

constexpr Mount kMounts[] = {
    {"dev", "dev", "devtmpfs", 0, "mode=755"},
    {"proc", "proc", "proc", 0, ""},
    {"sys", "sys", "sysfs", 0, ""},
    {"run", "run", "tmpfs", 0, "mode=755"},
    {"tmp", "tmp", "tmpfs", 0, "mode=1777,size=80%"},
    {"devpts", "dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666"},
    {"shm", "dev/shm", "tmpfs", 0, "mode=1777"},
    {"cgroup2", "sys/fs/cgroup", "cgroup2", 0, ""},
    {"bpf", "sys/fs/bpf", "bpf", 0, ""},
    {"security", "sys/kernel/security", "securityfs", 0, ""},
    {"debug", "sys/kernel/debug", "debugfs", 0, ""},
    {"trace", "sys/kernel/tracing", "tracefs", 0, ""},
};

void must_mount(const Mount& what) {
  if (mount(what.source, what.target, what.type, what.flags, what.options) != 0)
    die(std::string("mount ") + what.type + " on " + what.target);
}

std::string read_file(const std::string& path) {
  std::string text;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<std::size_t>(got));
  close(fd);
  return text;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::size_t position = 0;
  while ((position = text.find_first_not_of(" \n\t", position)) != std::string::npos) {
    const std::size_t end = std::min(text.find_first_of(" \n\t", position), text.size());
    words.push_back(text.substr(position, end - position));
    position = end;
  }
  return words;
}

void load_modules(const std::string& directory) {
  std::vector<std::string> names;
  DIR* list = opendir(directory.c_str());
  if (list == nullptr) die("open " + directory);
  while (const dirent* entry = readdir(list))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  closedir(list);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const int fd = open((directory + "/" + name).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) die("open module " + name);
    if (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST) die("load module " + name);
    close(fd);
  }
}

// The host's tree (9p), a tmpfs for what is written, and both as one at /root.
void mount_root() {
  must_mount({"hostroot", "/host", "9p", MS_RDONLY | MS_NOATIME,
              "trans=virtio,version=9p2000.L,msize=512000,cache=loose"});
  must_mount({"upper", "/upper", "tmpfs", 0, "mode=755,size=80%"});
  mkdir("/upper/data", 0755);
  mkdir("/upper/work", 0755);
  must_mount({"overlay", "/root", "overlay", 0, "lowerdir=/host,upperdir=/upper/data,workdir=/upper/work"});
  if (chdir("/root") != 0) die("enter the root");
  for (const Mount& each : kMounts) {
    mkdir(each.target, 0755);
    must_mount(each);
  }
  mkdir("run/lab", 0755);
  mkdir("run/lab/host", 0755);
  mkdir("run/lab/root", 0755);
  mkdir("run/lock", 01777);
  if (mount("/host", "run/lab/host", nullptr, MS_MOVE, nullptr) != 0) die("move the host's tree");
  if (mount(".", "run/lab/root", nullptr, MS_BIND, nullptr) != 0) die("bind the root");
  if (mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0 || chdir("/") != 0)
    die("change the root");
}

void set_loopback_up() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request = {};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0) die("set the loopback interface up");
  close(fd);
}

// Makes the nodes whose opening loads a module, from depmod's table of lines "module name c10:237".
void make_device_nodes(const std::string& table) {
  const std::vector<std::string> words = words_of(table);
  for (std::size_t i = 2; i < words.size(); ++i) {
    char type = 0;
    unsigned major = 0;
    unsigned minor = 0;
    if (std::sscanf(words[i].c_str(), "%c%u:%u", &type, &major, &minor) != 3 || (type != 'c' && type != 'b'))
      continue;
    const std::string path = "/dev/" + words[i - 1];
    make_directories(path.substr(0, path.rfind('/')));
    mknod(path.c_str(), (type == 'c' ? S_IFCHR : S_IFBLK) | 0600, makedev(major, minor));
  }
}

// Puts the kernel's own modules where modprobe looks; kernel.py gives their directory on the host in
// hexadecimal.
void offer_modules() {
  constexpr const char* kWord = "lab.modules=";
  std::string directory;
  for (const std::string& word : words_of(read_file("/proc/cmdline"))) {
    if (word.rfind(kWord, 0) != 0) continue;
    for (std::size_t i = std::strlen(kWord); i + 1 < word.size(); i += 2)
      directory += static_cast<char>(std::stoi(word.substr(i, 2), nullptr, 16));
  }
  utsname names = {};
  uname(&names);
  const std::string source = std::string(kOverlayMount) + directory + "/lib/modules/" + names.release;
  const std::string target = std::string("/lib/modules/") + names.release;
  make_directories(target);
  if (mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0) die("bind the kernel's modules");
  make_device_nodes(read_file(target + "/modules.devname"));
}

void enable_controllers() {
  for (const std::string& name : words_of(read_file(std::string(kCgroups) + "/cgroup.controllers")))
    write_file(std::string(kCgroups) + "/cgroup.subtree_control", "+" + name);
}

}  // namespace

void die(const std::string& what) {
  std::fprintf(stderr, "lab: %s: %s\n", what.c_str(), std::strerror(errno));
  std::fflush(stderr);
  _exit(1);
}

bool write_file(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int saved = errno;
  close(fd);
  errno = saved;
  return done;
}

void make_directories(const std::string& path) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1))
    mkdir(path.substr(0, slash).c_str(), 0755);
  mkdir(path.c_str(), 0755);
}

void reveal(const std::string& path) {
  const std::string source = kOverlayMount + path;
  if (access(path.c_str(), F_OK) == 0 || access(source.c_str(), F_OK) != 0) return;
  make_directories(path);
  if (mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
    std::fprintf(stderr, "lab: cannot show %s: %s\n", path.c_str(), std::strerror(errno));
}

// An overlay copies what changes: so each link and the file get a change that is none.
void hold_in_memory(const std::string& path) {
  constexpr int kMaxLinks = 40;
  std::string rest = path;
  std::string done;
  for (int links = 0; links <= kMaxLinks && !rest.empty();) {
    const std::size_t start = rest.find_first_not_of('/');
    if (start == std::string::npos) return;
    const std::size_t end = std::min(rest.find('/', start), rest.size());
    const std::string next = done + "/" + rest.substr(start, end - start);
    rest.erase(0, end);
    struct stat info = {};
    if (lstat(next.c_str(), &info) != 0) return;
    if (S_ISLNK(info.st_mode)) {
      char target[4096];
      const ssize_t length = readlink(next.c_str(), target, sizeof target);
      if (length <= 0 || lchown(next.c_str(), info.st_uid, info.st_gid) != 0) return;
      const std::string name(target, static_cast<std::size_t>(length));
      rest = name + rest;
      if (name[0] == '/') done.clear();
      ++links;
    } else {
      done = next;
      if (S_ISREG(info.st_mode)) chmod(done.c_str(), info.st_mode & 07777);
    }
  }
}

bool mount_out(const std::string& path) {
  static bool mounted = false;
  if (mounted) return true;
  make_directories(path);
  mounted = mount("out", path.c_str(), "9p", 0, "trans=virtio,version=9p2000.L,msize=512000,cache=mmap") == 0;
  return mounted;
}

// The kernel rewrites instructions of its own while it runs ("static keys"). Under QEMU's one thread per CPU
// another CPU may be executing one of them just then, and the kernel dies of an instruction cut in half. The
// next two functions bring about, while nothing else runs, what would otherwise happen in the middle of a
// test.

// KVM's keys follow how many there are: machines; virtual CPUs whose local APIC is off, by software or
// altogether; virtual CPUs without one. With one of each, which never runs and never goes, nothing changes
// any more.
void hold_kvm_keys() {
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  const int machine = ioctl(kvm, KVM_CREATE_VM, 0);
  kvm_enable_cap split = {};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = 24;
  bool held = machine >= 0 && ioctl(machine, KVM_ENABLE_CAP, &split) == 0 &&
              ioctl(machine, KVM_CREATE_VCPU, 0) >= 0;  // off by software is how it starts
  const int off = ioctl(machine, KVM_CREATE_VCPU, 1);
  kvm_sregs registers = {};
  held = held && ioctl(off, KVM_GET_SREGS, &registers) == 0;
  registers.apic_base &= ~(std::uint64_t{1} << 11);
  held = held && ioctl(off, KVM_SET_SREGS, &registers) == 0;
  const int bare = ioctl(kvm, KVM_CREATE_VM, 0);
  held = held && bare >= 0 && ioctl(bare, KVM_CREATE_VCPU, 0) >= 0;
  if (!held) std::fprintf(stderr, "lab: KVM: %s\n", std::strerror(errno));
}

// The first TCP connection of each family draws a secret, and rewrites the place that asks whether it is
// drawn.
void make_first_connections() {
  for (const sa_family_t family : {AF_INET, AF_INET6}) {
    sockaddr_storage address = {};
    address.ss_family = family;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (family == AF_INET) reinterpret_cast<sockaddr_in*>(&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (family == AF_INET6) reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr = in6addr_loopback;
    socklen_t length = sizeof address;
    const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = bind(listener, any, length) == 0 && listen(listener, 1) == 0 &&
                           getsockname(listener, any, &length) == 0 && connect(client, any, length) == 0;
    if (!connected) std::fprintf(stderr, "lab: no connection to itself: %s\n", std::strerror(errno));
    close(client);
    close(listener);
  }
  usleep(50'000);  // the rewriting is done by a worker
}

void boot() {
  load_modules("/early");
  const pid_t loader = fork();
  if (loader < 0) die("fork");
  if (loader == 0) {
    load_modules("/late");
    _exit(0);
  }
  mount_root();
  symlink("/proc/self/fd", "/dev/fd");
  symlink("/proc/self/fd/0", "/dev/stdin");
  symlink("/proc/self/fd/1", "/dev/stdout");
  symlink("/proc/self/fd/2", "/dev/stderr");
  for (const char* link : {"/bin/.", "/lib/.", "/lib64/.", "/sbin/."}) hold_in_memory(link);
  sethostname("lab", 3);
  set_loopback_up();
  offer_modules();
  enable_controllers();
  const rlimit files = {1024, 1 << 20};
  setrlimit(RLIMIT_NOFILE, &files);
  int status = 0;
  if (waitpid(loader, &status, 0) != loader || status != 0) {
    errno = ENODEV;
    die("load KVM");
  }
  // Whoever is allowed on an ordinary workstation is allowed here.
  for (const char* device : {"/dev/kvm", "/dev/fuse", "/dev/vhost-vsock", "/dev/vhost-net", "/dev/net/tun"})
    if (chmod(device, 0666) != 0) std::fprintf(stderr, "lab: no %s\n", device);
  hold_kvm_keys();
  make_first_connections();
}

}  // namespace msb::lab
