// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/file_service.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "base/file.h"
#include "guest-agent/file_ops.h"
#include "guest-agent/frame_stream.h"
#include "guest-agent/tree_transfer.h"
#include "guest-agent/watch.h"
#include "proto/agent.h"

namespace msb::agent {
namespace {

constexpr std::size_t kEntriesPerFrame = 128;

struct EmptyReply {
  void write(JsonWriter& out) const { out.begin_object().end_object(); }
};

proto::ErrorReply to_reply(const Error& error, proto::FileOp op) {
  return {std::string(errc_name(error.code)), error.sys_errno, std::string(proto::file_op_name(op)),
          error.text};
}

Status serve_read(const proto::FileRequest& request, FrameStream& stream) {
  const std::string path = absolute(request.path);
  MSB_ASSIGN(const UniqueFd fd, open_file(path, O_RDONLY | O_NOCTTY));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return sys_error("look at " + path);
  if (S_ISDIR(info.st_mode)) return sys_error("read " + path, EISDIR);
  if (request.offset != 0 && ::lseek(fd.get(), static_cast<off_t>(request.offset), SEEK_SET) < 0) {
    return sys_error("seek in " + path);
  }
  MSB_TRY(stream.send_message(proto::FrameType::kReply, to_file_info(info)));
  return send_contents(fd.get(), request.length, stream);
}

Status serve_write(const proto::FileRequest& request, FrameStream& stream) {
  MSB_ASSIGN(FileSink sink, FileSink::open(request));
  while (true) {
    MSB_ASSIGN(const proto::Frame frame, stream.receive());
    if (frame.type() == proto::FrameType::kDataEof) break;
    if (frame.type() != proto::FrameType::kData) {
      return make_error(Errc::kProtocol, "write: unexpected frame of type %u", unsigned{frame.raw_type});
    }
    MSB_TRY(sink.write(frame.payload));
  }
  MSB_ASSIGN(const proto::FileInfo info, sink.finish());
  return stream.send_message(proto::FrameType::kReply, info);
}

Status serve_readdir(const proto::FileRequest& request, FrameStream& stream) {
  struct CloseDir {
    void operator()(DIR* directory) const { ::closedir(directory); }
  };
  const std::string path = absolute(request.path);
  const std::unique_ptr<DIR, CloseDir> directory(::opendir(path.c_str()));
  if (!directory) return sys_error("open directory " + path);
  proto::DirBatch batch;
  const auto flush = [&]() -> Status {
    MSB_TRY(stream.send_message(proto::FrameType::kEntry, batch));
    batch.entries.clear();
    return {};
  };
  while (true) {
    errno = 0;
    const dirent* found = ::readdir(directory.get());
    if (found == nullptr) {
      if (errno != 0) return sys_error("read directory " + path);
      break;
    }
    const std::string_view name = found->d_name;
    if (name == "." || name == "..") continue;
    auto info = describe(::dirfd(directory.get()), found->d_name);
    if (!info.ok()) {
      if (info.error().sys_errno == ENOENT) continue;  // gone meanwhile
      return std::move(info).error();
    }
    batch.entries.push_back({found->d_name, std::move(info).value()});
    // A link's target may be long: keep the frame within its limit.
    const bool large =
        !batch.entries.back().info.target.empty() && batch.entries.size() >= kEntriesPerFrame / 8;
    if (batch.entries.size() >= kEntriesPerFrame || large) MSB_TRY(flush());
  }
  if (!batch.entries.empty()) MSB_TRY(flush());
  return stream.send_message(proto::FrameType::kReply, EmptyReply{});
}

Status serve_simple(const proto::FileRequest& request, FrameStream& stream) {
  MSB_ASSIGN(const FileAnswer answer, run_file_op(request));
  if (answer.info) return stream.send_message(proto::FrameType::kReply, *answer.info);
  if (answer.path) return stream.send_message(proto::FrameType::kReply, proto::PathReply{*answer.path});
  return stream.send_message(proto::FrameType::kReply, EmptyReply{});
}

Status serve(const proto::FileRequest& request, FrameStream& stream) {
  switch (request.op) {
    case proto::FileOp::kRead:
      return serve_read(request, stream);
    case proto::FileOp::kWrite:
      return serve_write(request, stream);
    case proto::FileOp::kReaddir:
      return serve_readdir(request, stream);
    case proto::FileOp::kWatch:
      return serve_watch(request, stream);
    case proto::FileOp::kTreeOut:
      MSB_TRY(send_tree(request, stream));
      return stream.send_message(proto::FrameType::kReply, EmptyReply{});
    case proto::FileOp::kTreeIn:
      MSB_TRY(receive_tree(request, stream));
      return stream.send_message(proto::FrameType::kReply, EmptyReply{});
    default:
      return serve_simple(request, stream);
  }
}

}  // namespace

void FileService::run() {
  FrameStream stream(std::move(connection_));
  Status status = serve(request_, stream);
  if (status.ok()) return;
  const Error error = std::move(status).error();
  (void)stream.send_message(proto::FrameType::kError, to_reply(error, request_.op));
  // The client may still be sending: let it read the error before the connection is reset.
  ::shutdown(stream.socket(), SHUT_WR);
  for (int i = 0; i < 4096; ++i) {
    if (!stream.receive().ok()) return;
  }
}

void FileService::refuse(const Error& error) {
  Bytes out = std::move(connection_.unsent);
  append_frame(out, proto::FrameType::kError, proto::to_json(to_reply(error, request_.op)));
  (void)::send(connection_.socket.get(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  connection_.socket.reset();
}

}  // namespace msb::agent
