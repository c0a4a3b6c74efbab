// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/user_db.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "base/file.h"

namespace msb::agent {
namespace {

constexpr std::size_t kMaxDatabaseBytes = std::size_t{4} << 20;

// Cuts off and returns everything before the first `separator`, which is dropped.
std::string_view cut(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view head = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return head;
}

std::optional<std::uint32_t> parse_id(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // (uid_t)-1 means "leave unchanged" to the kernel.
  if (error != std::errc() || end != text.data() + text.size() || value == UINT32_MAX) return std::nullopt;
  return value;
}

struct PasswdEntry {
  std::string_view name;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string_view home;
  std::string_view shell;
};

// name:password:uid:gid:comment:home:shell
std::optional<PasswdEntry> parse_passwd_line(std::string_view line) {
  PasswdEntry entry;
  entry.name = cut(line, ':');
  cut(line, ':');
  const auto uid = parse_id(cut(line, ':'));
  const auto gid = parse_id(cut(line, ':'));
  if (entry.name.empty() || !uid || !gid) return std::nullopt;
  entry.uid = *uid;
  entry.gid = *gid;
  cut(line, ':');
  entry.home = cut(line, ':');
  entry.shell = cut(line, ':');
  return entry;
}

struct GroupEntry {
  std::string_view name;
  std::uint32_t gid = 0;
  std::string_view members;
};

// name:password:gid:member,member
std::optional<GroupEntry> parse_group_line(std::string_view line) {
  GroupEntry entry;
  entry.name = cut(line, ':');
  cut(line, ':');
  const auto gid = parse_id(cut(line, ':'));
  if (entry.name.empty() || !gid) return std::nullopt;
  entry.gid = *gid;
  entry.members = line;
  return entry;
}

// A name wins over a number, as a user may be called "1000".
std::optional<PasswdEntry> find_user(std::string_view passwd, std::string_view who) {
  const auto id = parse_id(who);
  std::optional<PasswdEntry> by_id;
  while (!passwd.empty()) {
    const auto entry = parse_passwd_line(cut(passwd, '\n'));
    if (!entry) continue;
    if (entry->name == who) return entry;
    if (id && entry->uid == *id && !by_id) by_id = entry;
  }
  return by_id;
}

std::optional<std::uint32_t> find_group(std::string_view groups, std::string_view who) {
  while (!groups.empty()) {
    const auto entry = parse_group_line(cut(groups, '\n'));
    if (entry && entry->name == who) return entry->gid;
  }
  return parse_id(who);
}

bool lists(std::string_view members, std::string_view name) {
  while (!members.empty()) {
    if (cut(members, ',') == name) return true;
  }
  return false;
}

Error unknown(const char* what, std::string_view name) {
  return make_error(Errc::kInvalid, "no %s \"%.*s\" in the image", what,
                    static_cast<int>(std::min<std::size_t>(name.size(), 64)), name.data());
}

void add_group(std::vector<gid_t>& groups, gid_t gid) {
  if (groups.size() < kMaxGroups && std::find(groups.begin(), groups.end(), gid) == groups.end()) {
    groups.push_back(gid);
  }
}

std::string read_database(const char* path) {
  return read_file(path, kMaxDatabaseBytes).value_or(std::string());
}

}  // namespace

Result<Identity> resolve_user(std::string_view passwd, std::string_view group, std::string_view spec,
                              const std::vector<std::string>& extra) {
  const std::size_t colon = spec.find(':');
  const std::string_view user_part = spec.substr(0, colon);
  const std::string_view group_part =
      colon == std::string_view::npos ? std::string_view() : spec.substr(colon + 1);
  Identity identity;
  const std::string_view who = user_part.empty() ? std::string_view("0") : user_part;
  if (const auto entry = find_user(passwd, who)) {
    identity.uid = entry->uid;
    identity.gid = entry->gid;
    identity.name = entry->name;
    if (!entry->home.empty()) identity.home = entry->home;
    identity.shell = entry->shell;
  } else if (const auto uid = parse_id(who)) {
    identity.uid = *uid;
    if (*uid == 0) identity.home = "/root";
  } else {
    return unknown("user", who);
  }
  if (!group_part.empty()) {
    const auto gid = find_group(group, group_part);
    if (!gid) return unknown("group", group_part);
    identity.gid = *gid;
  } else if (!identity.name.empty()) {
    std::string_view rest = group;
    while (!rest.empty()) {
      const auto entry = parse_group_line(cut(rest, '\n'));
      if (entry && lists(entry->members, identity.name)) add_group(identity.groups, entry->gid);
    }
  }
  for (const std::string& name : extra) {
    const auto gid = find_group(group, name);
    if (!gid) return unknown("group", name);
    add_group(identity.groups, *gid);
  }
  return identity;
}

Result<Owner> resolve_owner(std::string_view passwd, std::string_view group, std::string_view spec) {
  const std::size_t colon = spec.find(':');
  const std::string_view user_part = spec.substr(0, colon);
  const std::string_view group_part =
      colon == std::string_view::npos ? std::string_view() : spec.substr(colon + 1);
  Owner owner;
  if (!user_part.empty()) {
    if (const auto entry = find_user(passwd, user_part)) {
      owner.uid = entry->uid;
    } else if (const auto uid = parse_id(user_part)) {
      owner.uid = *uid;
    } else {
      return unknown("user", user_part);
    }
  }
  if (!group_part.empty()) {
    const auto gid = find_group(group, group_part);
    if (!gid) return unknown("group", group_part);
    owner.gid = *gid;
  }
  return owner;
}

std::string read_passwd() { return read_database("/etc/passwd"); }
std::string read_group() { return read_database("/etc/group"); }

}  // namespace msb::agent
