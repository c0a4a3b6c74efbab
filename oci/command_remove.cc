// SPDX-License-Identifier: Apache-2.0
// msb-image rm, prune: taking images out of the store.
#include <cstdio>

#include "base/clock.h"
#include "base/json.h"
#include "oci/collect.h"
#include "oci/commands.h"
#include "oci/output.h"
#include "oci/tar_numbers.h"

namespace msb::oci {
namespace {

// "90s", "30m", "12h", "7d".
Result<std::int64_t> parse_age_seconds(const std::string& text) {
  const auto number = parse_decimal(std::string_view(text).substr(0, text.empty() ? 0 : text.size() - 1));
  std::int64_t unit = 0;
  switch (text.empty() ? '\0' : text.back()) {
    case 's':
      unit = 1;
      break;
    case 'm':
      unit = 60;
      break;
    case 'h':
      unit = 3600;
      break;
    case 'd':
      unit = 86'400;
      break;
    default:
      break;
  }
  constexpr std::uint64_t kMost = 100'000'000;
  if (unit == 0 || !number || *number > kMost / static_cast<std::uint64_t>(unit) * 100)
    return make_error(Errc::kInvalid, "--older-than: expected an age as 90s, 30m, 12h or 7d");
  return static_cast<std::int64_t>(*number) * unit;
}

void print(const Removal& removal, bool dry_run, bool json_output, bool quiet) {
  if (json_output) {
    JsonWriter json(JsonWriter::Style::kPretty);
    json.begin_object().field("dry_run", dry_run).field("references", removal.references);
    json.field("images", removal.images).field("files", removal.files);
    json.field("freed_bytes", removal.freed_bytes).end_object();
    std::printf("%s\n", std::move(json).take().c_str());
    return;
  }
  for (const std::string& reference : removal.references)
    std::printf("%s%s\n", quiet ? "" : "Untagged: ", reference.c_str());
  for (const std::string& image : removal.images)
    std::printf("%s%s\n", quiet ? "" : "Deleted: ", image.c_str());
  if (!quiet && removal.freed_bytes > 0)
    std::printf("%s %s\n", dry_run ? "Would free" : "Freed", format_bytes(removal.freed_bytes).c_str());
}

}  // namespace

Status remove_command(const Arguments& arguments) {
  Options options("rm [-f] [-q] [--dry-run] [--json] IMAGE...");
  bool force = false;
  bool quiet = false;
  bool dry_run = false;
  bool json_output = false;
  options.flag("force", force, "f");  // a missing image is no error; what a sandbox needs stays all the same
  options.flag("quiet", quiet, "q");
  options.flag("dry-run", dry_run);
  options.flag("json", json_output);
  MSB_TRY(options.parse(arguments));
  if (options.positional().empty()) return make_error(Errc::kInvalid, "usage: msb image rm IMAGE...");
  MSB_ASSIGN(const Store store, open_store());
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kCollect, true));
  Status first_failure;
  for (const std::string& text : options.positional()) {
    MSB_ASSIGN(const Catalog catalog, read_catalog(store));
    auto removal = plan_removal(store, catalog, text);
    Status status = removal ? Status{} : Status(removal.error());
    if (removal && !dry_run) status = carry_out(store, *removal);
    if (status.ok()) {
      print(*removal, dry_run, json_output, quiet);
    } else if (!(force && status.error().code == Errc::kNotFound) && first_failure.ok()) {
      first_failure = std::move(status);
    }
  }
  return first_failure;
}

Status prune_command(const Arguments& arguments) {
  Options options("prune [-a] [--older-than AGE] [--keep-size SIZE] [--dry-run] [-q] [--json]");
  PruneOptions prune;
  std::string older_than;
  std::uint64_t keep_bytes = UINT64_MAX;
  bool quiet = false;
  bool dry_run = false;
  bool json_output = false;
  options.flag("all", prune.all, "a");
  options.text("older-than", older_than);
  options.size("keep-size", keep_bytes);
  options.flag("dry-run", dry_run);
  options.flag("quiet", quiet, "q");
  options.flag("json", json_output);
  MSB_TRY(options.parse(arguments));
  if (!options.positional().empty()) return make_error(Errc::kInvalid, "prune takes no images; see image rm");
  if (!older_than.empty()) {
    MSB_ASSIGN(const std::int64_t seconds, parse_age_seconds(older_than));
    prune.loaded_before_ns = wall_clock_ns() - seconds * 1'000'000'000;
  }
  if (keep_bytes != UINT64_MAX) prune.keep_bytes = keep_bytes;
  MSB_ASSIGN(const Store store, open_store());
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kCollect, true));
  MSB_ASSIGN(const Catalog catalog, read_catalog(store));
  MSB_ASSIGN(const Removal removal, plan_prune(store, catalog, prune));
  if (!dry_run) {
    store.sweep_temp();
    MSB_TRY(carry_out(store, removal));
  }
  print(removal, dry_run, json_output, quiet);
  return {};
}

}  // namespace msb::oci
