// SPDX-License-Identifier: Apache-2.0
// One line on a terminal's standard error that says what takes its time. Nothing is shown in the first
// second, nor where standard error is no terminal; print() and note() wipe it before they write.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace msb::cli {

class Spinner {
 public:
  // `text` as in "stop web". One at a time; on the thread that waits, which may print meanwhile.
  explicit Spinner(const std::string& text, bool wanted = true);
  Spinner(const Spinner&) = delete;
  Spinner& operator=(const Spinner&) = delete;
  ~Spinner();

 private:
  void turn();

  std::string text_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::thread thread_;  // only on a terminal
};

// Takes the line away until it next turns. Any thread.
void wipe_spinner();

}  // namespace msb::cli
