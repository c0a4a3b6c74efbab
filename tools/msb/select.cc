// SPDX-License-Identifier: Apache-2.0
// Verbs that act on several sandboxes: which, and on all of them.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "tools/msb/cli.h"
#include "tools/msb/listing.h"
#include "tools/msb/spinner.h"

namespace msb::cli {

Result<std::vector<std::string>> select_names(const supervisor::Home& home,
                                              const std::vector<std::string_view>& names,
                                              const std::vector<std::string_view>& labels) {
  if (names.empty() && labels.empty()) return usage_error("no sandbox is given");
  std::vector<std::string> out;
  for (const std::string_view name : names) {
    if (std::find(out.begin(), out.end(), name) == out.end()) out.emplace_back(name);
  }
  if (labels.empty()) return out;
  MSB_ASSIGN(const auto summaries, collect_summaries(home, labels));
  for (const auto& summary : summaries) {
    if (std::find(out.begin(), out.end(), summary.name) == out.end()) out.push_back(summary.name);
  }
  return out;
}

int for_each_name(const std::vector<std::string>& names, std::string_view verb,
                  const std::function<Status(const std::string&)>& action) {
  constexpr std::size_t kThreads = 16;
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex output;
  const auto work = [&] {
    for (std::size_t i = next++; i < names.size(); i = next++) {
      const Status done = action(names[i]);
      const std::lock_guard<std::mutex> guard(output);
      if (!done.ok()) {
        failed = true;
        (void)report(done.error(), kExitFailure, verb);
      }
    }
  };
  const Spinner spinner(std::string(verb) + " " +
                        (names.size() == 1 ? names.front() : std::to_string(names.size()) + " sandboxes"));
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < std::min(names.size(), kThreads); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return failed ? kExitFailure : kExitOk;
}

}  // namespace msb::cli
