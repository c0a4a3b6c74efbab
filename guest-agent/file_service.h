// SPDX-License-Identifier: Apache-2.0
// One file operation, served on a worker thread that owns the connection and may block: on the disk, on the
// client, on whatever file system the path leads to. Nobody else waits for it.
#pragma once

#include "base/result.h"
#include "guest-agent/connection.h"
#include "proto/file_ops.h"

namespace msb::agent {

class FileService {
 public:
  FileService(proto::FileRequest request, Connection::Raw connection)
      : request_(std::move(request)), connection_(std::move(connection)) {}
  // Worker thread: serves the request to its end and closes the connection.
  void run();
  // Any thread: answers with an error instead, as far as the socket takes it at once.
  void refuse(const Error& error);

 private:
  proto::FileRequest request_;
  Connection::Raw connection_;
};

}  // namespace msb::agent
