// SPDX-License-Identifier: Apache-2.0
#include "vmm/main_command.h"

#include "base/socket.h"
#include "proto/control.h"

namespace msb::vmm {

using proto::ExitReason;
using proto::FrameType;

Result<std::unique_ptr<MainCommand>> MainCommand::start(EventLoop& loop, const Options& options, ExecLog& log,
                                                        std::function<void(Ending)> ended) {
  std::unique_ptr<MainCommand> main(new MainCommand(loop, options.logged, log, std::move(ended)));
  MSB_ASSIGN(UniqueFd socket, connect_unix(options.run_fd, std::string(proto::kVsockSocketName)));
  MSB_ASSIGN(main->stream_, FrameStream::open(loop, std::move(socket), *main, FrameStream::Preface::kOkLine));
  main->stream_->send_text("CONNECT " + std::to_string(proto::kAgentPort) + "\n");
  main->stream_->send(FrameType::kHello, proto::to_json(proto::Hello{.agent = "msb-vmm"}));
  main->stream_->send(FrameType::kRequest, options.request);
  return main;
}

void MainCommand::tell(Ending ending) {
  if (auto ended = std::exchange(ended_, nullptr)) ended(std::move(ending));
}

void MainCommand::on_frame(FrameStream& /*stream*/, const proto::Frame& frame) {
  const std::string_view payload = as_text(frame.payload);
  switch (frame.type()) {
    case FrameType::kStarted:
      if (const auto started = proto::from_json<proto::Started>(payload)) session_ = started->session;
      return;
    case FrameType::kStdout:
      if (logged_) log_.output(session_, proto::LogStream::kStdout, 0, payload);
      return;
    case FrameType::kStderr:
      if (logged_) log_.output(session_, proto::LogStream::kStderr, 0, payload);
      return;
    case FrameType::kExit:
      if (const auto exit = proto::from_json<proto::Exit>(payload)) {
        log_.ended(session_, *exit);
        tell({ExitReason::kMainExited, "the main command ended", *exit});
      }
      return;
    case FrameType::kError:
      on_error(payload);
      return;
    default:
      return;  // HELLO, and what newer agents may tell
  }
}

// It could not be started: the exit code is the one that a shell would give.
void MainCommand::on_error(std::string_view payload) {
  const auto error = proto::from_json<proto::ErrorReply>(payload);
  proto::Exit exit;
  exit.code = error && error->code == "not_found"        ? 127
              : error && error->code == "not_executable" ? 126
                                                         : 125;
  const std::string text = error ? error->text : "it could not be started";
  log_.output(0, proto::LogStream::kStderr, 0, "msb: " + text + "\n");
  tell({ExitReason::kMainExited, "the main command could not be started: " + text, exit});
}

void MainCommand::on_closed(FrameStream& /*stream*/, const std::string& why) {
  FrameStream::dispose(loop_, std::move(stream_));
  tell({ExitReason::kVmmError, "the main command's connection: " + why, std::nullopt});
}

}  // namespace msb::vmm
