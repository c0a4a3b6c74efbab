// SPDX-License-Identifier: Apache-2.0
#include "vmm/vcpu_thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cinttypes>
#include <cstdio>

#include "base/check.h"

namespace msb::vmm {
namespace {

int kick_signal() { return SIGRTMIN; }

void install_kick_handler() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: it is there to interrupt
  ::sigaction(kick_signal(), &action, nullptr);
}

std::string hex(const char* name, std::uint64_t value) {
  char text[64];
  std::snprintf(text, sizeof text, " %s=0x%" PRIx64, name, value);
  return text;
}

}  // namespace

VcpuThread::VcpuThread(kvm::Vcpu vcpu, VcpuBuses buses, VcpuEvents& events, std::function<Status()> prepare)
    : vcpu_(std::move(vcpu)), buses_(buses), events_(events), prepare_(std::move(prepare)) {}

VcpuThread::~VcpuThread() { end(); }

Status VcpuThread::start(std::uint32_t number) {
  install_kick_handler();
  thread_ = std::thread([this, number] {
    char name[16];
    std::snprintf(name, sizeof name, "vcpu%u", number);
    ::prctl(PR_SET_NAME, name, 0, 0, 0);  // by the thread itself: from outside it would need /proc
    main();
  });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return parked_; });
  return prepared_;
}

void VcpuThread::request(Want want) {
  std::unique_lock lock(mutex_);
  if (want_ == Want::kEnd) return;
  want_ = want;
  if (want == Want::kRun) {
    vcpu_.clear_exit_request();
    changed_.notify_all();
    return;
  }
  vcpu_.request_exit();
  changed_.notify_all();
  if (!parked_) ::pthread_kill(thread_.native_handle(), kick_signal());
  changed_.wait(lock, [this] { return parked_; });
}

void VcpuThread::resume() { request(Want::kRun); }

void VcpuThread::pause() { request(Want::kPause); }

void VcpuThread::end() {
  if (!thread_.joinable()) return;
  request(Want::kEnd);
  thread_.join();
}

void VcpuThread::main() {
  prepared_ = prepare_ ? prepare_() : Status{};
  while (true) {
    {
      std::unique_lock lock(mutex_);
      parked_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return want_ != Want::kPause; });
      if (want_ == Want::kEnd) return;  // parked_ stays: whoever waits for it may go on
      parked_ = false;
    }
    while (true) {
      const auto outcome = vcpu_.run();
      if (!outcome) {
        static_cast<void>(report(proto::ExitReason::kVmmError, outcome.error().text));
      } else if (*outcome == kvm::RunOutcome::kExit) {
        if (handle_exit()) continue;
      }
      // Interrupted, or the guest ended: look at what is wanted.
      const std::lock_guard lock(mutex_);
      const bool ended = !outcome || *outcome == kvm::RunOutcome::kExit;
      if (ended && want_ == Want::kRun) want_ = Want::kPause;
      if (want_ != Want::kRun) break;
    }
  }
}

bool VcpuThread::report(proto::ExitReason reason, std::string detail) {
  events_.guest_ended(reason, std::move(detail));
  return false;
}

void VcpuThread::handle_io() {
  const auto& io = vcpu_.exit().io;
  const bool in = io.direction == KVM_EXIT_IO_IN;
  const std::size_t size = io.size;
  const std::uint16_t port = io.port;
  std::span<std::uint8_t> bytes = vcpu_.io_bytes();
  // A string instruction brings several accesses at once, all to one port.
  while (size > 0 && bytes.size() >= size) {
    if (in) {
      static_cast<void>(buses_.ports.read(port, bytes.first(size)));
    } else {
      static_cast<void>(buses_.ports.write(port, bytes.first(size)));
    }
    bytes = bytes.subspan(size);
  }
}

void VcpuThread::handle_mmio() {
  auto& mmio = vcpu_.exit().mmio;
  const std::size_t length = mmio.len;
  if (length == 0 || length > sizeof mmio.data) return;
  if (mmio.is_write != 0) {
    static_cast<void>(buses_.memory.write(mmio.phys_addr, ByteView(mmio.data, length)));
  } else {
    static_cast<void>(buses_.memory.read(mmio.phys_addr, MutableBytes(mmio.data, length)));
  }
}

bool VcpuThread::handle_exit() {
  using proto::ExitReason;
  const kvm_run& run = vcpu_.exit();
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      handle_io();
      return true;
    case KVM_EXIT_MMIO:
      handle_mmio();
      return true;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_IOAPIC_EOI:  // edge-triggered pins need none
    case KVM_EXIT_INTR:
      return true;
    case KVM_EXIT_SHUTDOWN:
      return report(ExitReason::kTripleFault, "the guest's CPU shut down (triple fault)");
    case KVM_EXIT_SYSTEM_EVENT:
      switch (run.system_event.type) {
        case KVM_SYSTEM_EVENT_SHUTDOWN:
          return report(ExitReason::kPoweroff, "the guest powered off");
        case KVM_SYSTEM_EVENT_RESET:
          return report(ExitReason::kReboot, "the guest asked for a reset");
        case KVM_SYSTEM_EVENT_CRASH:
          return report(ExitReason::kGuestPanic, "the guest reported a crash");
        default:
          return report(ExitReason::kVmmError, "unknown system event" + hex("type", run.system_event.type));
      }
    case KVM_EXIT_INTERNAL_ERROR: {
      std::string detail = "KVM could not run the guest's code:" + hex("suberror", run.internal.suberror);
      const auto regs = vcpu_.regs();
      if (regs) detail += hex("rip", regs->rip);
      return report(ExitReason::kVmmError, detail);
    }
    case KVM_EXIT_FAIL_ENTRY:
      return report(ExitReason::kVmmError, "the CPU refused to enter the guest:" +
                                               hex("reason", run.fail_entry.hardware_entry_failure_reason));
    default:
      return report(ExitReason::kVmmError,
                    "unexpected exit from the guest:" + hex("reason", run.exit_reason));
  }
}

}  // namespace msb::vmm
