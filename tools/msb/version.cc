// SPDX-License-Identifier: Apache-2.0
// msb version: which msb this is.
#include <array>

#include "base/json.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum VersionOption : int { kFormat = kFirstVerbOption };
constexpr std::array<Option, 1> kOptions = {{{kFormat, "format", 0, "FORMAT", "table or json"}}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> version(const Parsed& args) {
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat)));
  if (format == Format::kJson) {
    JsonWriter out;
    out.begin_object().field("version", MSB_VERSION).field("state_version", 1).end_object();
    print(std::move(out).take() + "\n");
  } else {
    print("msb " MSB_VERSION "\n");
  }
  return kExitOk;
}

}  // namespace

const Verb kVersionVerb = {"version", "",      Group::kOther,           "Show the version", "[--format json]",
                           "",        kTables, Words::kOptionsAnywhere, kExitFailure,       version,
                           ""};

}  // namespace msb::cli
