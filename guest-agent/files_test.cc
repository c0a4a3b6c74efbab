// SPDX-License-Identifier: Apache-2.0
// File operations through a real server, in a temporary directory.
#include <sys/stat.h>

#include <map>

#include "guest-agent/test_support.h"

namespace msb::agent {
namespace {

using Kind = proto::AgentEvent::Kind;
using proto::FileOp;

proto::FileRequest request_for(FileOp op, const std::string& path) {
  proto::FileRequest request;
  request.op = op;
  request.path = path;
  return request;
}

// An operation that is answered by one frame: "ok", or the code of its error.
struct Answer {
  std::string code;
  std::string json;
};
Answer ask(const AgentProcess& agent, const proto::FileRequest& request) {
  TestClient client(agent);
  client.start({request});
  const auto event = client.next();
  if (!event) return {"connection lost", ""};
  if (event->kind == Kind::kError) return {event->error.code, event->error.text};
  return {"ok", std::string(as_text(event->data))};
}

std::string write_contents(const AgentProcess& agent, const proto::FileRequest& request,
                           std::string_view contents) {
  TestClient client(agent);
  client.session().request({request});
  client.session().data(as_bytes(contents));
  client.session().data_eof();
  const auto event = client.next();
  if (!event) return "connection lost";
  return event->kind == Kind::kError ? event->error.code : "ok";
}

std::string read_contents(const AgentProcess& agent, const proto::FileRequest& request) {
  TestClient client(agent);
  client.start({request});
  std::string out;
  while (const auto event = client.next()) {
    if (event->kind == Kind::kData) out += as_text(event->data);
    if (event->kind == Kind::kError) return "error " + event->error.code;
  }
  return out;
}

mode_t mode_of(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

TEST(FileTest, WriteAndRead_AnySize) {
  const AgentProcess agent;
  const TempDir dir;
  std::string contents;
  for (int i = 0; contents.size() < (std::size_t{5} << 20); ++i)
    contents += std::to_string(i) + std::string("\0\n", 2);
  EXPECT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "big"), contents), "ok");
  EXPECT_TRUE(read_contents(agent, request_for(FileOp::kRead, dir / "big")) == contents);
  proto::FileRequest part = request_for(FileOp::kRead, dir / "big");
  part.offset = 1000;
  part.length = 70;
  EXPECT_EQ(read_contents(agent, part), contents.substr(1000, 70));
  EXPECT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "empty"), ""), "ok");
  EXPECT_EQ(read_contents(agent, request_for(FileOp::kRead, dir / "empty")), "");
  EXPECT_EQ(read_contents(agent, request_for(FileOp::kRead, dir / "none")), "error not_found");
}

TEST(FileTest, Replace_IsAtomic_KeepsTheMode_AndFollowsALink) {
  const AgentProcess agent;
  const TempDir dir;
  ASSERT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "f"), "old"), "ok");
  ::chmod((dir / "f").c_str(), 0640);
  {
    TestClient client(agent);  // gone before the end of the contents
    client.session().request({request_for(FileOp::kWrite, dir / "f")});
    client.session().data(as_bytes(std::string_view("half")));
    client.flush();
  }
  EXPECT_EQ(*read_file(dir / "f", 100), "old");
  ASSERT_EQ(::symlink("f", (dir / "link").c_str()), 0);
  EXPECT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "link"), "new"), "ok");
  EXPECT_EQ(*read_file(dir / "f", 100), "new");
  EXPECT_EQ(mode_of(dir / "f"), 0640U);
  struct stat info {};
  ASSERT_EQ(::lstat((dir / "link").c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
}

TEST(FileTest, WriteModes) {
  const AgentProcess agent;
  const TempDir dir;
  proto::FileRequest request = request_for(FileOp::kWrite, dir / "a/b/f");
  EXPECT_EQ(write_contents(agent, request, "x"), "not_found");
  request.parents = true;
  request.mode = 0600;
  EXPECT_EQ(write_contents(agent, request, "12345"), "ok");
  EXPECT_EQ(mode_of(dir / "a/b/f"), 0600U);
  request.write_mode = proto::WriteMode::kCreateNew;
  EXPECT_EQ(write_contents(agent, request, "x"), "exists");
  request.write_mode = proto::WriteMode::kAppend;
  EXPECT_EQ(write_contents(agent, request, "67"), "ok");
  EXPECT_EQ(*read_file(dir / "a/b/f", 100), "1234567");
  request.write_mode = proto::WriteMode::kUpdate;
  request.offset = 2;
  EXPECT_EQ(write_contents(agent, request, "XY"), "ok");
  EXPECT_EQ(*read_file(dir / "a/b/f", 100), "12XY567");
  request.write_mode = proto::WriteMode::kTruncate;
  request.offset = 0;
  EXPECT_EQ(write_contents(agent, request, "t"), "ok");
  EXPECT_EQ(*read_file(dir / "a/b/f", 100), "t");
  EXPECT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir.path()), "x"), "system");
}

