// SPDX-License-Identifier: Apache-2.0
#include "oci/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>

#include "base/check.h"
#include "base/image_reference.h"
#include "base/sha256.h"

namespace msb::oci {

Sha256Stream::Sha256Stream() : context_(EVP_MD_CTX_new()) {
  MSB_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
}
Sha256Stream::~Sha256Stream() { EVP_MD_CTX_free(context_); }

void Sha256Stream::update(ByteView bytes) {
  MSB_CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
}

std::string Sha256Stream::finish_hex() {
  std::array<std::uint8_t, 32> sum{};
  unsigned length = 0;
  MSB_CHECK(EVP_DigestFinal_ex(context_, sum.data(), &length) == 1 && length == sum.size());
  return to_hex(sum);
}

void prepare_digests() {
  // Without its configuration file: there is nothing in it for digests.
  MSB_CHECK(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr) == 1);
  (void)digest_of({});
}

std::string digest_of(ByteView data) {
  Sha256Stream stream;
  stream.update(data);
  return "sha256:" + stream.finish_hex();
}

std::string digest_hex(std::string_view digest) {
  MSB_CHECK(is_sha256_digest(digest));
  return std::string(digest.substr(digest.find(':') + 1));
}

}  // namespace msb::oci
