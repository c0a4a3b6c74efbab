// SPDX-License-Identifier: Apache-2.0
// NetLink: the supervisor role's side of msb-net: requests on its control socket, answered in order, the
// lines of its audit stream, which go into a rotated file, and the host's name servers, which msb-net cannot
// read for itself.
//
// msb-net parses frames of the guest: what comes from it is bounded and only passed on. The one thing that it
// can ask for is the host's resolv.conf.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "vmm/frame_stream.h"
#include "vmm/rotated_file.h"

namespace msb::vmm {

class NetLink final : private FrameStream::Events {
 public:
  using Answer = std::function<void(proto::FrameType type, std::string_view payload)>;
  // Takes msb-net's control socket and the reading end of its audit pipe (non-blocking).
  [[nodiscard]] static Result<std::unique_ptr<NetLink>> open(EventLoop& loop, UniqueFd control,
                                                             UniqueFd audit, RotatedFile log);
  ~NetLink() override;

  // Sends one request (a JSON object; net/net_process.h). `answer` gets REPLY or ERROR, once; never when
  // msb-net ends first.
  void ask(std::string_view request, Answer answer);
  // Why msb-net could not start, if it said so.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }

 private:
  NetLink(EventLoop& loop, UniqueFd audit, RotatedFile log)
      : loop_(loop), audit_(std::move(audit)), log_(std::move(log)) {}
  void on_frame(FrameStream& stream, const proto::Frame& frame) override;
  void on_closed(FrameStream& stream, const std::string& why) override;
  void on_audit();
  void tell_resolv_conf();

  EventLoop& loop_;
  std::unique_ptr<FrameStream> stream_;
  std::deque<Answer> waiting_;
  std::optional<Error> failure_;
  UniqueFd audit_;
  EventLoop::IoToken audit_token_;
  RotatedFile log_;
  std::string partial_;      // of a line
  std::string resolv_conf_;  // as msb-net was last told
  Instant resolv_conf_at_;
};

}  // namespace msb::vmm
