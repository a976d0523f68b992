// SPDX-License-Identifier: Apache-2.0
#include "daemon/config_tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>

namespace millrace::daemon {
namespace {

/// Levenshtein's distance.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
    }
  }
  return row[b.size()];
}

}  // namespace

std::pair<std::string, std::size_t> nearest_name(const std::string& name, const std::vector<std::string>& known) {
  std::pair<std::string, std::size_t> best{"", std::string::npos};
  for (const std::string& candidate : known) {
    if (const std::size_t distance = edit_distance(name, candidate); distance < best.second)
      best = {candidate, distance};
  }
  return best;
}

std::string toml_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

void TableRow::refuse(const std::string& key, const std::string& message) const {
  throw Error(Errc::invalid_argument, "load configuration",
              fmt::format("{}{}{} ({})", name_, key.empty() ? "" : ".", key, where_), message);
}

const TableValue* TableRow::find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::string TableRow::text(const std::string& key, std::string otherwise) const {
  const TableValue* value = find(key);
  if (value == nullptr) return otherwise;
  if (value->kind != TableValue::Kind::text) refuse(key, "must be a single value");
  return value->text;
}

std::vector<std::string> TableRow::texts(const std::string& key) const {
  const TableValue* value = find(key);
  std::vector<std::string> out;
  if (value == nullptr) return out;
  if (value->kind != TableValue::Kind::list) refuse(key, "must be a list of texts, such as [\"a\", \"b\"]");
  for (const TableValue& element : value->list) {
    if (element.kind != TableValue::Kind::text) refuse(key, "must be a list of texts, such as [\"a\", \"b\"]");
    out.push_back(element.text);
  }
  return out;
}

std::int64_t TableRow::number(const std::string& key, std::int64_t otherwise, std::int64_t least,
                              std::int64_t most) const {
  if (find(key) == nullptr) return otherwise;
  const std::string value = text(key);
  std::int64_t number = 0;
  const char* end = value.data() + value.size();
  const auto [stop, bad] = std::from_chars(value.data(), end, number);
  if (bad != std::errc{} || stop != end || number < least || number > most) {
    refuse(key, fmt::format("\"{}\" is not a whole number from {} to {}", value, least, most));
  }
  return number;
}

bool TableRow::flag(const std::string& key, bool otherwise) const {
  if (find(key) == nullptr) return otherwise;
  const std::string value = text(key);
  if (value != "true" && value != "false") refuse(key, fmt::format("\"{}\" is not true or false", value));
  return value == "true";
}

const std::vector<TableKind>& table_kinds() {
  static const std::vector<TableKind> kinds{schema_table(), stream_table(), token_table()};
  return kinds;
}

}  // namespace millrace::daemon
