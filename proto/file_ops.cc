// SPDX-License-Identifier: Apache-2.0
#include "proto/file_ops.h"

#include <sys/stat.h>

#include <array>
#include <initializer_list>

#include "proto/json_fields.h"

namespace msb::proto {
namespace {

constexpr std::uint64_t kMaxU32 = 0xffff'ffff;
constexpr std::uint32_t kModeBits = 07777;

// Which members, beyond "op" and "path", each op takes.
enum Member : std::uint32_t {
  kTo = 1U << 0,
  kOffset = 1U << 1,
  kLength = 1U << 2,
  kHow = 1U << 3,
  kMode = 1U << 4,
  kOwner = 1U << 5,
  kTimes = 1U << 6,
  kParents = 1U << 7,
  kRecursive = 1U << 8,
  kMissingOk = 1U << 9,
  kNoReplace = 1U << 10,
  kFollow = 1U << 11,
};

struct OpEntry {
  FileOp op;
  std::string_view name;
  std::uint32_t members;
};
constexpr std::array<OpEntry, 20> kOps{{
    {FileOp::kStat, "stat", 0},
    {FileOp::kLstat, "lstat", 0},
    {FileOp::kReaddir, "readdir", 0},
    {FileOp::kRead, "read", kOffset | kLength},
    {FileOp::kWrite, "write", kOffset | kHow | kMode | kOwner | kParents},
    {FileOp::kMkdir, "mkdir", kMode | kOwner | kParents},
    {FileOp::kRemove, "remove", kRecursive | kMissingOk},
    {FileOp::kRename, "rename", kTo | kNoReplace},
    {FileOp::kCopy, "copy", kTo | kRecursive | kNoReplace},
    {FileOp::kChmod, "chmod", kMode | kRecursive},
    {FileOp::kChown, "chown", kOwner | kRecursive | kFollow},
    {FileOp::kUtime, "utime", kTimes | kFollow},
    {FileOp::kTruncate, "truncate", kLength},
    {FileOp::kSymlink, "symlink", kTo},
    {FileOp::kHardlink, "hardlink", kTo},
    {FileOp::kReadlink, "readlink", 0},
    {FileOp::kRealpath, "realpath", 0},
    {FileOp::kWatch, "watch", kRecursive},
    {FileOp::kTreeOut, "tree_out", kFollow},
    {FileOp::kTreeIn, "tree_in", kOwner | kParents},
}};

const OpEntry& entry_of(FileOp op) {
  for (const OpEntry& entry : kOps) {
    if (entry.op == op) return entry;
  }
  check_failed("file op in table", __FILE__, __LINE__);
}

struct MemberName {
  std::string_view name;
  std::uint32_t member;
};
constexpr std::array<MemberName, 13> kMembers{{{"to", kTo},
                                               {"offset", kOffset},
                                               {"length", kLength},
                                               {"how", kHow},
                                               {"mode", kMode},
                                               {"owner", kOwner},
                                               {"mtime_ns", kTimes},
                                               {"atime_ns", kTimes},
                                               {"parents", kParents},
                                               {"recursive", kRecursive},
                                               {"missing_ok", kMissingOk},
                                               {"no_replace", kNoReplace},
                                               {"follow", kFollow}}};

constexpr std::array<std::string_view, 5> kWriteModes{"replace", "create_new", "truncate", "append",
                                                      "update"};
constexpr std::array<std::string_view, 7> kKinds{"file", "dir", "symlink", "fifo", "socket", "char", "block"};
constexpr std::array<std::string_view, 8> kWatchKinds{"create",     "modify",   "close_write", "delete",
                                                      "moved_from", "moved_to", "attrib",      "overflow"};

template <typename Enum, std::size_t kCount>
Result<Enum> parse_enum(const JsonView& value, const std::array<std::string_view, kCount>& names) {
  MSB_ASSIGN(const std::string_view text, value.as_string());
  for (std::size_t i = 0; i < kCount; ++i) {
    if (names[i] == text) return static_cast<Enum>(i);
  }
  return invalid_value(value, "is not a known word");
}

Status check_keys(const OpEntry& entry, const JsonView& value) {
  MSB_ASSIGN(const auto members, value.members());
  for (const auto& [name, member] : members) {
    if (name == "op" || name == "path") continue;
    bool known = false;
    for (const MemberName& candidate : kMembers) {
      known = known || (candidate.name == name && (candidate.member & entry.members) != 0);
    }
    if (!known) {
      return invalid_value(value,
                           "unknown key \"" + std::string(name) + "\" for op " + std::string(entry.name));
    }
  }
  return {};
}

Result<std::optional<std::int64_t>> get_optional_int(const JsonView& object, std::string_view key) {
  const auto member = object.find(key);
  if (!member) return std::optional<std::int64_t>();
  MSB_ASSIGN(const std::int64_t value, member->as_int());
  return std::optional<std::int64_t>(value);
}

Result<std::optional<std::uint32_t>> get_optional_u32(const JsonView& object, std::string_view key,
                                                      std::uint64_t max = kMaxU32) {
  MSB_ASSIGN(const auto value, get_optional_uint(object, key, max));
  return value ? std::optional<std::uint32_t>(static_cast<std::uint32_t>(*value)) : std::nullopt;
}

Result<std::string> get_path(const JsonView& object, std::string_view key) {
  MSB_ASSIGN(const JsonView member, object.at(key));
  MSB_ASSIGN(std::string path, parse_byte_string(member));
  if (path.empty()) return invalid_value(member, "is empty");
  if (path.size() > kMaxPathBytes) return invalid_value(member, "is longer than 4095 bytes");
  return path;
}

}  // namespace

std::string_view file_op_name(FileOp op) { return entry_of(op).name; }

std::optional<FileOp> file_op_from_name(std::string_view name) {
  for (const OpEntry& entry : kOps) {
    if (entry.name == name) return entry.op;
  }
  return std::nullopt;
}

void FileRequest::write(JsonWriter& out) const {
  const OpEntry& entry = entry_of(op);
  const auto has = [&](std::uint32_t member) { return (entry.members & member) != 0; };
  out.begin_object().field("op", entry.name);
  write_byte_field(out, "path", path);
  if (has(kTo)) write_byte_field(out, "to", to);
  if (has(kOffset) && offset != 0) out.field("offset", offset);
  if (has(kLength) && length) out.field("length", *length);
  if (has(kHow)) out.field("how", kWriteModes[static_cast<std::size_t>(write_mode)]);
  if (has(kMode) && mode) out.field("mode", *mode);
  if (has(kOwner) && !owner.empty()) write_byte_field(out, "owner", owner);
  if (has(kTimes) && mtime_ns) out.field("mtime_ns", *mtime_ns);
  if (has(kTimes) && atime_ns) out.field("atime_ns", *atime_ns);
  if (has(kParents) && parents) out.field("parents", true);
  if (has(kRecursive) && recursive) out.field("recursive", true);
  if (has(kMissingOk) && missing_ok) out.field("missing_ok", true);
  if (has(kNoReplace) && no_replace) out.field("no_replace", true);
  if (has(kFollow) && follow) out.field("follow", true);
  out.end_object();
}

Result<FileRequest> FileRequest::parse(FileOp op, const JsonView& value) {
  const OpEntry& entry = entry_of(op);
  MSB_TRY(check_keys(entry, value));
  FileRequest request;
  request.op = op;
  MSB_ASSIGN(request.path, get_path(value, "path"));
  if ((entry.members & kTo) != 0) {
    MSB_ASSIGN(request.to, get_path(value, "to"));
  }
  MSB_ASSIGN(request.offset, value.get_uint_or("offset", 0, INT64_MAX));
  MSB_ASSIGN(request.length, get_optional_uint(value, "length", INT64_MAX));
  if (const auto how = value.find("how")) {
    MSB_ASSIGN(request.write_mode, parse_enum<WriteMode>(*how, kWriteModes));
  }
  MSB_ASSIGN(request.mode, get_optional_u32(value, "mode", kModeBits));
  MSB_ASSIGN(request.owner, get_byte_string_or(value, "owner", ""));
  MSB_ASSIGN(request.mtime_ns, get_optional_int(value, "mtime_ns"));
  MSB_ASSIGN(request.atime_ns, get_optional_int(value, "atime_ns"));
  MSB_ASSIGN(request.parents, value.get_bool_or("parents", false));
  MSB_ASSIGN(request.recursive, value.get_bool_or("recursive", false));
  MSB_ASSIGN(request.missing_ok, value.get_bool_or("missing_ok", false));
  MSB_ASSIGN(request.no_replace, value.get_bool_or("no_replace", false));
  MSB_ASSIGN(request.follow, value.get_bool_or("follow", false));
  if (op == FileOp::kChmod && !request.mode) return invalid_value(value, "\"mode\" is missing");
  if (op == FileOp::kChown && request.owner.empty()) return invalid_value(value, "\"owner\" is missing");
  if (op == FileOp::kTruncate && !request.length) return invalid_value(value, "\"length\" is missing");
  if (request.offset != 0 && op == FileOp::kWrite && request.write_mode != WriteMode::kUpdate) {
    return invalid_value(value, "\"offset\" needs \"how\":\"update\"");
  }
  return request;
}

std::string_view file_kind_name(FileKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }

FileKind file_kind_from_mode(std::uint32_t st_mode) {
  switch (st_mode & S_IFMT) {
    case S_IFDIR:
      return FileKind::kDirectory;
    case S_IFLNK:
      return FileKind::kSymlink;
    case S_IFIFO:
      return FileKind::kFifo;
    case S_IFSOCK:
      return FileKind::kSocket;
    case S_IFCHR:
      return FileKind::kCharDevice;
    case S_IFBLK:
      return FileKind::kBlockDevice;
    default:
      return FileKind::kFile;
  }
}

void FileInfo::write_members(JsonWriter& out) const {
  out.field("kind", file_kind_name(kind)).field("mode", mode).field("uid", uid).field("gid", gid);
  out.field("size", size).field("nlink", nlink).field("inode", inode).field("device", device);
  if (kind == FileKind::kCharDevice || kind == FileKind::kBlockDevice) out.field("rdev", rdev);
  out.field("mtime_ns", mtime_ns).field("atime_ns", atime_ns).field("ctime_ns", ctime_ns);
  if (kind == FileKind::kSymlink) write_byte_field(out, "target", target);
}
void FileInfo::write(JsonWriter& out) const {
  out.begin_object();
  write_members(out);
  out.end_object();
}
Result<FileInfo> FileInfo::parse(const JsonView& value) {
  FileInfo info;
  MSB_ASSIGN(const JsonView kind_value, value.at("kind"));
  MSB_ASSIGN(info.kind, parse_enum<FileKind>(kind_value, kKinds));
  MSB_ASSIGN(info.mode, get_narrow_or<std::uint32_t>(value, "mode", 0, kModeBits));
  MSB_ASSIGN(info.uid, get_narrow_or<std::uint32_t>(value, "uid", 0, UINT32_MAX));
  MSB_ASSIGN(info.gid, get_narrow_or<std::uint32_t>(value, "gid", 0, UINT32_MAX));
  MSB_ASSIGN(info.size, value.get_uint_or("size", 0));
  MSB_ASSIGN(info.nlink, value.get_uint_or("nlink", 0));
  MSB_ASSIGN(info.inode, value.get_uint_or("inode", 0));
  MSB_ASSIGN(info.device, value.get_uint_or("device", 0));
  MSB_ASSIGN(info.rdev, value.get_uint_or("rdev", 0));
  MSB_ASSIGN(info.mtime_ns, value.get_int_or("mtime_ns", 0));
  MSB_ASSIGN(info.atime_ns, value.get_int_or("atime_ns", 0));
  MSB_ASSIGN(info.ctime_ns, value.get_int_or("ctime_ns", 0));
  MSB_ASSIGN(info.target, get_byte_string_or(value, "target", ""));
  return info;
}

void DirBatch::write(JsonWriter& out) const {
  out.begin_object().key("entries").begin_array();
  for (const DirEntry& entry : entries) {
    out.begin_object();
    write_byte_field(out, "name", entry.name);
    entry.info.write_members(out);
    out.end_object();
  }
  out.end_array().end_object();
}
Result<DirBatch> DirBatch::parse(const JsonView& value) {
  DirBatch batch;
  MSB_ASSIGN(const JsonView array, value.at("entries"));
  MSB_ASSIGN(const std::vector<JsonView> elements, array.elements());
  for (const JsonView& element : elements) {
    DirEntry entry;
    MSB_ASSIGN(entry.name, get_byte_string(element, "name"));
    if (!is_plain_relative_path(entry.name) || entry.name.find('/') != std::string::npos) {
      return invalid_value(element, "\"name\" is not a file name");
    }
    MSB_ASSIGN(entry.info, FileInfo::parse(element));
    batch.entries.push_back(std::move(entry));
  }
  return batch;
}

void PathReply::write(JsonWriter& out) const {
  out.begin_object();
  write_byte_field(out, "path", path);
  out.end_object();
}
Result<PathReply> PathReply::parse(const JsonView& value) {
  PathReply reply;
  MSB_ASSIGN(reply.path, get_byte_string(value, "path"));
  return reply;
}

bool is_plain_relative_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes || path.find('\0') != std::string_view::npos) return false;
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string_view component = path.substr(0, slash);
    if (component.empty() || component == "." || component == ".." || component.size() > kMaxNameBytes)
      return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

