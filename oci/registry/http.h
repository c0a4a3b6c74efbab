// SPDX-License-Identifier: Apache-2.0
// HTTP GET as registries need it, over libcurl: bodies are read forward at the reader's pace, redirects and
// time are bounded, proxies come from the environment (http_proxy, https_proxy, all_proxy, no_proxy).
//
// One HttpExchange is used by one thread at a time; different ones may run in parallel.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/byte_stream.h"

namespace msb::oci {

// What all requests to one registry have in common.
struct HttpPolicy {
  bool plain_http = false;  // http:// is allowed, also as a redirect's target
  bool skip_verify = false;
  std::string ca_file;  // more roots than the system's; may be empty
  long connect_timeout_s = 30;
  long stall_timeout_s = 60;  // no kStallBytes in this time: given up
};

struct HttpRequest {
  std::string url;
  std::string accept;          // media types, as the header has them
  std::string bearer;          // token, or
  std::string user, password;  // basic authentication; never sent to another host after a redirect
  std::string post_form;       // not empty: POST of this application/x-www-form-urlencoded body
  std::uint64_t offset = 0;    // the first byte wanted
};

class HttpExchange final : public ByteStream {
 public:
  // Sends the request and waits for the headers of its last redirect. kUnavailable or kTimeout when the
  // network fails, which may be worth another try; kProtocol and kPermission (TLS) are not.
  [[nodiscard]] static Result<std::unique_ptr<HttpExchange>> open(const HttpPolicy& policy,
                                                                  const HttpRequest& request);
  ~HttpExchange() override;
  [[nodiscard]] long status() const;
  // The value of the last header of this (lower-case) name; "" if there is none.
  [[nodiscard]] std::string header(std::string_view name) const;
  // Errors as open(); a body that ends before its Content-Length is kUnavailable.
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override;
  // The whole body; kLimit above `max_bytes`.
  [[nodiscard]] Result<std::string> read_text(std::size_t max_bytes);

 private:
  struct State;
  explicit HttpExchange(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace msb::oci
