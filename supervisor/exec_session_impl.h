// SPDX-License-Identifier: Apache-2.0
// What an ExecSession holds; apart from supervisor.h so that the public header shows no protocol.
#pragma once

#include "supervisor/frame_link.h"
#include "supervisor/supervisor.h"

namespace msb::supervisor {

struct ExecSession::Impl {
  explicit Impl(FrameLink connection) : link(std::move(connection)) {}
  FrameLink link;
  bool stdin_closed = false;
  bool ended = false;
};

}  // namespace msb::supervisor
