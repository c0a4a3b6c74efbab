// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/workers.h"

#include <utility>

namespace msb::agent {
namespace {
constexpr std::size_t kKeepIdle = 2;
// Room for one path-walking operation; pages are only used when touched.
constexpr std::size_t kStackBytes = std::size_t{256} << 10;
}  // namespace

Workers::~Workers() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
  gone_.wait(lock, [&] { return threads_ == 0; });
}

bool Workers::submit(Task task) {
  const std::lock_guard lock(mutex_);
  if (queue_.size() < idle_) {
    queue_.push_back(std::move(task));
    wake_.notify_one();
    return true;
  }
  if (threads_ >= max_threads_) return false;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // The new thread counts as idle from the start, so that it finds this task.
  queue_.push_back(std::move(task));
  ++threads_;
  ++idle_;
  pthread_t thread{};
  const int error = pthread_create(&thread, &attributes, &Workers::thread_main, this);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    queue_.pop_back();
    --threads_;
    --idle_;
    return false;
  }
  return true;
}

void* Workers::thread_main(void* self) {
  static_cast<Workers*>(self)->run();
  return nullptr;
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return !queue_.empty() || stopping_; });
    if (queue_.empty()) break;
    const Task task = std::move(queue_.back());
    queue_.pop_back();
    --idle_;
    lock.unlock();
    task();
    lock.lock();
    if (idle_ >= kKeepIdle) {
      --threads_;
      gone_.notify_all();
      return;
    }
    ++idle_;
  }
  --idle_;
  --threads_;
  gone_.notify_all();
}

}  // namespace msb::agent
