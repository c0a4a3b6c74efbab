// SPDX-License-Identifier: Apache-2.0
#include "vmm/exec_log.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/json.h"

namespace msb::vmm {
namespace {

std::string_view stream_name(proto::LogStream stream) {
  switch (stream) {
    case proto::LogStream::kStdout:
      return "out";
    case proto::LogStream::kStderr:
      return "err";
    case proto::LogStream::kTty:
      return "tty";
  }
  return "out";
}
}  // namespace

Result<ExecLog> ExecLog::open(int dir_fd, std::string name, std::uint64_t max_bytes, std::uint64_t files) {
  MSB_ASSIGN(RotatedFile file, RotatedFile::open(dir_fd, std::move(name), max_bytes, files));
  return ExecLog(std::move(file));
}

void ExecLog::output(std::uint64_t session, proto::LogStream stream, std::uint64_t dropped,
                     std::string_view data) {
  JsonWriter out;
  out.begin_object().field("t", wall_clock_ns()).field("s", stream_name(stream)).field("id", session);
  if (dropped != 0) out.field("x", dropped);
  if (is_utf8(data)) {
    out.field("d", data);
  } else {
    out.field("d64", base64_encode(as_bytes(data)));
  }
  out.end_object();
  file_.append(std::move(out).take() + "\n");
}

void ExecLog::ended(std::uint64_t session, const proto::Exit& exit) {
  JsonWriter out;
  out.begin_object().field("t", wall_clock_ns()).field("id", session).key("e");
  exit.write(out);
  out.end_object();
  file_.append(std::move(out).take() + "\n");
}

}  // namespace msb::vmm
