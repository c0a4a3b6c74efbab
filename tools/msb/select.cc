// SPDX-License-Identifier: Apache-2.0
// Verbs that act on several sandboxes: which, and on all of them.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "supervisor/grammar.h"
#include "tools/msb/cli.h"

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
  std::vector<supervisor::Label> wanted;
  for (const std::string_view text : labels) {
    auto label = supervisor::parse_label(text);
    if (!label.ok()) return usage_error("--label: " + label.error().text);
    wanted.push_back(std::move(label).value());
  }
  MSB_ASSIGN(const auto all, home.names());
  for (const std::string& name : all) {
    if (std::find(out.begin(), out.end(), name) != out.end()) continue;
    auto sandbox = supervisor::Sandbox::open(home, name);
    if (!sandbox.ok()) continue;
    const auto info = sandbox->info();
    if (!info.ok()) continue;
    const auto& have = info->spec.labels;
    const bool match = std::all_of(wanted.begin(), wanted.end(), [&](const supervisor::Label& label) {
      return std::find(have.begin(), have.end(), label) != have.end();
    });
    if (match) out.push_back(name);
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
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < std::min(names.size(), kThreads); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return failed ? kExitFailure : kExitOk;
}

}  // namespace msb::cli
