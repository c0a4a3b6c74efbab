// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/credentials.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/subprocess.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxFile = 1U << 20;
constexpr std::size_t kMaxHelperAnswer = 64U << 10;
constexpr auto kHelperTime = std::chrono::seconds(30);
constexpr std::string_view kTokenUser = "<token>";  // how helpers say that the secret is an identity token

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::vector<std::string> auth_file_paths(const std::string& home) {
  std::vector<std::string> paths = {own_auth_path(home)};
  const std::string user_home = variable("HOME");
  if (const std::string path = variable("REGISTRY_AUTH_FILE"); !path.empty()) {
    paths.push_back(path);
  } else {
    if (const std::string run = variable("XDG_RUNTIME_DIR"); !run.empty())
      paths.push_back(run + "/containers/auth.json");
    const std::string config = variable("XDG_CONFIG_HOME");
    if (!config.empty() || !user_home.empty())
      paths.push_back((config.empty() ? user_home + "/.config" : config) + "/containers/auth.json");
  }
  if (const std::string docker = variable("DOCKER_CONFIG"); !docker.empty()) {
    paths.push_back(docker + "/config.json");
  } else if (!user_home.empty()) {
    paths.push_back(user_home + "/.docker/config.json");
  }
  return paths;
}

bool is_helper_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

Result<std::string> find_program(const std::string& name) {
  std::string path = variable("PATH");
  if (path.empty()) path = "/usr/local/bin:/usr/bin:/bin";
  for (std::size_t from = 0; from <= path.size();) {
    const std::size_t colon = std::min(path.find(':', from), path.size());
    const std::string candidate = path.substr(from, colon - from) + "/" + name;
    if (candidate[0] == '/' && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    from = colon + 1;
  }
  return make_error(Errc::kNotFound, "credential helper %s is not in PATH", name.c_str());
}

// The protocol of Docker's credential helpers: the server's name on stdin, {"Username","Secret"} on stdout.
Result<std::optional<Credentials>> ask_helper(const std::string& helper, const std::string& server) {
  if (!is_helper_name(helper)) return make_error(Errc::kInvalid, "a credential helper's name is malformed");
  SpawnOptions options;
  MSB_ASSIGN(options.path, find_program("docker-credential-" + helper));
  options.argv = {options.path, "get"};
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
    options.env.emplace_back(*entry);
  int in[2];
  int out[2];
  if (::pipe2(in, O_CLOEXEC) != 0) return sys_error("pipe");
  UniqueFd in_read(in[0]);
  UniqueFd in_write(in[1]);
  if (::pipe2(out, O_CLOEXEC) != 0) return sys_error("pipe");
  UniqueFd out_read(out[0]);
  UniqueFd out_write(out[1]);
  options.fds = {{in_read.get(), 0}, {out_write.get(), 1}, {STDERR_FILENO, 2}};
  MSB_ASSIGN(Child child, spawn(options));
  in_read.reset();
  out_write.reset();
  (void)write_all(in_write.get(), server + "\n").ok();  // a helper that does not read it says so by its exit
  in_write.reset();
  // An answer of any sense fits the pipe, so it can be waited for first.
  const auto status = child.wait(kHelperTime);
  if (!status) {
    (void)child.send_signal(SIGKILL).ok();
    (void)child.wait().ok();
    return make_error(Errc::kTimeout, "credential helper %s did not end", helper.c_str());
  }
  const auto answer = read_all(out_read.get(), kMaxHelperAnswer);
  if (!answer) return Error(answer.error()).with_context("credential helper " + helper);
  if (!status->success()) return std::optional<Credentials>{};  // it knows nothing of this registry
  const auto document = JsonDocument::parse(*answer);
  if (!document)
    return make_error(Errc::kProtocol, "credential helper %s: its answer is not JSON", helper.c_str());
  Credentials credentials;
  MSB_ASSIGN(credentials.user, document->root().get_string("Username"));
  MSB_ASSIGN(credentials.password, document->root().get_string("Secret"));
  if (credentials.user == kTokenUser) credentials.identity_token = std::exchange(credentials.password, "");
  return std::optional<Credentials>(std::move(credentials));
}

}  // namespace

