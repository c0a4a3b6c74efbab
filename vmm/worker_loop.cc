// SPDX-License-Identifier: Apache-2.0
#include "vmm/worker_loop.h"

#include <sys/prctl.h>

#include <condition_variable>
#include <mutex>

#include "base/log.h"

namespace msb::vmm {

Result<std::unique_ptr<WorkerLoop>> WorkerLoop::start(const std::string& name,
                                                      const std::function<Status()>& prepare) {
  MSB_ASSIGN(auto loop, EventLoop::create());
  std::unique_ptr<WorkerLoop> worker(new WorkerLoop(std::move(loop)));
  Status prepared;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  EventLoop* const raw = worker->loop_.get();
  worker->thread_ = std::thread([&, raw] {
    ::prctl(PR_SET_NAME, name.c_str(), 0, 0, 0);  // by the thread itself: from outside it would need /proc
    Status status = prepare ? prepare() : Status{};
    const bool ok = status.ok();
    {
      // Everything borrowed from start() is gone once `done` is seen.
      const std::lock_guard lock(mutex);
      prepared = std::move(status);
      done = true;
      changed.notify_all();
    }
    if (!ok) return;
    const Status ran = raw->run();
    if (!ran) MSB_ERROR("a device's thread: %s", ran.error().text.c_str());
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
  MSB_TRY(std::move(prepared));
  return worker;
}

WorkerLoop::~WorkerLoop() {
  loop_->stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace msb::vmm