void TreeEntry::write(JsonWriter& out) const {
  out.begin_object();
  write_byte_field(out, "path", path);
  out.field("kind", file_kind_name(kind)).field("mode", mode);
  if (uid) out.field("uid", *uid);
  if (gid) out.field("gid", *gid);
  if (mtime_ns) out.field("mtime_ns", *mtime_ns);
  if (kind == FileKind::kFile) out.field("size", size);
  if (kind == FileKind::kCharDevice || kind == FileKind::kBlockDevice) out.field("rdev", rdev);
  if (kind == FileKind::kSymlink) write_byte_field(out, "target", target);
  if (!link.empty()) write_byte_field(out, "link", link);
  out.end_object();
}
Result<TreeEntry> TreeEntry::parse(const JsonView& value) {
  MSB_TRY(
      value.only_keys({"path", "kind", "mode", "uid", "gid", "mtime_ns", "size", "rdev", "target", "link"}));
  TreeEntry entry;
  MSB_ASSIGN(const JsonView path_value, value.at("path"));
  MSB_ASSIGN(entry.path, parse_byte_string(path_value));
  if (!entry.path.empty() && !is_plain_relative_path(entry.path)) {
    return invalid_value(path_value, "is not a plain relative path");
  }
  MSB_ASSIGN(const JsonView kind_value, value.at("kind"));
  MSB_ASSIGN(entry.kind, parse_enum<FileKind>(kind_value, kKinds));
  MSB_ASSIGN(entry.mode, get_narrow_or<std::uint32_t>(value, "mode", 0, kModeBits));
  MSB_ASSIGN(entry.uid, get_optional_u32(value, "uid"));
  MSB_ASSIGN(entry.gid, get_optional_u32(value, "gid"));
  MSB_ASSIGN(entry.mtime_ns, get_optional_int(value, "mtime_ns"));
  MSB_ASSIGN(entry.size, value.get_uint_or("size", 0));
  MSB_ASSIGN(entry.rdev, value.get_uint_or("rdev", 0));
  MSB_ASSIGN(entry.target, get_byte_string_or(value, "target", ""));
  MSB_ASSIGN(entry.link, get_byte_string_or(value, "link", ""));
  if (entry.kind == FileKind::kSymlink && (entry.target.empty() || entry.target.size() > kMaxPathBytes)) {
    return invalid_value(value, "\"target\" is missing or too long");
  }
  if (!entry.link.empty() && (entry.kind != FileKind::kFile || !is_plain_relative_path(entry.link))) {
    return invalid_value(value, "\"link\" is not a plain relative path of a file");
  }
  return entry;
}

void WatchEvent::write(JsonWriter& out) const {
  out.begin_object().field("event", kWatchKinds[static_cast<std::size_t>(kind)]);
  write_byte_field(out, "path", path);
  out.field("dir", directory);
  if (cookie != 0) out.field("cookie", cookie);
  out.end_object();
}
Result<WatchEvent> WatchEvent::parse(const JsonView& value) {
  WatchEvent event;
  MSB_ASSIGN(const JsonView kind_value, value.at("event"));
  MSB_ASSIGN(event.kind, parse_enum<Kind>(kind_value, kWatchKinds));
  MSB_ASSIGN(event.path, get_byte_string_or(value, "path", ""));
  MSB_ASSIGN(event.directory, value.get_bool_or("dir", false));
  MSB_ASSIGN(event.cookie, get_narrow_or<std::uint32_t>(value, "cookie", 0, UINT32_MAX));
  return event;
}

}  // namespace msb::proto
