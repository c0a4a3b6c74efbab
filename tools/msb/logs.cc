// SPDX-License-Identifier: Apache-2.0
// msb logs: what a sandbox's commands and machine wrote, also after it has ended.
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <tuple>

#include "base/file.h"
#include "supervisor/quantities.h"
#include "tools/msb/listing.h"
#include "tools/msb/log_reader.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum LogsOption : int {
  kFollow = kFirstVerbOption,
  kTail,
  kSince,
  kUntil,
  kSource,
  kGrep,
  kSession,
  kJson,
  kTimestamps,
  kShowId,
  kColor,
  kNoColor,
};
constexpr std::array<Option, 12> kOptions = {{
    {kFollow, "follow", 'f', "", "Go on with what comes, until the sandbox ends"},
    {kTail, "tail", 0, "N", "Only the last N entries"},
    {kSince, "since", 0, "TIME", "From this moment on: RFC 3339, or how long ago (10m)"},
    {kUntil, "until", 0, "TIME", "Up to this moment"},
    {kSource, "source", 0, "LIST", "Of stdout,stderr,output,system,network or all (stdout,stderr,output)"},
    {kGrep, "grep", 0, "REGEX", "Only what matches (POSIX extended)"},
    {kSession, "session", 0, "N", "Only of this session"},
    {kJson, "json", 0, "", "JSON lines"},
    {kTimestamps, "timestamps", 0, "", "Put the time before each line"},
    {kShowId, "show-id", 0, "", "Put the session before each line"},
    {kColor, "color", 0, "WHEN", "auto, always or never"},
    {kNoColor, "no-color", 0, "", "As --color never"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

struct Filter {
  bool stdout_on = true;
  bool stderr_on = true;
  bool output_on = true;
  bool system_on = false;
  bool network_on = false;
  std::optional<std::int64_t> since;
  std::optional<std::int64_t> until;
  std::optional<std::uint64_t> session;
  regex_t* regex = nullptr;

  [[nodiscard]] bool passes(const LogEntry& entry) const {
    if (entry.source == "stdout" && !stdout_on) return false;
    if (entry.source == "stderr" && !stderr_on) return false;
    if (entry.source == "output" && !output_on) return false;
    if (entry.source == "system" && !system_on) return false;
    if (entry.source == "network" && !network_on) return false;
    if (since && entry.time_ns != 0 && entry.time_ns < *since) return false;
    if (until && entry.time_ns != 0 && entry.time_ns > *until) return false;
    if (session && entry.session != session) return false;
    return regex == nullptr || ::regexec(regex, entry.data.c_str(), 0, nullptr, 0) == 0;
  }
};

struct Look {
  bool json = false;
  bool timestamps = false;
  bool show_id = false;
  bool color = false;
};

std::string render(const LogEntry& entry, const Look& look) {
  if (look.json) return log_entry_json(entry) + "\n";
  std::string prefix;
  if (entry.lost != 0) prefix += "(" + std::to_string(entry.lost) + " bytes lost)\n";
  if (look.timestamps && !entry.time.empty()) prefix += entry.time + " ";
  if (look.show_id && entry.session) prefix += "[" + std::to_string(*entry.session) + "] ";
  if (prefix.empty() && !look.color) return entry.data;
  const bool colored =
      look.color && (entry.source == "stderr" || entry.source == "system" || entry.source == "network");
  std::string out = prefix;
  if (colored) out += entry.source == "stderr" ? "\033[31m" : "\033[2m";
  out += entry.data;
  if (colored) {
    const bool newline = out.ends_with("\n");
    if (newline) out.pop_back();
    out += "\033[0m";
    if (newline) out += '\n';
  }
  if (!prefix.empty() && !out.ends_with("\n")) out += '\n';
  return out;
}

Status set_sources(Filter& filter, std::string_view list) {
  filter.stdout_on = filter.stderr_on = filter.output_on = filter.system_on = filter.network_on = false;
  while (!list.empty()) {
    const auto comma = list.find(',');
    const std::string_view word = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    const bool all = word == "all";
    if (!all && word != "stdout" && word != "stderr" && word != "output" && word != "system" &&
        word != "network") {
      return usage_error("--source: \"" + std::string(word) +
                         "\" is none of stdout, stderr, output, system, network, all");
    }
    filter.stdout_on = filter.stdout_on || all || word == "stdout";
    filter.stderr_on = filter.stderr_on || all || word == "stderr";
    filter.output_on = filter.output_on || all || word == "output";
    filter.system_on = filter.system_on || all || word == "system";
    filter.network_on = filter.network_on || all || word == "network";
  }
  return {};
}

// The sources of one sandbox, read together.
class Logs {
 public:
  Logs(int logs_fd, const Filter& filter) {
    files_.push_back({LogFile(logs_fd, "exec.log"), Form::kEntries});
    if (filter.network_on) files_.push_back({LogFile(logs_fd, "audit.log"), Form::kAudit});
    if (filter.system_on) {
      for (const char* name : {"vmm.log", "net.log", "console.log"})
        files_.push_back({LogFile(logs_fd, name), Form::kText});
    }
  }
  Result<std::vector<LogEntry>> read_new(bool at_end) {
    std::vector<LogEntry> out;
    for (File& file : files_) {
      MSB_ASSIGN(auto lines, file.log.read_new());
      if (at_end && file.form == Form::kText) {
        if (std::string rest = file.log.take_partial(); !rest.empty()) lines.push_back(std::move(rest));
      }
      for (std::string& line : lines) {
        if (file.form == Form::kAudit) {
          auto entry = parse_audit_line(line);
          if (entry.ok()) out.push_back(std::move(entry).value());
        } else if (file.form == Form::kEntries) {
          auto entry = parse_log_line(line);
          if (entry.ok())
            out.push_back(std::move(entry).value());  // a half-written last line of a crash is skipped
        } else {
          LogEntry entry;
          entry.source = "system";
          // Lines of our programs begin with their time; the console's do not.
          const auto blank = line.find(' ');
          auto moment = supervisor::parse_moment_ns(std::string_view(line).substr(0, blank), 0);
          if (moment.ok() && blank > 12 && blank != std::string::npos) {
            entry.time_ns = *moment;
            entry.time = line.substr(0, blank);
          }
          entry.data = printable(line) + "\n";
          out.push_back(std::move(entry));
        }
      }
    }
    // By time where both have one; lines without keep their place.
    std::stable_sort(out.begin(), out.end(), [](const LogEntry& a, const LogEntry& b) {
      return a.time_ns != 0 && b.time_ns != 0 && a.time_ns < b.time_ns;
    });
    return out;
  }

 private:
  enum class Form : std::uint8_t { kEntries, kAudit, kText };
  struct File {
    LogFile log;
    Form form;
  };
  std::vector<File> files_;
};

// The logs' directory: of the sandbox, or of a failed creation of that name.
struct Place {
  UniqueFd logs;
  std::optional<supervisor::Sandbox> sandbox;
};
Result<Place> find_logs(const supervisor::Home& home, const std::string& name) {
  auto sandbox = supervisor::Sandbox::open(home, name);
  if (sandbox.ok()) {
    auto logs = open_at(sandbox->directory_fd(), "logs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!logs.ok() && logs.error().code == Errc::kNotFound)
      return Place{UniqueFd{}, std::move(sandbox).value()};
    if (!logs.ok()) return std::move(logs).error();
    return Place{std::move(logs).value(), std::move(sandbox).value()};
  }
  if (sandbox.error().code != Errc::kNotFound) return std::move(sandbox).error();
  auto failed = open_file(home.path() + "/failed/" + name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!failed.ok()) return std::move(sandbox).error();
  note("note: \"" + name + "\" failed to start; these are the logs of that attempt");
  return Place{std::move(failed).value(), std::nullopt};
}

Result<int> logs(const Parsed& args) {
  if (args.positionals.empty()) return usage_error("no sandbox is given");
  MSB_TRY(no_more_than(args, 1));
  Filter filter;
  Look look;
  if (args.has(kSource)) MSB_TRY(set_sources(filter, args.last(kSource)));
  const std::int64_t now = wall_clock_ns();
  for (const auto& [id, name, target] :
       {std::tuple{kSince, "--since: ", &filter.since}, std::tuple{kUntil, "--until: ", &filter.until}}) {
    if (!args.has(id)) continue;
    auto moment = supervisor::parse_moment_ns(args.last(id), now);
    if (!moment.ok()) return usage_error(name + moment.error().text);
    *target = *moment;
  }
  std::optional<std::uint64_t> tail;
  if (args.has(kTail)) {
    tail = supervisor::parse_decimal(args.last(kTail));
    if (!tail) return usage_error("--tail: must be a number");
  }
  if (args.has(kSession)) {
    filter.session = supervisor::parse_decimal(args.last(kSession));
    if (!filter.session) return usage_error("--session: must be a number");
  }
  regex_t regex{};
  if (args.has(kGrep)) {
    if (::regcomp(&regex, std::string(args.last(kGrep)).c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
      return usage_error("--grep: \"" + std::string(args.last(kGrep)) + "\" is no regular expression");
    }
    filter.regex = &regex;
  }
  look.json = args.has(kJson);
  look.timestamps = args.has(kTimestamps);
  look.show_id = args.has(kShowId);
  const std::string_view color = args.has(kNoColor) ? "never" : args.last(kColor, "auto");
  if (color != "auto" && color != "always" && color != "never")
    return usage_error("--color: must be auto, always or never");
  look.color = color == "always" || (color == "auto" && color_wanted(STDOUT_FILENO));

  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(Place place, find_logs(home, std::string(args.positionals.front())));
  if (!place.logs) return kExitOk;
  const bool follow = args.has(kFollow) && place.sandbox.has_value();
  UniqueFd watch;
  if (follow) {
    // Before the first read: nothing that comes in between is missed.
    watch = UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    const std::string path = "/proc/self/fd/" + std::to_string(place.logs.get());
    if (!watch || ::inotify_add_watch(watch.get(), path.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
      return sys_error("watch the logs");
    }
  }
  Logs reader(place.logs.get(), filter);
  MSB_ASSIGN(const auto first, reader.read_new(!follow));
  std::deque<std::string> shown;
  std::string out;
  for (const LogEntry& entry : first) {
    if (!filter.passes(entry)) continue;
    if (tail) {
      shown.push_back(render(entry, look));
      if (shown.size() > *tail) shown.pop_front();
    } else {
      out += render(entry, look);
      if (out.size() > (std::size_t{1} << 20)) {
        print(out);
        out.clear();
      }
    }
  }
  for (const std::string& line : shown) out += line;
  print(out);
  while (follow) {
    const auto info = place.sandbox->info();
    // Asked before the last read: what it wrote until it ended is then read below.
    const bool over = !info.ok() || !is_alive(info->state);
    MSB_ASSIGN(const auto more, reader.read_new(over));
    out.clear();
    for (const LogEntry& entry : more) {
      if (filter.passes(entry)) out += render(entry, look);
    }
    print(out);
    if (over) break;
    // Changes wake us; the time limit is for noticing the end of a sandbox that says nothing more.
    pollfd fds[2] = {{watch.get(), POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
    (void)::poll(&fds[0], 2, 1000);
    if ((fds[1].revents & (POLLERR | POLLNVAL)) != 0) return kExitSignalBase + 13;
    char events[4096];
    while (::read(watch.get(), &events[0], sizeof events) > 0) {
    }
  }
  if (filter.regex != nullptr) ::regfree(&regex);
  return kExitOk;
}

}  // namespace

const Verb kLogsVerb = {"logs",
                        "",
                        Group::kSandboxes,
                        "Show what a sandbox wrote",
                        "[OPTIONS] NAME",
                        "Works for stopped sandboxes and failed creations, too.\n"
                        "\n"
                        "Examples:\n"
                        "  msb logs -f web\n"
                        "  msb logs --since 10m --grep 'error|warn' web\n"
                        "  msb logs --source system web\n"
                        "  msb logs --source network --grep deny web",
                        kTables,
                        Words::kOptionsAnywhere,
                        kExitFailure,
                        logs,
                        ""};

}  // namespace msb::cli
