// SPDX-License-Identifier: Apache-2.0
// VcpuThread: runs one vCPU and hands what the guest does to the buses.
//
// Theory of operation. States: paused -> running -> paused ... -> ended. The thread starts paused, so that it
// can prepare itself (its seccomp filter) and be told to run when everything else stands. pause() and end()
// set what is wanted, make KVM_RUN return (immediate_exit for the next entry, a signal for the current one)
// and wait. A guest that ends the machine makes its thread report once and pause itself; others run on until
// paused. The signal's handler does nothing; it exists so that the signal interrupts.
//
// Threads: all public methods from the machine's thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "devices/bus.h"
#include "proto/exit_reason.h"
#include "vmm/kvm/vcpu.h"

namespace msb::vmm {

// Called on a vCPU's thread.
class VcpuEvents {
 public:
  virtual ~VcpuEvents() = default;
  // The guest cannot go on. `detail` says more for people.
  virtual void guest_ended(proto::ExitReason reason, std::string detail) = 0;
};

struct VcpuBuses {
  const devices::Bus& ports;
  const devices::Bus& memory;
};

class VcpuThread {
 public:
  // Everything is borrowed and must outlive this object. `prepare` runs first on the new thread.
  VcpuThread(kvm::Vcpu vcpu, VcpuBuses buses, VcpuEvents& events, std::function<Status()> prepare);
  ~VcpuThread();  // ends the thread
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;

  // Starts the thread and waits until it is prepared and paused; the error of `prepare`, if any.
  [[nodiscard]] Status start(std::uint32_t number);
  void resume();
  // Returns once the vCPU is out of the guest and its state is complete (pending I/O finished).
  void pause();
  void end();
  // Only while paused or before start().
  [[nodiscard]] kvm::Vcpu& vcpu() { return vcpu_; }

 private:
  enum class Want : std::uint8_t { kPause, kRun, kEnd };
  void main();
  void request(Want want);
  // False when the guest cannot go on.
  [[nodiscard]] bool handle_exit();
  void handle_io();
  void handle_mmio();
  [[nodiscard]] bool report(proto::ExitReason reason, std::string detail);

  kvm::Vcpu vcpu_;
  VcpuBuses buses_;
  VcpuEvents& events_;
  std::function<Status()> prepare_;
  Status prepared_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Want want_ = Want::kPause;  // guarded by mutex_
  bool parked_ = false;       // guarded by mutex_: the thread is out of the guest and waits
  std::thread thread_;        // last: joined before what it uses goes
};

}  // namespace msb::vmm
