// SPDX-License-Identifier: Apache-2.0
// [[token]]: who may ask, for what, and of which streams.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "daemon/config_tables.hpp"
#include "millrace/pattern.hpp"

namespace millrace::daemon {
namespace {

using Row = std::vector<std::pair<std::string, std::string>>;

constexpr std::array kScopes{Scope::publish, Scope::consume, Scope::metrics, Scope::admin};

Scope scope_of(const TableRow& row, const std::string& text) {
  for (const Scope scope : kScopes) {
    if (to_string(scope) == text) return scope;
  }
  row.refuse("scopes", fmt::format("\"{}\" is no scope; there are publish, consume, metrics and admin", text));
}

void add_token(Config& config, const TableRow& row) {
  Config::Token token;
  token.name = row.text("name");
  token.secret = row.text("secret");
  if (token.name.empty()) row.refuse("name", "must not be empty");
  if (token.secret.empty()) row.refuse("secret", "must not be empty");
  for (const Config::Token& other : config.tokens) {
    if (other.name == token.name) row.refuse("name", "token " + token.name + " stands here twice");
    if (other.secret == token.secret) row.refuse("secret", "is that of the token " + other.name + ", too");
  }
  for (const std::string& text : row.texts("scopes")) token.scopes.push_back(scope_of(row, text));
  if (token.scopes.empty()) row.refuse("scopes", "must name at least one of publish, consume, metrics and admin");
  token.streams = row.texts("streams");
  if (row.find("streams") != nullptr && token.streams.empty()) {
    row.refuse("streams", "must not be empty; leave it out for all streams");
  }
  try {
    static_cast<void>(PatternList(token.streams));
  } catch (const Error& error) {
    row.refuse("streams", error.message());
  }
  config.tokens.push_back(std::move(token));
}

template <class Elements, class Text>
std::string list_toml(const Elements& elements, Text text) {
  std::string out;
  for (const auto& element : elements) out += (out.empty() ? "" : ", ") + toml_text(text(element));
  return '[' + out + ']';
}

Row token_row(const Config::Token& token) {
  Row row{{"name", toml_text(token.name)},
          {"secret", "\"***\""},
          {"scopes", list_toml(token.scopes, [](Scope scope) { return to_string(scope); })}};
  if (!token.streams.empty()) {
    row.emplace_back("streams", list_toml(token.streams, [](const std::string& text) { return text; }));
  }
  return row;
}

}  // namespace

TableKind token_table() {
  return {
      "token",
      "A bearer token that may do some things only (docs/security.md). `server.token` stands beside them: it may do "
      "everything.",
      {{"name", "What it is called in the log and in refusals", "\"orders-service\"", true},
       {"secret", "The token itself", "\"file:/etc/millrace/orders-token\"", true, true},
       {"scopes", "Any of `publish`, `consume`, `metrics` and `admin`, which includes the others",
        R"(["publish", "consume"])", true},
       {"streams", "Patterns of the streams it is for; all unless given", R"(["orders*"])"}},
      add_token,
      [](const Config& config) {
        std::vector<Row> rows;
        for (const Config::Token& token : config.tokens) rows.push_back(token_row(token));
        return rows;
      }};
}

}  // namespace millrace::daemon
