// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/registry.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "base/image_reference.h"
#include "base/json.h"
#include "base/log.h"
#include "oci/limits.h"
#include "oci/media_types.h"
#include "oci/registry/auth_challenge.h"
#include "oci/tar_numbers.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxTokenAnswer = 256U << 10;
constexpr std::size_t kMaxToken = 64U << 10;
constexpr std::size_t kMaxErrorBody = 16U << 10;
constexpr std::int64_t kFirstWaitMs = 500;
constexpr std::int64_t kLongestWaitMs = 8000;
constexpr std::uint64_t kLongestAskedS = 60;

bool passing_status(long status) { return status == 408 || status == 429 || status >= 500; }

// What the registry says went wrong: {"errors":[{"code","message"}]}.
std::string said(HttpExchange& exchange) {
  const auto text = exchange.read_text(kMaxErrorBody);
  if (!text) return "";
  const auto document = JsonDocument::parse(*text);
  if (!document) return "";
  const auto errors = document->root().find("errors");
  if (!errors) return "";
  const auto list = errors->elements();
  if (!list || list->empty()) return "";
  const auto message = list->front().get_string_or("message", "");
  return message && !message->empty() ? " (" + quote_for_log(*message) + ")" : "";
}

Error status_error(HttpExchange& exchange, const std::string& what) {
  const long status = exchange.status();
  const Errc code = status == 404                    ? Errc::kNotFound
                    : status == 401 || status == 403 ? Errc::kPermission
                    : passing_status(status)         ? Errc::kUnavailable
                                                     : Errc::kProtocol;
  const char* meaning = status == 404   ? "not found"
                        : status == 401 ? "authentication required or refused; see msb registry login"
                        : status == 403 ? "forbidden"
                        : status == 429 ? "too many requests"
                                        : "unexpected answer";
  return make_error(code, "%s: %s, HTTP %ld%s", what.c_str(), meaning, status, said(exchange).c_str());
}

}  // namespace

void back_off(int attempt, const std::string& asked) {
  std::uint64_t wait_ms =
      static_cast<std::uint64_t>(std::min(kLongestWaitMs, kFirstWaitMs << std::min(attempt - 1, 10)));
  std::uint32_t random = 0;
  if (::getrandom(&random, sizeof random, 0) == sizeof random) wait_ms += random % (wait_ms / 4 + 1);
  if (const auto seconds = parse_decimal(asked))
    wait_ms = std::max(wait_ms, std::min(*seconds, kLongestAskedS) * 1000);
  timespec left{static_cast<time_t>(wait_ms / 1000), static_cast<long>(wait_ms % 1000) * 1'000'000};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

bool worth_retrying(const Error& error) {
  return error.code == Errc::kUnavailable || error.code == Errc::kTimeout;
}

// A blob read forward; counts, hashes, keeps what comes, and takes up broken connections where they broke.
class BlobStream final : public ByteStream {
 public:
  BlobStream(Repository& repository, const Descriptor& descriptor, int partial_fd)
      : repository_(repository), descriptor_(descriptor), partial_fd_(partial_fd) {}

  // Connects unless all of the blob was kept before.
  [[nodiscard]] Status start() {
    struct stat st {};
    if (partial_fd_ >= 0 && ::fstat(partial_fd_, &st) == 0) kept_ = static_cast<std::uint64_t>(st.st_size);
    if (kept_ > descriptor_.size) {
      kept_ = 0;
      forget();
    }
    return kept_ > 0 ? Status{} : connect();
  }

  [[nodiscard]] Status connect() {
    HttpRequest request;
    request.url = repository_.endpoint_.base_url + "/blobs/" + descriptor_.digest;
    request.offset = position_;
    MSB_ASSIGN(exchange_, repository_.get(request));
    const long status = exchange_->status();
    if (status == 206 && position_ > 0) {
      const std::string wanted = "bytes " + std::to_string(position_) + "-";
      if (!exchange_->header("content-range").starts_with(wanted))
        return failure(Errc::kProtocol, "the registry resumes at another place than asked");
      skip_ = 0;
      return {};
    }
    if (status != 200) return status_error(*exchange_, "get layer " + descriptor_.digest);
    skip_ = position_;  // it starts from the beginning: pass over what we have
    return {};
  }

  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override {
    for (;;) {
      auto n = read_some(out);
      if (n) return n;
      if (!worth_retrying(n.error())) return n;
      if (position_ == descriptor_.size && !ended_) return finish();  // it broke after the last byte
      if (failures_ >= repository_.retries_) return n;
      back_off(++failures_, "");
      const Status again = connect();
      if (!again.ok()) return again.error();
    }
  }

 private:
  [[nodiscard]] Error failure(Errc code, const char* what) const {
    return make_error(code, "get blob %s: %s", descriptor_.digest.c_str(), what);
  }

  Result<std::size_t> read_some(MutableBytes out) {
    for (;;) {
      if (ended_) return std::size_t{0};
      if (position_ < kept_) return read_kept(out);
      if (!exchange_) {
        if (position_ == descriptor_.size) return finish();
        MSB_TRY(connect());
      }
      MSB_ASSIGN(const std::size_t n, exchange_->read(out));
      if (n == 0) return finish();
      const std::size_t passed = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, n));
      skip_ -= passed;
      const std::size_t fresh = n - passed;
      if (fresh == 0) continue;
      if (fresh > descriptor_.size - position_)
        return failure(Errc::kProtocol, "it is longer than its manifest says");
      if (passed > 0)
        std::copy(out.begin() + static_cast<std::ptrdiff_t>(passed),
                  out.begin() + static_cast<std::ptrdiff_t>(n), out.begin());
      keep(ByteView(out).first(fresh));
      hash_.update(ByteView(out).first(fresh));
      position_ += fresh;
      failures_ = 0;  // there was progress
      return fresh;
    }
  }

  Result<std::size_t> read_kept(MutableBytes out) {
    const MutableBytes piece =
        out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), kept_ - position_)));
    MSB_TRY(pread_exact(partial_fd_, piece, position_));
    hash_.update(piece);
    position_ += piece.size();
    return piece.size();
  }

  // A disk that is full, say, must not end a download that needs no more of it.
  void keep(ByteView piece) {
    if (partial_fd_ >= 0 && !pwrite_exact(partial_fd_, piece, position_).ok()) {
      forget();
      partial_fd_ = -1;
    }
  }
  void forget() const { (void)!::ftruncate(partial_fd_, 0); }

  Result<std::size_t> finish() {
    // A connection that closes early without a length looks like an end: worth another try.
    if (position_ < descriptor_.size) return failure(Errc::kUnavailable, "it ends early");
    ended_ = true;
    if ("sha256:" + hash_.finish_hex() == descriptor_.digest) return std::size_t{0};
    if (partial_fd_ >= 0) forget();
    return failure(Errc::kProtocol, "it has another content than its digest says");
  }

  Repository& repository_;
  Descriptor descriptor_;
  int partial_fd_;
  std::uint64_t kept_ = 0;  // bytes of the blob that partial_fd_ had at the start
  std::unique_ptr<HttpExchange> exchange_;
  Sha256Stream hash_;
  std::uint64_t position_ = 0;
  std::uint64_t skip_ = 0;
  int failures_ = 0;
  bool ended_ = false;
};

