// SPDX-License-Identifier: Apache-2.0
#include "daemon/access.hpp"

#include <openssl/crypto.h>

#include <algorithm>

#include "base/log.hpp"
#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

/// Says nothing about where the texts differ, nor how long the right one is.
bool same_secret(std::string_view given, std::string_view expected) {
  // Compared at the expected length whatever was given, so that time does not tell the length either.
  std::string padded(given.substr(0, expected.size()));
  padded.resize(expected.size(), '\0');
  const bool same = CRYPTO_memcmp(padded.data(), expected.data(), expected.size()) == 0;
  return same && given.size() == expected.size();
}

std::optional<std::string_view> bearer_of(const http::Request& request) {
  const std::string* header = request.header("Authorization");
  static constexpr std::string_view kScheme = "Bearer ";
  if (header == nullptr || header->size() < kScheme.size() ||
      !http::iequals(header->substr(0, kScheme.size()), kScheme))
    return std::nullopt;
  std::string_view given = std::string_view(*header).substr(kScheme.size());
  while (given.starts_with(' ')) given.remove_prefix(1);
  return given;
}

std::string_view name_of(Needs needs) {
  switch (needs) {
    case Needs::publish:
      return to_string(Scope::publish);
    case Needs::consume:
      return to_string(Scope::consume);
    case Needs::metrics:
      return to_string(Scope::metrics);
    default:
      return to_string(Scope::admin);
  }
}

[[noreturn]] void refuse(const Principal& who, const std::string& object, const std::string& message) {
  log::warn("access_refused", who.name, message);
  throw Error(Errc::permission_denied, "ask with the token " + who.name, object, message);
}

}  // namespace

std::string_view to_string(Scope scope) {
  switch (scope) {
    case Scope::publish:
      return "publish";
    case Scope::consume:
      return "consume";
    case Scope::metrics:
      return "metrics";
    case Scope::admin:
      return "admin";
  }
  return "admin";
}

bool Principal::may(Needs needs) const {
  const auto has = [&](Scope scope) { return std::find(scopes.begin(), scopes.end(), scope) != scopes.end(); };
  switch (needs) {
    case Needs::nothing:
    case Needs::token:
      return true;
    case Needs::publish:
      return has(Scope::publish) || has(Scope::admin);
    case Needs::consume:
      return has(Scope::consume) || has(Scope::admin);
    case Needs::metrics:
      return has(Scope::metrics) || has(Scope::admin);
    case Needs::admin:
      return has(Scope::admin);
  }
  return false;
}

void check_scope(const Principal* who, Needs needs) {
  if (who == nullptr || who->may(needs)) return;
  const std::string scope(name_of(needs));
  refuse(*who, scope, "the token lacks the scope " + scope + "; scopes are given in [[token]], docs/security.md");
}

void check_stream(const Principal* who, std::string_view stream) {
  if (sees(who, stream)) return;
  const std::string name(stream);
  refuse(*who, name, "the token is not for the stream " + name + "; its streams are given in [[token]]");
}

void check_store(const Principal* who) {
  if (sees_all(who)) return;
  refuse(*who, "streams", "this touches the whole store, and the token is for some streams only");
}

bool sees(const Principal* who, std::string_view stream) {
  return who == nullptr || who->streams.matches(stream);
}

bool sees_all(const Principal* who) {
  return who == nullptr || who->streams.matches_all();
}

Tokens::Tokens(const Config& config) {
  if (!config.server.token.empty()) entries_.push_back({config.server.token, {"server.token", {Scope::admin}, {}}});
  for (const Config::Token& token : config.tokens) {
    entries_.push_back({token.secret, {token.name, token.scopes, PatternList(token.streams)}});
  }
}

const Principal* Tokens::owner(const http::Request& request) const {
  const auto given = bearer_of(request);
  if (!given) return nullptr;
  const Principal* found = nullptr;
  for (const Entry& entry : entries_) {
    if (same_secret(*given, entry.secret)) found = &entry.principal;
  }
  return found;
}

}  // namespace millrace::daemon
