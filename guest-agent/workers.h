// SPDX-License-Identifier: Apache-2.0
// Threads for whatever may block: starting programs, file operations. The event loop never touches a file of
// the guest's, because a hung FUSE mount or a slow disk would then stop every client.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <vector>

namespace msb::agent {

// Threads start on demand and stay while few are idle. All public calls from any thread.
class Workers {
 public:
  using Task = std::function<void()>;
  explicit Workers(std::size_t max_threads) : max_threads_(max_threads) {}
  // Waits for every task: only for tests, the agent never ends.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs `task` on a thread at once. False if `max_threads` are busy or no thread can be made: the task is
  // not run.
  [[nodiscard]] bool submit(Task task);

 private:
  static void* thread_main(void* self);
  void run();

  const std::size_t max_threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable gone_;
  std::vector<Task> queue_;  // guarded by mutex_; never longer than idle_
  std::size_t threads_ = 0;  // guarded by mutex_
  std::size_t idle_ = 0;     // guarded by mutex_
  bool stopping_ = false;    // guarded by mutex_
};

}  // namespace msb::agent
