// SPDX-License-Identifier: Apache-2.0
// msb events: what happens to sandboxes, as JSON lines.
#include <poll.h>

#include <array>
#include <cerrno>

#include "base/json.h"
#include "tools/msb/listing.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

const std::array<std::span<const Option>, 0> kTables = {};

struct Source {
  std::string name;
  supervisor::EventStream stream;
};

// The event with the sandbox's name put in front.
std::string line_of(const std::string& name, const std::string& event) {
  JsonWriter out;
  out.begin_object().field("sandbox", name);
  if (const auto document = JsonDocument::parse(event); document.ok()) {
    const auto members = document->root().members();
    if (members.ok()) {
      for (const auto& [key, value] : *members) {
        if (key != "sandbox") out.key(key).raw(value.dump());
      }
    }
  }
  out.end_object();
  return std::move(out).take() + "\n";
}

Result<int> events(const Parsed& args) {
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  std::vector<std::string> names;
  for (const std::string_view name : args.positionals) names.emplace_back(name);
  const bool all = names.empty();
  if (all) {
    MSB_ASSIGN(names, home.names());
  }
  std::vector<Source> sources;
  for (const std::string& name : names) {
    auto sandbox = supervisor::Sandbox::open(home, name);
    if (!sandbox.ok()) {
      if (all) continue;
      return std::move(sandbox).error();
    }
    MSB_ASSIGN(const auto info, sandbox->info());
    if (all && !is_alive(info.state)) continue;
    auto stream = sandbox->events();
    if (!stream.ok()) {
      if (all) continue;
      return std::move(stream).error().with_context(name);
    }
    sources.push_back({name, std::move(stream).value()});
  }
  while (!sources.empty()) {
    for (auto source = sources.begin(); source != sources.end();) {
      auto event = source->stream.next();
      if (!event.ok()) {
        source = sources.erase(source);
      } else if (*event) {
        print(line_of(source->name, **event));
      } else {
        ++source;
      }
    }
    if (sources.empty()) break;
    std::vector<pollfd> fds;
    for (const Source& source : sources) fds.push_back({source.stream.fd(), POLLIN, 0});
    // Whoever reads our output may go away while nothing happens: its end is watched too.
    fds.push_back({1, 0, 0});
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return sys_error("wait for events");
    if ((fds.back().revents & (POLLERR | POLLNVAL)) != 0) break;
  }
  return kExitOk;
}

}  // namespace

const Verb kEventsVerb = {"events",
                          "",
                          Group::kSandboxes,
                          "Follow what happens to running sandboxes, as JSON lines",
                          "[NAME...]",
                          "Ends when the sandboxes have ended.",
                          kTables,
                          Words::kOptionsAnywhere,
                          kExitFailure,
                          events,
                          ""};

}  // namespace msb::cli
