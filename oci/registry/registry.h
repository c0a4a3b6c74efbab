// SPDX-License-Identifier: Apache-2.0
// One repository of one registry, read: manifests and blobs (OCI distribution specification 1.0, "Pull"),
// with the token dance, retries and resumption. All methods may be called by several threads.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"
#include "oci/manifest.h"
#include "oci/registry/credentials.h"
#include "oci/registry/http.h"
#include "oci/registry/registry_config.h"

namespace msb::oci {

class Repository {
 public:
  // `retries`: how often a request is tried again after what may pass (a broken connection, 429, 5xx).
  Repository(Endpoint endpoint, std::string name, std::optional<Credentials> credentials, int retries)
      : endpoint_(std::move(endpoint)),
        name_(std::move(name)),
        credentials_(std::move(credentials)),
        retries_(retries) {}

  struct Document {
    std::string text;
    std::string digest;
    std::string media_type;
  };
  // `reference`: a tag or a digest, which the text is checked against. kNotFound, kPermission, kLimit,
  // kProtocol.
  [[nodiscard]] Result<Document> manifest(const std::string& reference);
  // A blob's bytes; its size is the descriptor's and its digest is checked when it has been read to its end.
  // Broken connections are resumed where they broke. `partial_fd` (borrowed, or -1) is a file that may hold
  // the blob's beginning: that is given out first and only the rest is asked for; what comes is added to it.
  // It is emptied when the digest turns out wrong.
  [[nodiscard]] Result<std::unique_ptr<ByteStream>> blob(const Descriptor& descriptor, int partial_fd = -1);
  // A small blob as a whole.
  [[nodiscard]] Result<std::string> blob_text(const Descriptor& descriptor, std::size_t max_bytes);
  // Whether the credentials are taken; for `login`.
  [[nodiscard]] Status check_login();
  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }

 private:
  friend class BlobStream;
  [[nodiscard]] Result<std::unique_ptr<HttpExchange>> get(const HttpRequest& request);
  [[nodiscard]] Result<std::unique_ptr<HttpExchange>> get_once(const HttpRequest& request);
  [[nodiscard]] Status authenticate(const std::string& challenge, const std::string& stale);
  [[nodiscard]] Result<std::string> fetch_token(const std::string& realm, const std::string& service,
                                                const std::string& scope) const;

  Endpoint endpoint_;
  std::string name_;
  std::optional<Credentials> credentials_;
  int retries_;
  std::mutex mutex_;
  std::string token_;       // guarded by mutex_
  bool use_basic_ = false;  // guarded by mutex_
};

// Waits before try `attempt` (from 1): half a second, doubled each time up to 8 s, with some chance in it so
// that many clients do not return together. `asked`: the server's Retry-After, honoured up to 60 s.
void back_off(int attempt, const std::string& asked);
[[nodiscard]] bool worth_retrying(const Error& error);

}  // namespace msb::oci
