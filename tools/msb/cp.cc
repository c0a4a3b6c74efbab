// SPDX-License-Identifier: Apache-2.0
// msb cp: files and trees between the host and sandboxes.
#include <fcntl.h>
#include <stdlib.h>

#include <array>

#include "base/file.h"
#include "supervisor/names.h"
#include "tools/msb/listing.h"
#include "tools/msb/spinner.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum CopyOption : int { kArchive = kFirstVerbOption, kQuiet };
constexpr std::array<Option, 2> kOptions = {{
    {kArchive, "archive", 'a', "", "Accepted for habit: modes, times and links are always kept"},
    {kQuiet, "quiet", 'q', "", "No notes"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

struct Endpoint {
  std::string sandbox;  // empty: on the host
  std::string path;
};

// "NAME:/abs" is a sandbox's; everything else, and all that starts with '.' or '/', is the host's.
Result<Endpoint> parse_endpoint(std::string_view text) {
  const auto colon = text.find(":/");
  const bool host = text.starts_with(".") || text.starts_with("/") || colon == std::string_view::npos;
  if (host) return Endpoint{{}, std::string(text)};
  Endpoint out{std::string(text.substr(0, colon)), std::string(text.substr(colon + 1))};
  if (const auto valid = supervisor::check_name(out.sandbox); !valid.ok())
    return usage_error(valid.error().text);
  return out;
}

// The sandbox of an endpoint; one that is stopped is started for the copy and stopped afterwards.
class Opened {
 public:
  static Result<Opened> open(const supervisor::Home& home, const std::string& name) {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    MSB_ASSIGN(const auto info, sandbox.info());
    const bool stopped = !is_alive(info.state);
    if (stopped) MSB_TRY(sandbox.start({.lifetime = supervisor::Lifetime::kAttached}));
    return Opened(std::move(sandbox), stopped);
  }
  [[nodiscard]] supervisor::Sandbox& get() { return sandbox_; }
  // Keeps the copy's own error when there is one.
  Status close(Status result) {
    if (!stop_) return result;
    Status stopped = sandbox_.stop({});
    return result.ok() ? stopped : result;
  }

 private:
  Opened(supervisor::Sandbox sandbox, bool stop) : sandbox_(std::move(sandbox)), stop_(stop) {}
  supervisor::Sandbox sandbox_;
  bool stop_;
};

Status between(const supervisor::Home& home, const Endpoint& from, const Endpoint& to) {
  // Through the host: the two know nothing of each other.
  std::string pattern = home.path() + "/cache";
  MSB_TRY(make_directories(pattern));
  pattern += "/cp-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) return sys_error("make a folder to copy through");
  const auto copy = [&]() -> Status {
    const auto slash = from.path.find_last_not_of('/');
    const std::string trimmed = from.path.substr(0, slash == std::string::npos ? 0 : slash + 1);
    const std::string name = trimmed.substr(trimmed.rfind('/') + 1);
    if (name.empty())
      return make_error(Errc::kInvalid, "copy %s: / as a whole cannot be copied between sandboxes",
                        from.path.c_str());
    MSB_ASSIGN(Opened source, Opened::open(home, from.sandbox));
    MSB_TRY(source.close(source.get().copy_out(from.path, pattern + "/" + name)));
    MSB_ASSIGN(Opened target, Opened::open(home, to.sandbox));
    return target.close(target.get().copy_in(pattern + "/" + name, to.path));
  };
  Status result = copy();
  MSB_ASSIGN(const UniqueFd cache, open_file(parent_path(pattern), O_RDONLY | O_DIRECTORY));
  const Status removed = remove_tree(cache.get(), pattern.substr(pattern.rfind('/') + 1));
  return result.ok() ? removed : result;
}

Result<int> copy(const Parsed& args) {
  if (args.positionals.size() != 2) return usage_error("expected a source and a target");
  MSB_ASSIGN(const Endpoint from, parse_endpoint(args.positionals[0]));
  MSB_ASSIGN(const Endpoint to, parse_endpoint(args.positionals[1]));
  if (from.sandbox.empty() && to.sandbox.empty())
    return usage_error("neither side names a sandbox (NAME:/path)");
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  const Spinner spinner("copy " + from.path);
  if (!from.sandbox.empty() && !to.sandbox.empty()) {
    MSB_TRY(between(home, from, to));
    return kExitOk;
  }
  const bool in = from.sandbox.empty();
  MSB_ASSIGN(Opened opened, Opened::open(home, in ? to.sandbox : from.sandbox));
  Status result = in ? opened.get().copy_in(from.path, to.path) : opened.get().copy_out(from.path, to.path);
  MSB_TRY(opened.close(std::move(result)).with_context("copy " + from.path));
  return kExitOk;
}

}  // namespace

const Verb kCopyVerb = {
    "cp",
    "copy",
    Group::kSandboxes,
    "Copy files to and from sandboxes",
    "SOURCE TARGET",
    "One side (or both) is NAME:/path. Folders are copied whole, with modes, times, links and, on the way\n"
    "in, owners. A target that is a folder is copied into, as cp does.\n"
    "\n"
    "Examples:\n"
    "  msb cp ./src dev:/work\n"
    "  msb cp dev:/work/result.json .",
    kTables,
    Words::kOptionsAnywhere,
    kExitFailure,
    copy,
    ""};

}  // namespace msb::cli