TEST(FileTest, NamesAndMetadata) {
  const AgentProcess agent;
  const TempDir dir;
  proto::FileRequest mkdir = request_for(FileOp::kMkdir, dir / "d/e");
  EXPECT_EQ(ask(agent, mkdir).code, "not_found");
  mkdir.parents = true;
  mkdir.mode = 01777;
  EXPECT_EQ(ask(agent, mkdir).code, "ok");
  EXPECT_EQ(mode_of(dir / "d/e"), 01777U);
  EXPECT_EQ(ask(agent, mkdir).code, "ok") << "with parents an existing directory is fine";

  ASSERT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "f"), "abc"), "ok");
  proto::FileRequest chmod = request_for(FileOp::kChmod, dir / "f");
  chmod.mode = 0751;
  EXPECT_EQ(ask(agent, chmod).code, "ok");
  proto::FileRequest utime = request_for(FileOp::kUtime, dir / "f");
  utime.mtime_ns = 1'600'000'000'123'456'789;
  EXPECT_EQ(ask(agent, utime).code, "ok");
  const auto info = proto::from_json<proto::FileInfo>(ask(agent, request_for(FileOp::kStat, dir / "f")).json);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->kind, proto::FileKind::kFile);
  EXPECT_EQ(info->mode, 0751U);
  EXPECT_EQ(info->size, 3U);
  EXPECT_EQ(info->mtime_ns, 1'600'000'000'123'456'789);

  proto::FileRequest link = request_for(FileOp::kSymlink, dir / "l");
  link.to = "f";
  EXPECT_EQ(ask(agent, link).code, "ok");
  EXPECT_EQ(ask(agent, link).code, "exists");
  EXPECT_EQ(
      proto::from_json<proto::FileInfo>(ask(agent, request_for(FileOp::kLstat, dir / "l")).json)->target,
      "f");
  EXPECT_EQ(
      proto::from_json<proto::PathReply>(ask(agent, request_for(FileOp::kReadlink, dir / "l")).json)->path,
      "f");
  EXPECT_EQ(
      proto::from_json<proto::PathReply>(ask(agent, request_for(FileOp::kRealpath, dir / "l")).json)->path,
      dir / "f");
  proto::FileRequest truncate = request_for(FileOp::kTruncate, dir / "f");
  truncate.length = 1;
  EXPECT_EQ(ask(agent, truncate).code, "ok");
  EXPECT_EQ(*read_file(dir / "f", 10), "a");

  proto::FileRequest rename = request_for(FileOp::kRename, dir / "f");
  rename.to = dir / "g";
  EXPECT_EQ(ask(agent, rename).code, "ok");
  rename.path = dir / "l";
  rename.no_replace = true;
  EXPECT_EQ(ask(agent, rename).code, "exists");

  EXPECT_EQ(ask(agent, request_for(FileOp::kRemove, dir / "d")).code, "system") << "not empty";
  proto::FileRequest remove = request_for(FileOp::kRemove, dir / "d");
  remove.recursive = true;
  EXPECT_EQ(ask(agent, remove).code, "ok");
  EXPECT_EQ(ask(agent, remove).code, "not_found");
  remove.missing_ok = true;
  EXPECT_EQ(ask(agent, remove).code, "ok");
}

