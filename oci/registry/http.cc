// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

namespace msb::oci {
namespace {

constexpr std::size_t kMaxHeaderBytes = 256U << 10;
constexpr std::size_t kBuffered = 1U << 20;  // unread bytes at which the transfer pauses
constexpr long kMaxRedirects = 10;
constexpr long kStallBytes = 256;  // a second, over the stall time
constexpr int kPollMs = 1000;

void start_curl() {
  static std::once_flag once;
  std::call_once(once, [] { MSB_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

// What is no fault of the connection; everything else may work later.
constexpr std::array<std::pair<CURLcode, Errc>, 10> kCodes = {{
    {CURLE_OPERATION_TIMEDOUT, Errc::kTimeout},
    {CURLE_PEER_FAILED_VERIFICATION, Errc::kPermission},
    {CURLE_SSL_CACERT_BADFILE, Errc::kPermission},
    {CURLE_SSL_CERTPROBLEM, Errc::kPermission},
    {CURLE_TOO_MANY_REDIRECTS, Errc::kProtocol},
    {CURLE_UNSUPPORTED_PROTOCOL, Errc::kProtocol},
    {CURLE_URL_MALFORMAT, Errc::kProtocol},
    {CURLE_WEIRD_SERVER_REPLY, Errc::kProtocol},
    {CURLE_SSL_CONNECT_ERROR, Errc::kProtocol},
    {CURLE_HTTP2, Errc::kProtocol},
}};

Errc code_of(CURLcode code) {
  for (const auto& [theirs, ours] : kCodes) {
    if (theirs == code) return ours;
  }
  return Errc::kUnavailable;
}

// The host of a URL, for error texts; queries of redirects hold secrets.
std::string shown_url(const std::string& url) { return url.substr(0, url.find('?')); }

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

std::string_view trim(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

struct HttpExchange::State {
  CURLM* multi = nullptr;
  CURL* easy = nullptr;
  curl_slist* headers_out = nullptr;
  std::string url;
  std::map<std::string, std::string> headers;
  std::size_t header_bytes = 0;
  bool headers_done = false;
  Bytes buffer;
  std::size_t consumed = 0;  // of buffer
  bool paused = false;
  bool done = false;
  CURLcode result = CURLE_OK;
  char error[CURL_ERROR_SIZE] = {};

  ~State() {
    if (multi != nullptr && easy != nullptr) curl_multi_remove_handle(multi, easy);
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers_out);
  }

  static std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    const std::string_view line = trim({data, size});
    state.header_bytes += size;
    if (state.header_bytes > kMaxHeaderBytes) return 0;
    if (line.starts_with("HTTP/")) {
      state.headers.clear();  // another response: a redirect's target
    } else if (line.empty()) {
      long status = 0;
      curl_easy_getinfo(state.easy, CURLINFO_RESPONSE_CODE, &status);
      const bool redirect = status >= 300 && status < 400 && state.headers.contains("location");
      state.headers_done = status >= 200 && !redirect;
    } else if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
      state.headers[lower(line.substr(0, colon))] = trim(line.substr(colon + 1));
    }
    return size;
  }
  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    if (!state.headers_done) return size;  // a redirect's page
    if (state.buffer.size() - state.consumed >= kBuffered) {
      state.paused = true;
      return CURL_WRITEFUNC_PAUSE;
    }
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(data);
    state.buffer.insert(state.buffer.end(), bytes, bytes + size);
    return size;
  }

  template <typename Value>
  void set(CURLoption option, Value value) const {
    MSB_CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK);
  }