Result<std::unique_ptr<HttpExchange>> Repository::get_once(const HttpRequest& request) {
  // One more try after authenticating, and one after a token that ran out meanwhile; a registry that goes on
  // asking is told no.
  constexpr int kAuthentications = 2;
  for (int round = 0;; ++round) {
    HttpRequest sent = request;
    {
      const std::lock_guard lock(mutex_);
      sent.bearer = token_;
      if (use_basic_ && credentials_) {
        sent.user = credentials_->user;
        sent.password = credentials_->password;
      }
    }
    MSB_ASSIGN(auto exchange, HttpExchange::open(endpoint_.policy, sent));
    const std::string challenge = exchange->header("www-authenticate");
    if (exchange->status() != 401 || challenge.empty() || round == kAuthentications) return exchange;
    exchange.reset();
    MSB_TRY(authenticate(challenge, sent.bearer));
  }
}

Result<std::unique_ptr<HttpExchange>> Repository::get(const HttpRequest& request) {
  for (int attempt = 1;; ++attempt) {
    auto exchange = get_once(request);
    if (exchange && !passing_status((*exchange)->status())) return exchange;
    if (!exchange && !worth_retrying(exchange.error())) return exchange;
    if (attempt > retries_) {
      if (!exchange) return exchange;
      return status_error(**exchange, "GET " + request.url);
    }
    const std::string asked = exchange ? (*exchange)->header("retry-after") : "";
    exchange = std::unique_ptr<HttpExchange>();  // closes the connection before the wait
    back_off(attempt, asked);
  }
}

// `stale`: the token that was refused; another thread may have got a newer one by now.
Status Repository::authenticate(const std::string& header, const std::string& stale) {
  MSB_ASSIGN(const AuthChallenge challenge, parse_auth_challenge(header));
  const std::lock_guard lock(mutex_);
  if (challenge.kind == AuthChallenge::Kind::kBasic) {
    if (!credentials_)
      return make_error(Errc::kPermission, "%s asks for a name and a password: msb registry login %s",
                        endpoint_.host.c_str(), endpoint_.host.c_str());
    use_basic_ = true;
    token_.clear();
    return {};
  }
  if (!token_.empty() && token_ != stale) return {};
  const std::string scope =
      challenge.scope.empty() && !name_.empty() ? "repository:" + name_ + ":pull" : challenge.scope;
  MSB_ASSIGN(token_, fetch_token(challenge.realm, challenge.service, scope));
  return {};
}

