// SPDX-License-Identifier: Apache-2.0
#include "supervisor/conf_file.h"

#include <yaml.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/file.h"
#include "base/json.h"

namespace msb::supervisor {
namespace {

constexpr std::size_t kMaxDepth = 24;
constexpr std::size_t kMaxNodes = 100'000;

struct Mark {
  const std::string* file = nullptr;
  std::size_t line = 0;  // from 1
  std::size_t column = 0;
  [[nodiscard]] std::string text() const {
    return *file + ":" + std::to_string(line) + ":" + std::to_string(column);
  }
};

struct Node {
  enum class Kind : std::uint8_t { kNull, kBool, kInteger, kString, kList, kMap };
  Kind kind = Kind::kNull;
  Mark mark;
  std::string scalar;
  std::vector<Node> list;         // elements; of a map: its values
  std::vector<std::string> keys;  // of a map, in step with `list`
  [[nodiscard]] Node* find(std::string_view key);
  void add(std::string key, Node value) {
    keys.push_back(std::move(key));
    list.push_back(std::move(value));
  }
};

Node* Node::find(std::string_view key) {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return found == keys.end() ? nullptr : &list[static_cast<std::size_t>(found - keys.begin())];
}

// Owns libyaml's parser and the event it looks at.
class Events {
 public:
  Events(const std::string& file, std::string_view text) : file_(file) {
    ::yaml_parser_initialize(&parser_);
    // NOLINTNEXTLINE: libyaml takes bytes as unsigned char
    ::yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                   text.size());
    ::yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
  }
  ~Events() {
    if (have_) ::yaml_event_delete(&event_);
    ::yaml_parser_delete(&parser_);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  Status next() {
    if (have_) ::yaml_event_delete(&event_);
    have_ = ::yaml_parser_parse(&parser_, &event_) == 1;
    if (have_) return {};
    const Mark mark{&file_, parser_.problem_mark.line + 1, parser_.problem_mark.column + 1};
    return Error{Errc::kInvalid, 0,
                 mark.text() + ": " + (parser_.problem != nullptr ? parser_.problem : "not YAML")};
  }
  [[nodiscard]] const yaml_event_t& event() const { return event_; }
  [[nodiscard]] Mark mark() const {
    return {&file_, event_.start_mark.line + 1, event_.start_mark.column + 1};
  }
  [[nodiscard]] Error refuse(std::string_view why) const {
    return Error{Errc::kInvalid, 0, mark().text() + ": " + std::string(why)};
  }

 private:
  const std::string& file_;
  yaml_parser_t parser_{};
  yaml_event_t event_{};
  bool have_ = false;
};

std::string_view view_of(const unsigned char* data, std::size_t length) {
  return {reinterpret_cast<const char*>(data), length};  // NOLINT: libyaml's bytes are text
}

Result<std::string> interpolate(const Events& events, std::string_view text, GetEnv getenv_fn) {
  std::string out;
  while (!text.empty()) {
    if (text.starts_with("$${")) {
      out += "${";
      text.remove_prefix(3);
    } else if (text.starts_with("${")) {
      const auto end = text.find('}');
      if (end == std::string_view::npos || end == 2)
        return events.refuse("\"${\" without a name and \"}\" ($${ is a plain ${)");
      const std::string name(text.substr(2, end - 2));
      const char* value = getenv_fn != nullptr ? getenv_fn(name.c_str()) : nullptr;
      if (value == nullptr) return events.refuse("the environment variable " + name + " is not set");
      out += value;
      text.remove_prefix(end + 1);
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

bool is_integer(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  if (text.empty() || text.size() > 18 || (text.size() > 1 && text.front() == '0')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

class Loader {
 public:
  Loader(const ConfFile& file, GetEnv getenv_fn) : events_(file.name, file.text), getenv_(getenv_fn) {}

  Result<Node> load() {
    MSB_TRY(events_.next());  // stream start
    MSB_TRY(events_.next());
    if (events_.event().type == YAML_STREAM_END_EVENT) return events_.refuse("the file is empty");
    MSB_TRY(events_.next());
    MSB_ASSIGN(Node root, node(0));
    MSB_TRY(events_.next());  // document end
    MSB_TRY(events_.next());
    if (events_.event().type != YAML_STREAM_END_EVENT) return events_.refuse("only one document is allowed");
    if (root.kind != Node::Kind::kMap)
      return Error{Errc::kInvalid, 0, root.mark.text() + ": must be a mapping"};
    return root;
  }

 private:
  // The current event starts the node; afterwards the current event is its last.
  Result<Node> node(std::size_t depth) {
    if (depth > kMaxDepth) return events_.refuse("nested too deeply");
    if (++nodes_ > kMaxNodes) return events_.refuse("too many values");
    Node out;
    out.mark = events_.mark();
    const yaml_event_t& event = events_.event();
    switch (event.type) {
      case YAML_SCALAR_EVENT: {
        const auto& scalar = event.data.scalar;
        if (scalar.anchor != nullptr) return events_.refuse("anchors are not allowed");
        if (scalar.tag != nullptr) return events_.refuse("tags are not allowed");
        const std::string_view text = view_of(scalar.value, scalar.length);
        const bool plain = scalar.style == YAML_PLAIN_SCALAR_STYLE;
        if (plain && (text.empty() || text == "null" || text == "~")) return out;
        if (plain && (text == "true" || text == "false")) {
          out.kind = Node::Kind::kBool;
          out.scalar = text;
          return out;
        }
        out.kind = plain && is_integer(text) ? Node::Kind::kInteger : Node::Kind::kString;
        MSB_ASSIGN(out.scalar, interpolate(events_, text, getenv_));
        return out;
      }
      case YAML_SEQUENCE_START_EVENT:
        if (event.data.sequence_start.anchor != nullptr) return events_.refuse("anchors are not allowed");
        if (event.data.sequence_start.tag != nullptr) return events_.refuse("tags are not allowed");
        out.kind = Node::Kind::kList;
        MSB_TRY(events_.next());
        while (events_.event().type != YAML_SEQUENCE_END_EVENT) {
          MSB_ASSIGN(Node element, node(depth + 1));
          out.list.push_back(std::move(element));
          MSB_TRY(events_.next());
        }
        return out;
      case YAML_MAPPING_START_EVENT:
        if (event.data.mapping_start.anchor != nullptr) return events_.refuse("anchors are not allowed");
        if (event.data.mapping_start.tag != nullptr) return events_.refuse("tags are not allowed");
        out.kind = Node::Kind::kMap;
        MSB_TRY(events_.next());
        while (events_.event().type != YAML_MAPPING_END_EVENT) {
          MSB_TRY(member(out, depth));
          MSB_TRY(events_.next());
        }
        return out;
      case YAML_ALIAS_EVENT:
        return events_.refuse("aliases are not allowed");
      default:
        return events_.refuse("a value is missing");
    }
  }

  Status member(Node& map, std::size_t depth) {
    const yaml_event_t& event = events_.event();
    if (event.type != YAML_SCALAR_EVENT) return events_.refuse("a key must be a plain word");
    const std::string key(view_of(event.data.scalar.value, event.data.scalar.length));
    if (key == "<<") return events_.refuse("merge keys are not allowed");
    if (map.find(key) != nullptr) return events_.refuse("the key \"" + key + "\" is given twice");
    MSB_TRY(events_.next());
    MSB_ASSIGN(Node value, node(depth + 1));
    map.add(key, std::move(value));
    return {};
  }

  Events events_;
  GetEnv getenv_;
  std::size_t nodes_ = 0;
};

void merge(Node& base, Node over) {
  if (base.kind != Node::Kind::kMap || over.kind != Node::Kind::kMap) {
    base = std::move(over);
    return;
  }
  for (std::size_t i = 0; i < over.keys.size(); ++i) {
    if (Node* mine = base.find(over.keys[i])) {
      merge(*mine, std::move(over.list[i]));
    } else {
      base.add(std::move(over.keys[i]), std::move(over.list[i]));
    }
  }
}

// Makes the host paths of one file independent of the directory msb runs in.
void resolve_paths(Node& root, const std::string& directory) {
  const auto absolute = [&](std::string& path) {
    if (!path.starts_with("/")) path = directory + "/" + path;
  };
  if (Node* mounts = root.find("mounts")) {
    for (Node& mount : mounts->list) {
      if (mount.kind == Node::Kind::kString && mount.scalar.starts_with(".")) absolute(mount.scalar);
      Node* bind = mount.find("bind");
      if (bind != nullptr && bind->kind == Node::Kind::kString) absolute(bind->scalar);
    }
  }
  if (Node* patches = root.find("patches")) {
    for (Node& patch : patches->list) {
      Node* source = patch.find("source");
      if (source != nullptr && source->kind == Node::Kind::kString) absolute(source->scalar);
    }
  }
}

using Places = std::map<std::string, Mark, std::less<>>;

// Writes JSON and notes where each path of it (spelled as JsonView::path does) came from.
void write_node(const Node& node, const std::string& path, JsonWriter& out, Places& places) {
  places.emplace(path, node.mark);
  switch (node.kind) {
    case Node::Kind::kNull:
      out.null();
      break;
    case Node::Kind::kBool:
      out.boolean(node.scalar == "true");
      break;
    case Node::Kind::kInteger:
      out.raw(node.scalar);
      break;
    case Node::Kind::kString:
      out.string(node.scalar);
      break;
    case Node::Kind::kList: {
      out.begin_array();
      std::size_t index = 0;
      for (const Node& element : node.list)
        write_node(element, path + "[" + std::to_string(index++) + "]", out, places);
      out.end_array();
      break;
    }
    case Node::Kind::kMap:
      out.begin_object();
      for (std::size_t i = 0; i < node.keys.size(); ++i) {
        const std::string& key = node.keys[i];
        out.key(key);
        write_node(node.list[i], path.empty() ? key : path + "." + key, out, places);
      }
      out.end_object();
      break;
  }
}

// Puts FILE:LINE:COLUMN before an error whose text starts with a path of the document.
Error locate(Error error, const Places& places) {
  const auto colon = error.text.find(": ");
  const auto place = places.find(error.text.substr(0, colon));
  if (place == places.end() || place->second.file == nullptr) return error;  // the document as a whole
  return std::move(error).with_context(place->second.text());
}

}  // namespace

Result<SandboxSpec> spec_from_conf(const std::vector<ConfFile>& files, GetEnv getenv_fn) {
  Node merged;
  merged.kind = Node::Kind::kMap;
  for (const ConfFile& file : files) {
    if (file.text.size() > kMaxConfBytes) return Error{Errc::kLimit, 0, file.name + ": larger than 16 MiB"};
    if (!is_utf8(file.text)) return Error{Errc::kInvalid, 0, file.name + ": not UTF-8"};
    MSB_ASSIGN(Node root, Loader(file, getenv_fn).load());
    resolve_paths(root, parent_path(file.name));
    merge(merged, std::move(root));
  }
  JsonWriter out;
  Places places;
  write_node(merged, "", out, places);
  auto spec = spec_from_json(std::move(out).take());
  if (!spec.ok()) return locate(std::move(spec).error(), places);
  return spec;
}

}  // namespace msb::supervisor
