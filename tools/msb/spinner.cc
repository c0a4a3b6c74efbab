// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/spinner.h"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <string_view>

#include "tools/msb/cli.h"

namespace msb::cli {
namespace {

constexpr auto kBeforeFirst = std::chrono::seconds(1);
constexpr auto kBetween = std::chrono::milliseconds(120);
constexpr std::array<std::string_view, 4> kFrames = {"|", "/", "-", "\\"};

std::mutex line_mutex;    // the terminal's last line
bool line_drawn = false;  // guarded by it

// A terminal that takes none of it loses nothing.
void put(std::string_view text) { (void)!::write(STDERR_FILENO, text.data(), text.size()); }

}  // namespace

void wipe_spinner() {
  const std::lock_guard<std::mutex> guard(line_mutex);
  if (line_drawn) put("\r\033[K");
  line_drawn = false;
}

Spinner::Spinner(const std::string& text, bool wanted) : text_(printable(text)) {
  if (!wanted || ::isatty(STDERR_FILENO) != 1) return;
  // Signals are the business of the other threads.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { turn(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Spinner::~Spinner() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    over_ = true;
  }
  ended_.notify_one();
  thread_.join();
  wipe_spinner();
}

void Spinner::turn() {
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  if (ended_.wait_for(lock, kBeforeFirst, [this] { return over_; })) return;
  for (std::size_t frame = 0;; ++frame) {
    const auto passed =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start).count();
    {
      const std::lock_guard<std::mutex> guard(line_mutex);
      put("\r" + std::string(kFrames[frame % kFrames.size()]) + " " + text_ + " (" + std::to_string(passed) +
          " s)\033[K");
      line_drawn = true;
    }
    if (ended_.wait_for(lock, kBetween, [this] { return over_; })) return;
  }
}

}  // namespace msb::cli
