// SPDX-License-Identifier: Apache-2.0

// Who settled an event, as rows. Rows are written as events are settled and deleted by age; both are found by keys, and
// so is the answer.

#include <algorithm>
#include <limits>

#include "store/sqlite/ledger.hpp"

namespace millrace::store::sqlite {
namespace {

constexpr char kForgottenTo[] = "SELECT value FROM meta WHERE key = 'history_forgotten_to'";
/// Deleted by one housekeeping, so that nobody waits long behind it.
constexpr int kAtOnce = 10'000;

Timestamp time_of(std::int64_t microseconds) {
  return Timestamp{std::chrono::microseconds{microseconds}};
}

/// What the log no longer has, nobody asks for by position: retention bounds the history too.
void forget_trimmed(State& state, const Group& group) {
  const Ordinal trimmed_to = state.stream(group.identity.stream, "forget history").trimmed_to;
  if (trimmed_to == 0) return;
  Statement& remove = state.connection().prepared(
      "DELETE FROM history WHERE (group_id, fresh, pass, first, claim) IN "
      "(SELECT group_id, fresh, pass, first, claim FROM history "
      "WHERE group_id = ?1 AND fresh = ?2 AND pass = ?3 AND first <= ?4 AND last <= ?4 ORDER BY first LIMIT ?5)");
  remove.run(group.id, 0, 0, trimmed_to, kAtOnce);
  Statement& next = state.connection().prepared(
      "SELECT min(pass) FROM history WHERE group_id = ? AND fresh = 1 AND pass >= ? AND first <= ?");
  for (std::int64_t pass = 0;; ++pass) {
    {
      auto row = next.query(group.id, pass, trimmed_to);
      if (!row.next() || row.is_null(0)) return;
      pass = row.integer(0);
    }
    remove.run(group.id, 1, pass, trimmed_to, kAtOnce);
  }
}

}  // namespace

void record_settled(State& state, Group& group, const std::vector<ledger::Changes::Settled>& settled) {
  if (state.history().count() == 0) {
    // Settled without a row: from now on only that is certain.
    group.unrecorded_to = state.now();
    return;
  }
  Statement& insert = state.connection().prepared(
      "INSERT OR REPLACE INTO history (group_id, fresh, pass, first, claim, last, apart, consumer, claimed_at, "
      "settled_at) VALUES (?,?,?,?,?,?,?,?,?,?)");
  for (const ledger::Changes::Settled& one : settled) {
    const bool claimed = one.claim != 0;
    insert.run(group.id, one.fresh, one.pass, one.first, claimed ? one.claim : state.new_id(), one.last,
               one.apart.to_string(), one.consumer, claimed ? one.claimed_at : state.now(), state.now());
  }
}

ledger::SettledBy settled_by(State& state, const Group& group, Ordinal ordinal) {
  Connection& connection = state.connection();
  ledger::SettledBy found;
  const Timestamp forgotten_to = time_of(connection.integer(kForgottenTo));
  found.types_changed = group.types_changed;
  if (group.unrecorded_to != Timestamp{}) found.unrecorded_to = std::max(group.unrecorded_to, forgotten_to);
  // Rows of trimmed events go whatever their age: all that is certain is "by now".
  if (ordinal <= state.stream(group.identity.stream, "where").trimmed_to) found.unrecorded_to = state.now();
  {
    // No row spans two blocks, so those of its own block are all that can hold it.
    constexpr Ordinal kBlock = ledger::Changes::Settled::kBlock;
    auto row = connection
                   .prepared(
                       "SELECT claim, apart, consumer, claimed_at, settled_at FROM history "
                       "WHERE group_id = ?1 AND fresh = 0 AND pass = 0 AND first BETWEEN ?2 AND ?3 AND last >= ?3")
                   .query(group.id, ordinal - ordinal % kBlock, ordinal);
    while (row.next()) {
      if (found.exact && found.exact->id > row.number(0)) continue;
      if (!ledger::RangeSet::parse(row.text(1)).contains(ordinal)) continue;
      found.exact = {row.number(0), {}, std::string(row.text(2)), row.time(3), row.time(4)};
    }
  }
  // From the newest pass that has rows to the oldest: within one, ranges do not overlap.
  Statement& earlier =
      connection.prepared("SELECT max(pass) FROM history WHERE group_id = ? AND fresh = 1 AND pass < ?");
  Statement& covering = connection.prepared(
      "SELECT last, claim, apart, consumer, claimed_at, settled_at FROM history "
      "WHERE group_id = ? AND fresh = 1 AND pass = ? AND first <= ? ORDER BY first DESC, claim DESC LIMIT 1");
  for (std::int64_t pass = std::numeric_limits<std::int64_t>::max(); !found.taken;) {
    {
      auto row = earlier.query(group.id, pass);
      if (!row.next() || row.is_null(0)) break;
      pass = row.integer(0);
    }
    auto row = covering.query(group.id, pass, ordinal);
    if (!row.next() || row.number(0) < ordinal) continue;
    found.taken = {row.number(1), ledger::RangeSet::parse(row.text(2)), std::string(row.text(3)), row.time(4),
                   row.time(5)};
  }
  return found;
}

void forget_history(State& state) {
  Connection& connection = state.connection();
  for (const Group* group : state.all_groups()) forget_trimmed(state, *group);
  const Timestamp end = state.now() - state.history();
  connection
      .prepared(
          "DELETE FROM history WHERE (group_id, fresh, pass, first, claim) IN "
          "(SELECT group_id, fresh, pass, first, claim FROM history WHERE settled_at < ? ORDER BY settled_at LIMIT ?)")
      .run(end, kAtOnce);
  if (connection.changes() == 0) return;
  connection
      .prepared(
          "INSERT INTO meta (key, value) VALUES ('history_forgotten_to', ?1) "
          "ON CONFLICT (key) DO UPDATE SET value = max(value, ?1)")
      .run(end);
}

}  // namespace millrace::store::sqlite
