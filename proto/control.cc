// SPDX-License-Identifier: Apache-2.0
#include "proto/control.h"

#include <array>
#include <utility>

#include "proto/json_fields.h"

namespace msb::proto {
namespace {
constexpr std::array<std::pair<std::string_view, ControlOp>, 9> kOps{{{"status", ControlOp::kStatus},
                                                                      {"stop", ControlOp::kStop},
                                                                      {"kill", ControlOp::kKill},
                                                                      {"pause", ControlOp::kPause},
                                                                      {"resume", ControlOp::kResume},
                                                                      {"wait", ControlOp::kWait},
                                                                      {"events", ControlOp::kEvents},
                                                                      {"touch", ControlOp::kTouch},
                                                                      {"net", ControlOp::kNet}}};
constexpr std::uint64_t kMaxGraceMs = std::uint64_t{24} * 3600 * 1000;
}  // namespace

Result<ControlRequest> ControlRequest::parse(std::string_view json) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json, kMessageLimits));
  const JsonView root = document.root();
  MSB_ASSIGN(const std::string op, root.get_string("op"));
  ControlRequest request;
  bool known = false;
  for (const auto& [name, value] : kOps) {
    if (name != op) continue;
    request.op = value;
    known = true;
  }
  if (!known) return make_error(Errc::kUnsupported, "op: this version does not know \"%s\"", op.c_str());
  if (request.op == ControlOp::kNet) {
    MSB_TRY(root.only_keys({"op", "request"}));
    MSB_ASSIGN(const JsonView inner, root.at("request"));
    if (!inner.is_object()) return make_error(Errc::kInvalid, "request: must be an object");
    request.net = inner.dump();
    return request;
  }
  if (request.op != ControlOp::kStop) {
    MSB_TRY(root.only_keys({"op"}));
    return request;
  }
  MSB_TRY(root.only_keys({"op", "grace_ms", "force"}));
  MSB_ASSIGN(request.grace_ms, get_optional_uint(root, "grace_ms", kMaxGraceMs));
  MSB_ASSIGN(request.force, root.get_bool_or("force", false));
  return request;
}

}  // namespace msb::proto
