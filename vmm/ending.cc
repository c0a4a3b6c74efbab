// SPDX-License-Identifier: Apache-2.0
#include "vmm/ending.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

namespace msb::vmm {

std::string to_json(const Ending& ending, std::int64_t at_ns) {
  JsonWriter out;
  out.begin_object().field("reason", proto::exit_reason_name(ending.reason)).field("detail", ending.detail);
  if (ending.exit && ending.exit->code) out.field("code", *ending.exit->code);
  if (ending.exit && ending.exit->signal) out.field("signal", *ending.exit->signal);
  out.field("at_ns", at_ns).end_object();
  return std::move(out).take();
}

void report_failure(std::optional<int> ready_fd, const Failure& failure) {
  MSB_ERROR("%s: %s", failure.stage.c_str(), failure.error.text.c_str());
  if (!ready_fd) return;
  JsonWriter line;
  line.begin_object().key("error").begin_object().field("code", errc_name(failure.error.code));
  line.field("stage", failure.stage).field("text", failure.error.text).end_object().end_object();
  const UniqueFd fd(*ready_fd);
  // The reader may have gone: then nobody wants to know.
  static_cast<void>(write_all(fd.get(), std::move(line).take() + "\n").ok());
}

}  // namespace msb::vmm
