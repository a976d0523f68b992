// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/kv.hpp"

namespace millrace::store::sqlite {
namespace {

KeyValueEntry entry(const Statement::Rows& row) {
  KeyValueEntry found{std::string(row.text(0)), std::string(row.blob(1).value_or("")), row.number(2), std::nullopt};
  if (!row.is_null(3)) found.expires_at = row.time(3);
  return found;
}

std::optional<std::uint64_t> version_of(State& state, std::string_view key) {
  auto row = state.connection()
                 .prepared("SELECT version FROM key_value WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)")
                 .query(key, state.now());
  return row.next() ? std::optional(row.number(0)) : std::nullopt;
}

std::uint64_t write(State& state, std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) {
  Connection& connection = state.connection();
  connection.prepared("UPDATE meta SET value = value + 1 WHERE key = 'key_value_version'").run();
  const auto version =
      static_cast<std::uint64_t>(connection.integer("SELECT value FROM meta WHERE key = 'key_value_version'"));
  const std::optional<Timestamp> expires_at = ttl ? std::optional<Timestamp>(state.now() + *ttl) : std::nullopt;
  connection
      .prepared(
          "INSERT INTO key_value (key, value, version, expires_at) VALUES (?,?,?,?) ON CONFLICT (key) DO UPDATE "
          "SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at")
      .run(key, Blob{value}, version, expires_at);
  return version;
}

}  // namespace

std::optional<KeyValueEntry> SqliteKeyValue::get(std::string_view key) {
  check_key(key, "get");
  return readers_.read([&](Connection& connection) -> std::optional<KeyValueEntry> {
    auto row = connection
                   .prepared(
                       "SELECT key, value, version, expires_at FROM key_value WHERE key = ? AND "
                       "(expires_at IS NULL OR expires_at > ?)")
                   .query(key, clock_.now());
    if (!row.next()) return std::nullopt;
    return entry(row);
  });
}

std::uint64_t SqliteKeyValue::set(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) {
  check_key(key, "set");
  check_ttl(ttl, "set");
  return writer_.call(true, [&](State& state) { return write(state, key, value, ttl); });
}

std::optional<std::uint64_t> SqliteKeyValue::set_if_absent(std::string_view key, std::string_view value,
                                                           std::optional<Milliseconds> ttl) {
  check_key(key, "set if absent");
  check_ttl(ttl, "set if absent");
  return writer_.call(true, [&](State& state) -> std::optional<std::uint64_t> {
    if (version_of(state, key)) return std::nullopt;
    return write(state, key, value, ttl);
  });
}

std::optional<std::uint64_t> SqliteKeyValue::compare_and_swap(std::string_view key, std::uint64_t expected,
                                                              std::string_view value, std::optional<Milliseconds> ttl) {
  check_key(key, "compare and swap");
  check_ttl(ttl, "compare and swap");
  return writer_.call(true, [&](State& state) -> std::optional<std::uint64_t> {
    if (version_of(state, key) != expected) return std::nullopt;
    return write(state, key, value, ttl);
  });
}

bool SqliteKeyValue::erase(std::string_view key, std::optional<std::uint64_t> expected) {
  check_key(key, "erase");
  return writer_.call(true, [&](State& state) {
    const auto version = version_of(state, key);
    if (!version || (expected && *version != *expected)) return false;
    state.connection().prepared("DELETE FROM key_value WHERE key = ?").run(key);
    return true;
  });
}

std::vector<KeyValueEntry> SqliteKeyValue::scan(std::string_view prefix, std::string_view after, std::size_t limit) {
  const std::string end = after_prefix(prefix);
  return readers_.read([&](Connection& connection) {
    auto rows = connection
                    .prepared(
                        "SELECT key, value, version, expires_at FROM key_value WHERE key >= ?1 AND key > ?2 AND "
                        "(?3 = '' OR key < ?3) AND (expires_at IS NULL OR expires_at > ?4) ORDER BY key LIMIT ?5")
                    .query(prefix, after, end, clock_.now(),
                           static_cast<std::int64_t>(std::min<std::size_t>(limit, INT64_MAX)));
    std::vector<KeyValueEntry> entries;
    while (rows.next()) entries.push_back(entry(rows));
    return entries;
  });
}

}  // namespace millrace::store::sqlite
