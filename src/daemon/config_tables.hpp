// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What may stand several times in the configuration file: `[[schema]]`, an array of tables. Like the table of single
/// keys, a table of descriptors says what is known, and feeds reading, `config show` and docs/configuration.md. Arrays
/// of tables have no flags and no variables.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/config.hpp"

namespace millrace::daemon {

/// A TOML value, as far as configuration uses it.
struct TableValue {
  enum class Kind { text, list, table };
  Kind kind = Kind::text;
  std::string text = {};  ///< a string with `${VAR}` replaced; a number or a boolean as a flag would carry it
  std::vector<TableValue> list = {};
  std::vector<std::pair<std::string, TableValue>> table = {};  ///< an inline table, by name
};

/// One `[[name]]`, being read. Each accessor throws Error{invalid_argument} naming the key, file and line when the
/// value is not what it asks for.
class TableRow {
 public:
  TableRow(std::string name, std::string where, std::map<std::string, TableValue> values)
      : name_(std::move(name)), where_(std::move(where)), values_(std::move(values)) {}

  [[nodiscard]] const TableValue* find(const std::string& key) const;
  [[nodiscard]] std::string text(const std::string& key, std::string otherwise = {}) const;
  [[nodiscard]] std::vector<std::string> texts(const std::string& key) const;  ///< absent = none
  [[nodiscard]] std::int64_t number(const std::string& key, std::int64_t otherwise, std::int64_t least,
                                    std::int64_t most) const;
  [[nodiscard]] bool flag(const std::string& key, bool otherwise) const;
  [[noreturn]] void refuse(const std::string& key, const std::string& message) const;

 private:
  std::string name_;
  std::string where_;  ///< "millrace.toml:12"
  std::map<std::string, TableValue> values_;
};

struct TableKey {
  std::string key;
  std::string help;     ///< one sentence
  std::string example;  ///< as in TOML
  bool required = false;
  bool secret = false;  ///< a text `file:<path>` is replaced by what the file holds; never printed
};

/// What one kind of table is called, knows and does.
struct TableKind {
  std::string name;
  std::string help;  ///< a paragraph
  std::vector<TableKey> keys;
  std::function<void(Config&, const TableRow&)> add;
  /// Each row as key → TOML text, for `config show`; only what was given, a secret as "***".
  std::function<std::vector<std::vector<std::pair<std::string, std::string>>>(const Config&)> rows;
};
const std::vector<TableKind>& table_kinds();

/// TOML for a text.
std::string toml_text(std::string_view text);

/// The name among `known` that looks most like this one, and how many letters they differ in.
std::pair<std::string, std::size_t> nearest_name(const std::string& name, const std::vector<std::string>& known);

// schema_table.cpp
TableKind schema_table();
// stream_table.cpp
TableKind stream_table();
// token_table.cpp
TableKind token_table();

}  // namespace millrace::daemon
