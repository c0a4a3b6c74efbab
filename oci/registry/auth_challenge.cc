// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/auth_challenge.h"

#include <optional>
#include <vector>

namespace msb::oci {
namespace {

constexpr std::size_t kMaxHeader = 8192;

bool is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool same_word(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char c = a[i] >= 'A' && a[i] <= 'Z' ? static_cast<char>(a[i] + 32) : a[i];
    if (c != b[i]) return false;
  }
  return true;
}

// A cursor over the header's grammar.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}
  void skip_separators() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t' || rest_[0] == ',')) rest_.remove_prefix(1);
  }
  std::string_view token() {
    std::size_t end = 0;
    while (end < rest_.size() && is_token_char(rest_[end])) ++end;
    const std::string_view out = rest_.substr(0, end);
    rest_.remove_prefix(end);
    return out;
  }
  bool take(char c) {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t')) rest_.remove_prefix(1);
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t')) rest_.remove_prefix(1);
    return true;
  }
  std::optional<std::string> value() {
    if (rest_.empty() || rest_[0] != '"') return std::string(token());
    std::string out;
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == '"') {
        rest_.remove_prefix(i + 1);
        return out;
      }
      if (rest_[i] == '\\' && i + 1 < rest_.size()) ++i;
      out.push_back(rest_[i]);
    }
    return std::nullopt;  // the quote is never closed
  }
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  [[nodiscard]] std::string_view rest() const { return rest_; }
  void rewind(std::string_view to) { rest_ = to; }

 private:
  std::string_view rest_;
};

bool has_control(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return true;
  }
  return false;
}

}  // namespace

Result<AuthChallenge> parse_auth_challenge(std::string_view header) {
  const Error unknown{Errc::kUnsupported, 0,
                      "the registry asks for an authentication that is neither Bearer nor Basic"};
  if (header.size() > kMaxHeader) return make_error(Errc::kLimit, "the registry's challenge is too long");
  std::vector<AuthChallenge> found;
  Scanner scanner(header);
  for (scanner.skip_separators(); !scanner.empty(); scanner.skip_separators()) {
    const std::string_view scheme = scanner.token();
    if (scheme.empty()) return unknown;
    AuthChallenge challenge;
    const bool bearer = same_word(scheme, "bearer");
    const bool known = bearer || same_word(scheme, "basic");
    challenge.kind = bearer ? AuthChallenge::Kind::kBearer : AuthChallenge::Kind::kBasic;
    // Parameters go on until a word that no '=' follows, which begins the next challenge.
    for (;;) {
      scanner.skip_separators();
      const std::string_view before = scanner.rest();
      const std::string_view name = scanner.token();
      if (name.empty() || !scanner.take('=')) {
        scanner.rewind(before);
        break;
      }
      auto value = scanner.value();
      if (!value || has_control(*value))
        return make_error(Errc::kProtocol, "the registry's challenge is malformed");
      if (same_word(name, "realm"))
        challenge.realm = std::move(*value);
      else if (same_word(name, "service"))
        challenge.service = std::move(*value);
      else if (same_word(name, "scope"))
        challenge.scope = std::move(*value);
    }
    if (known && (!bearer || !challenge.realm.empty())) found.push_back(std::move(challenge));
    if (scanner.rest().starts_with("="))
      return make_error(Errc::kProtocol, "the registry's challenge is malformed");
  }
  for (const AuthChallenge& challenge : found) {
    if (challenge.kind == AuthChallenge::Kind::kBearer) return challenge;
  }
  if (found.empty()) return unknown;
  return found.front();
}

std::string url_encode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out.push_back(c);
      continue;
    }
    const auto byte = static_cast<std::uint8_t>(c);
    out.push_back('%');
    out.push_back(kHex[byte >> 4]);
    out.push_back(kHex[byte & 15]);
  }
  return out;
}

}  // namespace msb::oci
