// SPDX-License-Identifier: Apache-2.0
// msb-registry login, logout, registries: names and passwords for registries, in $MSB_HOME/registry-auth.json
// (0600).
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "base/file.h"
#include "base/json.h"
#include "oci/commands.h"
#include "oci/registry/credentials.h"
#include "oci/registry/registry.h"
#include "oci/registry/registry_commands.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxPassword = 64U << 10;

Result<std::string> password_from_stdin() {
  MSB_ASSIGN(std::string text, read_all(STDIN_FILENO, kMaxPassword));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

// Asked for on the terminal, not echoed.
Result<std::string> ask(const char* prompt, bool echo) {
  termios before{};
  if (::tcgetattr(STDIN_FILENO, &before) != 0)
    return make_error(Errc::kInvalid,
                      "login: standard input is no terminal: give -u NAME and --password-stdin");
  std::fprintf(stderr, "%s", prompt);
  termios quiet = before;
  if (!echo) quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  std::string line;
  std::getline(std::cin, line);
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
  if (!echo) std::fprintf(stderr, "\n");
  return line;
}

Status store_auth_file(const std::string& home, const AuthFile& file) {
  MSB_TRY(make_directories(home));
  MSB_ASSIGN(const UniqueFd dir, open_file(home, O_RDONLY | O_DIRECTORY));
  const std::string path = own_auth_path(home);
  return write_file_atomic(dir.get(), path.substr(path.rfind('/') + 1), write_auth_file(file));
}

}  // namespace

Status login_command(const Arguments& arguments) {
  Options options("login [-u NAME] [--password-stdin] [--plain-http] [--ca-file FILE] [REGISTRY]");
  Credentials credentials;
  bool from_stdin = false;
  bool plain_http = false;
  std::string ca_file;
  options.text("username", credentials.user, "u");
  options.flag("password-stdin", from_stdin);
  options.flag("plain-http", plain_http);
  options.text("ca-file", ca_file);
  MSB_TRY(options.parse(arguments));
  if (options.positional().size() > 1) return make_error(Errc::kInvalid, "login takes one registry");
  const std::string registry =
      normalise_registry(options.positional().empty() ? "docker.io" : options.positional()[0]);
  if (registry.empty() || registry.find('/') != std::string::npos)
    return make_error(Errc::kInvalid, "login: the registry is HOST or HOST:PORT");
  if (from_stdin && credentials.user.empty())
    return make_error(Errc::kInvalid, "login: --password-stdin needs -u NAME");
  if (credentials.user.empty()) {
    MSB_ASSIGN(credentials.user, ask("Name: ", true));
  }
  if (credentials.user.empty() || credentials.user.find(':') != std::string::npos)
    return make_error(Errc::kInvalid, "login: a name is not empty and holds no ':'");
  if (from_stdin) {
    MSB_ASSIGN(credentials.password, password_from_stdin());
  } else {
    MSB_ASSIGN(credentials.password, ask("Password: ", false));
  }
  MSB_ASSIGN(const std::string home, home_directory());
  MSB_ASSIGN(RegistryConfig config, read_registry_config(home));
  RegistrySettings& settings = config.registries[registry];
  settings.mirrors.clear();
  settings.plain_http = settings.plain_http || plain_http;
  if (!ca_file.empty()) settings.ca_file = ca_file;
  Repository base(endpoints_of(config, registry, "").back(), "", credentials, 2);
  MSB_TRY(base.check_login());
  MSB_ASSIGN(AuthFile file, read_auth_file(own_auth_path(home)));
  file.logins[registry] = credentials;
  MSB_TRY(store_auth_file(home, file));
  std::printf("Logged in to %s\n", registry.c_str());
  return {};
}

Status logout_command(const Arguments& arguments) {
  Options options("logout [REGISTRY]");
  MSB_TRY(options.parse(arguments));
  if (options.positional().size() > 1) return make_error(Errc::kInvalid, "logout takes one registry");
  const std::string registry =
      normalise_registry(options.positional().empty() ? "docker.io" : options.positional()[0]);
  MSB_ASSIGN(const std::string home, home_directory());
  MSB_ASSIGN(AuthFile file, read_auth_file(own_auth_path(home)));
  if (file.logins.erase(registry) == 0)
    return make_error(Errc::kNotFound, "logout: msb keeps no login for %s", registry.c_str());
  MSB_TRY(store_auth_file(home, file));
  std::printf("Logged out of %s\n", registry.c_str());
  return {};
}

Status registries_command(const Arguments& arguments) {
  Options options("registries [--json]");
  bool json_output = false;
  options.flag("json", json_output);
  MSB_TRY(options.parse(arguments));
  MSB_ASSIGN(const std::string home, home_directory());
  MSB_ASSIGN(const AuthFile file, read_auth_file(own_auth_path(home)));
  JsonWriter json;
  json.begin_array();
  for (const auto& [registry, credentials] : file.logins) {
    if (!json_output) std::printf("%s  %s\n", registry.c_str(), credentials.user.c_str());
    json.begin_object().field("registry", registry).field("user", credentials.user).end_object();
  }
  json.end_array();
  if (json_output) std::printf("%s\n", std::move(json).take().c_str());
  return {};
}

}  // namespace msb::oci