TEST(FileTest, Readdir_TellsAllEntries) {
  const AgentProcess agent;
  const TempDir dir;
  for (int i = 0; i < 500; ++i) {
    ASSERT_EQ(::mkdir((dir / ("\xff" + std::to_string(i))).c_str(), 0700), 0);
  }
  TestClient client(agent);
  client.start({request_for(FileOp::kReaddir, dir.path())});
  std::map<std::string, proto::FileKind> seen;
  bool replied = false;
  while (const auto event = client.next()) {
    if (event->kind == Kind::kReply) replied = true;
    if (event->kind != Kind::kEntry) continue;
    const auto batch = proto::from_json<proto::DirBatch>(as_text(event->data));
    ASSERT_TRUE(batch.ok());
    for (const proto::DirEntry& entry : batch->entries) seen[entry.name] = entry.info.kind;
  }
  EXPECT_TRUE(replied);
  EXPECT_EQ(seen.size(), 500U);
  EXPECT_EQ(seen["\xff"
                 "499"],
            proto::FileKind::kDirectory);
}

// The frames of a tree transfer, kept to be sent again.
struct RecordedTree {
  struct Item {
    proto::TreeEntry entry;
    std::string contents;
  };
  std::vector<Item> items;
  bool complete = false;
};

RecordedTree record_tree(const AgentProcess& agent, const std::string& path) {
  RecordedTree tree;
  TestClient client(agent);
  client.start({request_for(FileOp::kTreeOut, path)});
  while (const auto event = client.next()) {
    switch (event->kind) {
      case Kind::kEntry: {
        auto entry = proto::from_json<proto::TreeEntry>(as_text(event->data));
        EXPECT_TRUE(entry.ok());
        tree.items.push_back({std::move(*entry), ""});
        break;
      }
      case Kind::kData:
        tree.items.back().contents += as_text(event->data);
        break;
      case Kind::kReply:
        tree.complete = true;
        break;
      default:
        break;
    }
  }
  return tree;
}

std::string send_tree(const AgentProcess& agent, const std::string& path, const RecordedTree& tree) {
  TestClient client(agent);
  client.session().request({request_for(FileOp::kTreeIn, path)});
  for (const RecordedTree::Item& item : tree.items) {
    client.session().entry(item.entry);
    if (item.entry.kind != proto::FileKind::kFile || !item.entry.link.empty()) continue;
    client.session().data(as_bytes(item.contents));
    client.session().data_eof();
  }
  client.session().data_eof();
  const auto event = client.next();
  if (!event) return "connection lost";
  return event->kind == Kind::kError ? event->error.code + ": " + event->error.text : "ok";
}