  void configure(const HttpPolicy& policy, const HttpRequest& request) {
    const char* protocols = policy.plain_http ? "http,https" : "https";
    set(CURLOPT_URL, request.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, protocols);
    set(CURLOPT_REDIR_PROTOCOLS_STR, protocols);
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, kMaxRedirects);
    set(CURLOPT_USERAGENT, "msb");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_CONNECTTIMEOUT, policy.connect_timeout_s);
    set(CURLOPT_LOW_SPEED_LIMIT, kStallBytes);
    set(CURLOPT_LOW_SPEED_TIME, policy.stall_timeout_s);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(CURLOPT_ERRORBUFFER, error);
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, this);
    if (policy.skip_verify) {
      set(CURLOPT_SSL_VERIFYPEER, 0L);
      set(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (!policy.ca_file.empty()) set(CURLOPT_CAINFO, policy.ca_file.c_str());
    if (!request.bearer.empty()) {
      set(CURLOPT_HTTPAUTH, static_cast<unsigned long>(CURLAUTH_BEARER));
      set(CURLOPT_XOAUTH2_BEARER, request.bearer.c_str());
    } else if (!request.user.empty()) {
      set(CURLOPT_HTTPAUTH, static_cast<unsigned long>(CURLAUTH_BASIC));
      set(CURLOPT_USERNAME, request.user.c_str());
      set(CURLOPT_PASSWORD, request.password.c_str());
    }
    if (!request.post_form.empty()) {
      set(CURLOPT_POSTFIELDSIZE, static_cast<long>(request.post_form.size()));
      set(CURLOPT_COPYPOSTFIELDS, request.post_form.c_str());
    }
    if (!request.accept.empty()) {
      headers_out = curl_slist_append(nullptr, ("Accept: " + request.accept).c_str());
      set(CURLOPT_HTTPHEADER, headers_out);
    }
    if (request.offset > 0) set(CURLOPT_RANGE, (std::to_string(request.offset) + "-").c_str());
  }

  Error failure() const {
    const char* why = error[0] != '\0' ? error : curl_easy_strerror(result);
    const char* hint =
        result == CURLE_SSL_CONNECT_ERROR ? " (a registry without TLS must be named so: --plain-http)" : "";
    return make_error(code_of(result), "GET %s: %s%s", shown_url(url).c_str(), why, hint);
  }

  // Lets the transfer go on until `wanted` holds, it is over, or it fails.
  template <typename Wanted>
  Status drive(Wanted wanted) {
    while (!wanted() && !done) {
      int running = 0;
      if (curl_multi_perform(multi, &running) != CURLM_OK)
        return make_error(Errc::kInternal, "curl_multi_perform");
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        done = true;
        result = message->data.result;
      }
      if (wanted() || done) break;
      if (curl_multi_poll(multi, nullptr, 0, kPollMs, nullptr) != CURLM_OK)
        return make_error(Errc::kInternal, "curl_multi_poll");
    }
    // What came before a failure is still given out.
    if (!wanted() && done && result != CURLE_OK) return failure();
    return {};
  }
};

HttpExchange::HttpExchange(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpExchange::~HttpExchange() = default;

Result<std::unique_ptr<HttpExchange>> HttpExchange::open(const HttpPolicy& policy,
                                                         const HttpRequest& request) {
  start_curl();
  auto state = std::make_unique<State>();
  state->multi = curl_multi_init();
  state->easy = curl_easy_init();
  if (state->multi == nullptr || state->easy == nullptr) return make_error(Errc::kInternal, "start curl");
  state->url = request.url;
  state->configure(policy, request);
  if (curl_multi_add_handle(state->multi, state->easy) != CURLM_OK)
    return make_error(Errc::kInternal, "start curl");
  MSB_TRY(state->drive([&] { return state->headers_done; }));
  if (!state->headers_done)
    return make_error(Errc::kProtocol, "GET %s: no response", shown_url(request.url).c_str());
  return std::unique_ptr<HttpExchange>(new HttpExchange(std::move(state)));
}

long HttpExchange::status() const {
  long status = 0;
  curl_easy_getinfo(state_->easy, CURLINFO_RESPONSE_CODE, &status);
  return status;
}

std::string HttpExchange::header(std::string_view name) const {
  const auto found = state_->headers.find(std::string(name));
  return found == state_->headers.end() ? "" : found->second;
}

Result<std::size_t> HttpExchange::read(MutableBytes out) {
  State& state = *state_;
  if (state.consumed == state.buffer.size()) {
    state.buffer.clear();
    state.consumed = 0;
    if (state.paused) {
      state.paused = false;
      if (curl_easy_pause(state.easy, CURLPAUSE_CONT) != CURLE_OK)
        return make_error(Errc::kInternal, "curl_easy_pause");
    }
    MSB_TRY(state.drive([&] { return !state.buffer.empty(); }));
  }
  const std::size_t take = std::min(out.size(), state.buffer.size() - state.consumed);
  if (take > 0) std::memcpy(out.data(), state.buffer.data() + state.consumed, take);
  state.consumed += take;
  return take;
}

Result<std::string> HttpExchange::read_text(std::size_t max_bytes) {
  std::string text;
  Bytes buffer(64U << 10);
  for (;;) {
    MSB_ASSIGN(const std::size_t n, read(buffer));
    if (n == 0) return text;
    if (n > max_bytes - text.size())
      return make_error(Errc::kLimit, "GET %s: an answer of more than %zu bytes",
                        shown_url(state_->url).c_str(), max_bytes);
    text += as_text(ByteView(buffer).first(n));
  }
}

}  // namespace msb::oci
