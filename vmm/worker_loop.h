// SPDX-License-Identifier: Apache-2.0
// WorkerLoop: an event loop on a thread of its own, for devices whose work blocks (disks).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/event_loop.h"
#include "base/result.h"

namespace msb::vmm {

class WorkerLoop {
 public:
  // `prepare` runs first on the new thread; the call waits for it and returns its error. `name`: at most 15
  // bytes.
  [[nodiscard]] static Result<std::unique_ptr<WorkerLoop>> start(const std::string& name,
                                                                 const std::function<Status()>& prepare);
  ~WorkerLoop();  // stops the loop and joins
  WorkerLoop(const WorkerLoop&) = delete;
  WorkerLoop& operator=(const WorkerLoop&) = delete;
  [[nodiscard]] EventLoop& loop() { return *loop_; }

 private:
  explicit WorkerLoop(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {}
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;  // last: joined before the loop goes
};

}  // namespace msb::vmm
