// SPDX-License-Identifier: Apache-2.0
#include "vmm/exec_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

namespace msb::vmm {
namespace {
constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW;

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
  MSB_ASSIGN(UniqueFd file, open_at(dir_fd, name, kFlags));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return sys_error("stat " + name);
  return ExecLog(dir_fd, std::move(name), max_bytes, files, std::move(file),
                 static_cast<std::uint64_t>(info.st_size));
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
  line(std::move(out).take());
}

void ExecLog::ended(std::uint64_t session, const proto::Exit& exit) {
  JsonWriter out;
  out.begin_object().field("t", wall_clock_ns()).field("id", session).key("e");
  exit.write(out);
  out.end_object();
  line(std::move(out).take());
}

void ExecLog::rotate() {
  for (std::uint64_t n = files_ > 1 ? files_ - 1 : 0; n > 0; --n) {
    const std::string from = n == 1 ? name_ : name_ + "." + std::to_string(n - 1);
    static_cast<void>(::renameat(dir_fd_, from.c_str(), dir_fd_, (name_ + "." + std::to_string(n)).c_str()));
  }
  auto file = open_at(dir_fd_, name_, kFlags | O_TRUNC);
  if (!file) return;
  file_ = std::move(file).value();
  size_ = 0;
}

void ExecLog::line(const std::string& text) {
  if (size_ != 0 && size_ + text.size() > max_bytes_) rotate();
  const std::string whole = text + "\n";
  if (write_all(file_.get(), whole)) size_ += whole.size();
}

}  // namespace msb::vmm
