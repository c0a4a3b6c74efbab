// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "supervisor/quantities.h"
#include "tools/msb/cli.h"

namespace msb::cli {
namespace {

constexpr int kMaxRotated = 100;
constexpr std::size_t kMaxLine = std::size_t{4} << 20;

}  // namespace

Result<LogEntry> parse_log_line(std::string_view line) {
  auto document = JsonDocument::parse(line, {.max_bytes = kMaxLine});
  if (!document.ok()) return std::move(document).error();
  const JsonView root = document->root();
  if (!root.is_object()) return make_error(Errc::kCorrupt, "a line of the log is no object");
  LogEntry out;
  MSB_ASSIGN(const std::int64_t time_ns, root.get_int_or("t", 0));
  out.time_ns = time_ns;
  out.time = supervisor::format_rfc3339(time_ns, 6);
  if (const auto id = root.find("id")) {
    MSB_ASSIGN(out.session, id->as_uint());
  }
  if (const auto end = root.find("e")) {
    out.source = "system";
    const auto code = end->find("code");
    const auto signal = end->find("signal");
    out.data = "session " + std::to_string(out.session.value_or(0)) + " ended";
    if (code) out.data += " with code " + code->dump();
    if (signal) out.data += " by signal " + signal->dump();
    out.data += "\n";
    return out;
  }
  MSB_ASSIGN(const std::string stream, root.get_string_or("s", "tty"));
  out.source = stream == "out" ? "stdout" : stream == "err" ? "stderr" : "output";
  MSB_ASSIGN(out.data, root.get_string_or("d", ""));
  MSB_ASSIGN(const std::string encoded, root.get_string_or("d64", ""));
  if (!encoded.empty()) {
    const auto bytes = base64_decode(encoded);
    if (!bytes) return make_error(Errc::kCorrupt, "a line of the log holds broken base64");
    out.data = as_text(*bytes);
    out.binary = true;
  }
  MSB_ASSIGN(out.lost, root.get_uint_or("x", 0));
  return out;
}

Result<LogEntry> parse_audit_line(std::string_view line) {
  auto document = JsonDocument::parse(line, {.max_bytes = kMaxLine});
  if (!document.ok()) return std::move(document).error();
  const JsonView root = document->root();
  // What msb-net writes holds words of the guest: nothing here is more than text.
  const auto word = [&](const char* key) { return root.get_string_or(key, "").value_or(""); };
  const auto number = [&](const char* key) { return root.get_uint_or(key, 0).value_or(0); };
  LogEntry out;
  out.source = "network";
  MSB_ASSIGN(out.time, root.get_string("time"));
  MSB_ASSIGN(out.time_ns, supervisor::parse_moment_ns(out.time, 0));
  MSB_ASSIGN(const std::string event, root.get_string("event"));
  out.record = line;
  std::string& text = out.data;
  text = event;
  if (root.find("protocol")) {
    const bool ingress = word("direction") == "ingress";
    const std::string address = word("address");
    text += " " + word("protocol") + (ingress ? " from " : " to ");
    text += address.find(':') == std::string::npos ? address : "[" + address + "]";
    text += ":" + std::to_string(number("port"));
    if (ingress) text += " at port " + std::to_string(number("guest_port"));
  }
  if (const std::string name = word("name"); !name.empty())
    text += root.find("protocol") ? " (" + name + ")" : " " + name;
  if (event == "close") {
    text += ": " + std::to_string(number("bytes_out")) + " bytes out, " + std::to_string(number("bytes_in")) +
            " in, " + word("how");
  } else if (root.find("verdict")) {
    if (event == "lookup") text += ": " + word("result");
    text += " (" + word("rule") + ": " + word("reason") + ")";
  } else {
    text += ": " + word("text");
  }
  text = printable(text) + "\n";
  return out;
}

std::string log_entry_json(const LogEntry& entry) {
  JsonWriter out;
  out.begin_object().field("t", entry.time).field("s", entry.source);
  if (entry.session) out.field("id", *entry.session);
  if (entry.lost != 0) out.field("lost", entry.lost);
  if (!entry.record.empty()) out.key("record").raw(entry.record);
  if (is_utf8(entry.data)) {
    out.field("d", entry.data);
  } else {
    out.field("d", base64_encode(as_bytes(entry.data))).field("e", "b64");
  }
  out.end_object();
  return std::move(out).take();
}

Status LogFile::drain(int fd, std::vector<std::string>& out) {
  std::string buffer(std::size_t{64} << 10, '\0');
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return sys_error("read " + name_);
    if (n == 0) return {};
    std::string_view rest(buffer.data(), static_cast<std::size_t>(n));
    while (!rest.empty()) {
      const auto newline = rest.find('\n');
      partial_ += rest.substr(0, newline);
      if (newline == std::string_view::npos) {
        // A line without end (a console that never breaks) is cut rather than kept for ever.
        if (partial_.size() < kMaxLine) break;
        out.push_back(std::move(partial_));
        partial_.clear();
        break;
      }
      out.push_back(std::move(partial_));
      partial_.clear();
      rest.remove_prefix(newline + 1);
    }
  }
}

Status LogFile::open_current() {
  auto fd = open_at(logs_fd_, name_, O_RDONLY | O_NOFOLLOW);
  if (!fd.ok()) {
    if (fd.error().code == Errc::kNotFound) return {};
    return std::move(fd).error();
  }
  struct stat info {};
  if (::fstat(fd->get(), &info) != 0) return sys_error("read " + name_);
  inode_ = info.st_ino;
  file_ = std::move(fd).value();
  return {};
}

Result<std::vector<std::string>> LogFile::read_new() {
  std::vector<std::string> out;
  if (!started_) {
    started_ = true;
    int oldest = 0;
    struct stat info {};
    while (oldest < kMaxRotated && ::fstatat(logs_fd_, (name_ + "." + std::to_string(oldest + 1)).c_str(),
                                             &info, AT_SYMLINK_NOFOLLOW) == 0) {
      ++oldest;
    }
    for (int number = oldest; number >= 1; --number) {
      const auto fd = open_at(logs_fd_, name_ + "." + std::to_string(number), O_RDONLY | O_NOFOLLOW);
      if (fd.ok()) MSB_TRY(drain(fd->get(), out));
    }
  }
  if (!file_) MSB_TRY(open_current());
  // Each round ends with the file that is current; a rotation in between costs another round.
  for (int round = 0; file_ && round < kMaxRotated; ++round) {
    MSB_TRY(drain(file_.get(), out));
    struct stat now {};
    if (::fstatat(logs_fd_, name_.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0 || now.st_ino == inode_) {
      // Truncated in place (a new run of an older msb): begin again.
      const off_t at = ::lseek(file_.get(), 0, SEEK_CUR);
      if (now.st_ino == inode_ && at > now.st_size) ::lseek(file_.get(), 0, SEEK_SET);
      break;
    }
    MSB_TRY(drain(file_.get(), out));  // what was written before the rotation
    MSB_TRY(open_current());
  }
  return out;
}

std::string LogFile::take_partial() {
  std::string out = std::move(partial_);
  partial_.clear();
  return out;
}

}  // namespace msb::cli