std::string normalise_registry(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  for (const std::string_view tail : {"/", "/v1", "/v2"}) {
    if (key.ends_with(tail)) key.remove_suffix(tail.size());
  }
  const std::size_t slash = key.find('/');
  const std::string_view host = key.substr(0, slash);
  std::string out(host == "index.docker.io" || host == "registry-1.docker.io" ? "docker.io" : host);
  if (slash != std::string_view::npos) out += key.substr(slash);
  return out;
}

Result<AuthFile> parse_auth_file(std::string_view json) {
  AuthFile file;
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json, {.max_bytes = kMaxFile}));
  const JsonView root = document.root();
  if (!root.is_object()) return make_error(Errc::kInvalid, "not a JSON object");
  if (const auto auths = root.find("auths")) {
    MSB_ASSIGN(const auto members, auths->members());
    for (const auto& [key, entry] : members) {
      Credentials credentials;
      MSB_ASSIGN(credentials.user, entry.get_string_or("username", ""));
      MSB_ASSIGN(credentials.password, entry.get_string_or("password", ""));
      MSB_ASSIGN(credentials.identity_token, entry.get_string_or("identitytoken", ""));
      MSB_ASSIGN(const std::string encoded, entry.get_string_or("auth", ""));
      if (!encoded.empty()) {
        const auto decoded = base64_decode(encoded);
        const std::string_view pair = decoded ? as_text(*decoded) : std::string_view{};
        const std::size_t colon = pair.find(':');
        if (colon == std::string_view::npos)
          return make_error(Errc::kInvalid, "auths: the entry of \"%s\" is not base64 of NAME:PASSWORD",
                            quote_for_log(key, 80).c_str());
        credentials.user = pair.substr(0, colon);
        credentials.password = pair.substr(colon + 1);
        while (!credentials.password.empty() && credentials.password.back() == '\0')
          credentials.password.pop_back();
      }
      // Docker leaves empty entries where a helper holds the secret.
      if (credentials.user.empty() && credentials.identity_token.empty()) continue;
      file.logins[normalise_registry(key)] = std::move(credentials);
    }
  }
  if (const auto helpers = root.find("credHelpers")) {
    MSB_ASSIGN(const auto members, helpers->members());
    for (const auto& [key, entry] : members) {
      MSB_ASSIGN(const std::string_view name, entry.as_string());
      file.helpers[normalise_registry(key)] = name;
    }
  }
  MSB_ASSIGN(file.default_helper, root.get_string_or("credsStore", ""));
  return file;
}

std::string write_auth_file(const AuthFile& file) {
  JsonWriter json(JsonWriter::Style::kPretty);
  json.begin_object().key("auths").begin_object();
  for (const auto& [registry, credentials] : file.logins) {
    json.key(registry).begin_object();
    json.field("auth", base64_encode(as_bytes(credentials.user + ":" + credentials.password))).end_object();
  }
  json.end_object().end_object();
  return std::move(json).take() + "\n";
}

std::string own_auth_path(const std::string& home) { return home + "/registry-auth.json"; }

Result<AuthFile> read_auth_file(const std::string& path) {
  const auto text = read_file(path, kMaxFile);
  if (!text) {
    if (text.error().code == Errc::kNotFound) return AuthFile{};
    return Error(text.error());
  }
  if (text->empty()) return AuthFile{};
  return parse_auth_file(*text).with_context(path);
}

Result<std::optional<Credentials>> find_credentials(const std::string& home, const std::string& registry,
                                                    const std::string& repository) {
  // From the most particular name to the registry alone, as Podman does.
  std::vector<std::string> keys;
  for (std::string key = registry + "/" + repository; key.find('/') != std::string::npos;
       key.resize(key.rfind('/')))
    keys.push_back(key);
  keys.push_back(registry);
  for (const std::string& path : auth_file_paths(home)) {
    MSB_ASSIGN(const AuthFile file, read_auth_file(path));
    for (const std::string& key : keys) {
      if (const auto login = file.logins.find(key); login != file.logins.end())
        return std::optional<Credentials>(login->second);
    }
    const auto named = file.helpers.find(registry);
    const std::string& helper = named != file.helpers.end() ? named->second : file.default_helper;
    if (helper.empty()) continue;
    // Docker's own name for its registry is what its helpers know it by.
    MSB_ASSIGN(auto answer,
               ask_helper(helper, registry == "docker.io" ? "https://index.docker.io/v1/" : registry));
    if (answer) return answer;
  }
  return std::optional<Credentials>{};
}

}  // namespace msb::oci