// The token service: https://distribution.github.io/distribution/spec/auth/token/, and its OAuth2 form for
// identity tokens.
Result<std::string> Repository::fetch_token(const std::string& realm, const std::string& service,
                                            const std::string& scope) const {
  const bool https = realm.starts_with("https://");
  if (!https && !(endpoint_.policy.plain_http && realm.starts_with("http://")))
    return make_error(Errc::kProtocol, "%s sends us for a token to \"%s\", which is not https",
                      endpoint_.host.c_str(), quote_for_log(realm, 100).c_str());
  HttpRequest request;
  const bool identity = credentials_ && !credentials_->identity_token.empty();
  if (identity) {
    request.url = realm;
    request.post_form = "grant_type=refresh_token&client_id=msb&service=" + url_encode(service) +
                        "&scope=" + url_encode(scope) +
                        "&refresh_token=" + url_encode(credentials_->identity_token);
  } else {
    request.url =
        realm + (realm.find('?') == std::string::npos ? "?" : "&") + "service=" + url_encode(service);
    if (!scope.empty()) request.url += "&scope=" + url_encode(scope);
    if (credentials_) {
      request.user = credentials_->user;
      request.password = credentials_->password;
      request.url += "&account=" + url_encode(credentials_->user);
    }
  }
  MSB_ASSIGN(const auto exchange, HttpExchange::open(endpoint_.policy, request));
  if (exchange->status() != 200) return status_error(*exchange, "get a token for " + endpoint_.host);
  MSB_ASSIGN(const std::string text, exchange->read_text(kMaxTokenAnswer));
  const auto document = JsonDocument::parse(text);
  if (!document)
    return make_error(Errc::kProtocol, "get a token for %s: the answer is not JSON", endpoint_.host.c_str());
  MSB_ASSIGN(std::string token, document->root().get_string_or("token", ""));
  if (token.empty()) {
    MSB_ASSIGN(token, document->root().get_string_or("access_token", ""));
  }
  const bool sound = !token.empty() && token.size() <= kMaxToken &&
                     std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (!sound)
    return make_error(Errc::kProtocol, "get a token for %s: there is none in the answer",
                      endpoint_.host.c_str());
  return token;
}

Result<Repository::Document> Repository::manifest(const std::string& reference) {
  HttpRequest request;
  request.url = endpoint_.base_url + "/manifests/" + reference;
  for (const std::string_view type : {kOciIndex, kOciManifest, kDockerList, kDockerManifest})
    request.accept.append(request.accept.empty() ? "" : ", ").append(type);
  const std::string what = "get manifest " + name_ + (is_sha256_digest(reference) ? "@" : ":") + reference +
                           " from " + endpoint_.host;
  MSB_ASSIGN(const auto exchange, get(request));
  if (exchange->status() != 200) return status_error(*exchange, what);
  Document document;
  document.media_type = exchange->header("content-type");
  document.media_type.resize(std::min(document.media_type.find(';'), document.media_type.size()));
  auto text = exchange->read_text(kMaxManifestBytes);
  if (!text) return std::move(text).error().with_context(what);
  document.text = std::move(text).value();
  document.digest = digest_of(as_bytes(document.text));
  if (is_sha256_digest(reference) && document.digest != reference)
    return make_error(Errc::kProtocol, "%s: it has another content than its digest says", what.c_str());
  return document;
}

Result<std::unique_ptr<ByteStream>> Repository::blob(const Descriptor& descriptor, int partial_fd) {
  auto stream = std::make_unique<BlobStream>(*this, descriptor, partial_fd);
  MSB_TRY(stream->start());
  return std::unique_ptr<ByteStream>(std::move(stream));
}

Result<std::string> Repository::blob_text(const Descriptor& descriptor, std::size_t max_bytes) {
  if (descriptor.size > max_bytes)
    return make_error(Errc::kLimit, "blob %s has %llu bytes (at most %zu)", descriptor.digest.c_str(),
                      static_cast<unsigned long long>(descriptor.size), max_bytes);
  MSB_ASSIGN(const auto stream, blob(descriptor));
  std::string text;
  Bytes buffer(64U << 10);
  for (;;) {
    MSB_ASSIGN(const std::size_t n, stream->read(buffer));
    if (n == 0) return text;
    text += as_text(ByteView(buffer).first(n));
  }
}

Status Repository::check_login() {
  HttpRequest request;
  request.url = endpoint_.base_url;
  MSB_ASSIGN(const auto exchange, get(request));
  if (exchange->status() != 200) return status_error(*exchange, "log in to " + endpoint_.host);
  return {};
}

}  // namespace msb::oci