TEST(TreeTest, OutAndIn_KeepsEverything) {
  const AgentProcess agent;
  const TempDir dir;
  ASSERT_EQ(
      run(agent, shell("cd " + dir.path() +
                       " && mkdir -p src/d/empty && echo hello >src/d/f && chmod 4751 src/d/f && "
                       "ln src/d/f src/hard && ln -s /etc/passwd src/link && mkfifo -m 600 src/fifo && "
                       "head -c 3000000 /dev/urandom >src/big && touch -d @1500000000 src/d src/link -h && "
                       "chmod 1770 src/d && touch -d @1400000000 src/d"))
          .exit->code,
      0);
  const RecordedTree tree = record_tree(agent, dir / "src");
  ASSERT_TRUE(tree.complete);
  EXPECT_EQ(tree.items.size(), 8U);
  EXPECT_EQ(send_tree(agent, dir / "copy", tree), "ok");
  const std::string list = "find . -printf '%P %y %m %U %G %s %T@ %l %n\\n' | sort; md5sum big d/f";
  const ExecResult first = run(agent, shell("cd " + (dir / "src") + " && " + list));
  const ExecResult second = run(agent, shell("cd " + (dir / "copy") + " && " + list));
  EXPECT_EQ(first.out, second.out);
  EXPECT_NE(first.out.find("d/f f 4751"), std::string::npos);
  // Again into what is there: merged and replaced.
  EXPECT_EQ(send_tree(agent, dir / "copy", tree), "ok");
  proto::FileRequest copy = request_for(FileOp::kCopy, dir / "src");
  copy.to = dir / "third";
  copy.recursive = true;
  EXPECT_EQ(ask(agent, copy).code, "ok");
  // Hard links become files of their own in a copy inside the guest.
  EXPECT_EQ(
      run(agent, shell("diff -r --no-dereference " + (dir / "src/d") + " " + (dir / "third/d"))).exit->code,
      0);
}

TEST(TreeTest, SingleFile) {
  const AgentProcess agent;
  const TempDir dir;
  ASSERT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "f"), "one"), "ok");
  const RecordedTree tree = record_tree(agent, dir / "f");
  ASSERT_EQ(tree.items.size(), 1U);
  EXPECT_EQ(send_tree(agent, dir / "g", tree), "ok");
  EXPECT_EQ(*read_file(dir / "g", 10), "one");
}

TEST(TreeTest, LinkInTheTarget_IsNotFollowed) {
  const AgentProcess agent;
  const TempDir dir;
  ASSERT_EQ(::mkdir((dir / "outside").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((dir / "in").c_str(), 0700), 0);
  ASSERT_EQ(::symlink("../outside", (dir / "in/d").c_str()), 0);
  RecordedTree tree;
  const auto add = [&](const std::string& path, proto::FileKind kind) {
    proto::TreeEntry entry;
    entry.path = path;
    entry.kind = kind;
    entry.mode = 0700;
    tree.items.push_back({entry, "x"});
  };
  add("", proto::FileKind::kDirectory);
  add("d/f", proto::FileKind::kFile);
  EXPECT_NE(send_tree(agent, dir / "in", tree), "ok");
  EXPECT_NE(::access((dir / "outside/f").c_str(), F_OK), 0);
}

TEST(WatchTest, ChangesAreTold) {
  const AgentProcess agent;
  const TempDir dir;
  ASSERT_EQ(::mkdir((dir / "sub").c_str(), 0700), 0);
  TestClient client(agent);
  proto::FileRequest request = request_for(FileOp::kWatch, dir.path());
  request.recursive = true;
  client.start({request});
  ASSERT_EQ(client.next()->kind, Kind::kReply);
  ASSERT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "sub/f"), "x"), "ok");
  // The temporary file comes and is moved into place.
  std::string kinds;
  while (true) {
    const auto event = client.next();
    ASSERT_TRUE(event.has_value());
    const auto change = proto::from_json<proto::WatchEvent>(as_text(event->data));
    ASSERT_TRUE(change.ok());
    if (change->kind == proto::WatchEvent::Kind::kCreate) kinds += "c";
    if (change->kind == proto::WatchEvent::Kind::kMovedTo) {
      EXPECT_EQ(change->path, "sub/f");
      break;
    }
  }
  EXPECT_EQ(kinds, "c");
}

TEST(FileTest, StalledReader_StallsOnlyItself) {
  const AgentProcess agent;
  TestClient stalled(agent);
  stalled.start({request_for(FileOp::kRead, "/dev/zero")});
  ASSERT_EQ(stalled.next()->kind, Kind::kReply);
  const TempDir dir;
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(write_contents(agent, request_for(FileOp::kWrite, dir / "f"), "x"), "ok");
}

}  // namespace
}  // namespace msb::agent
