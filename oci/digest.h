// SPDX-License-Identifier: Apache-2.0
// SHA-256 over streams, by OpenSSL (which uses the processor's SHA instructions).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"

struct evp_md_ctx_st;

namespace msb::oci {

class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;
  void update(ByteView bytes);
  // 64 lower-case hexadecimal digits; the stream must not be used afterwards.
  [[nodiscard]] std::string finish_hex();

 private:
  evp_md_ctx_st* context_;
};

// Loads all that SHA-256 needs, for a process that is about to lose the right to open files.
void prepare_digests();
// "sha256:<hex>" of `data`.
[[nodiscard]] std::string digest_of(ByteView data);
// The 64 digits of a digest that is_sha256_digest() accepted.
[[nodiscard]] std::string digest_hex(std::string_view digest);

}  // namespace msb::oci
