// SPDX-License-Identifier: Apache-2.0

// The dead letters of a group: listed beside the writer, redriven and purged by it.

#include "store/ledger_calls.hpp"
#include "store/sqlite/ledger.hpp"
#include "store/sqlite/rows.hpp"

namespace millrace::store::sqlite {
namespace {

/// Calls `take(row)` for each dead letter the query asks for, in order, until it returns false. Columns: position, the
/// event's, stored_at, died_at, reason, attempts, failures, crashes.
template <class Take>
void for_each_dead(Connection& connection, std::int64_t group_id, const DeadLetterQuery& query, Take take) {
  const DeadLetterFilter wanted(query, [](Position position) { return ordinal_of(position, "dead letters"); });
  auto rows = connection
                  .prepared(std::string("SELECT position, ") + kEventColumns +
                            ", stored_at, died_at, reason, attempts, failures, crashes FROM dead_letter "
                            "WHERE group_id = ? AND position > ? AND redriven = 0 ORDER BY position")
                  .query(group_id, ordinal_of(query.after, "dead letters"));
  constexpr int kDiedAt = kEventColumnCount + 2;
  constexpr int kReason = kEventColumnCount + 3;
  while (rows.next()) {
    if (!wanted.names(rows.number(0))) continue;
    if (!wanted.matches(rows.text(1 + kTypeColumn), rows.time(kDiedAt), rows.text(kReason))) continue;
    if (!take(rows)) return;
  }
}

std::vector<Ordinal> matching(State& state, const Group& group, const DeadLetterQuery& query) {
  std::vector<Ordinal> ordinals;
  for_each_dead(state.connection(), group.id, query, [&](const Statement::Rows& row) {
    ordinals.push_back(row.number(0));
    return true;
  });
  return ordinals;
}

}  // namespace

std::vector<DeadLetter> SqliteLedger::dead_letters(const GroupName& name, const DeadLetterQuery& query) {
  return readers_.read([&](Connection& connection) {
    std::int64_t id = 0;
    {
      auto row = connection.prepared("SELECT id FROM consumer_group WHERE name = ?").query(name.str());
      if (!row.next()) throw unknown_group("dead letters", name);
      id = row.integer(0);
    }
    std::vector<DeadLetter> letters;
    if (query.limit == 0) return letters;
    for_each_dead(connection, id, query, [&](const Statement::Rows& row) {
      constexpr int kRest = 1 + kEventColumnCount;
      letters.push_back({Position(row.number(0)), decode_event(row, 1), row.time(kRest), row.time(kRest + 1),
                         std::string(row.text(kRest + 2)), row.number32(kRest + 3), row.number32(kRest + 4),
                         row.number32(kRest + 5)});
      return letters.size() < query.limit;
    });
    return letters;
  });
}

std::uint64_t SqliteLedger::redrive(const GroupName& name, const DeadLetterQuery& query) {
  return writer_.call(true, [&](State& state) {
    Group& group = state.group(name, "redrive");
    Statement& event_row = state.connection().prepared(std::string("SELECT ") + kEventColumns +
                                                       " FROM dead_letter WHERE group_id = ? AND position = ?");
    Statement& hide =
        state.connection().prepared("UPDATE dead_letter SET redriven = 1 WHERE group_id = ? AND position = ?");
    state.touch(group, false);
    std::uint64_t count = 0;
    for (const Ordinal ordinal : matching(state, group, query)) {
      if (query.dry_run) {
        count += group.state.item(ordinal) ? 0 : 1;
        continue;
      }
      ledger::GroupState::OpenEvent open;
      {
        auto row = event_row.query(group.id, ordinal);
        if (!row.next()) continue;
        open = open_event(group.identity.order, decode_event(row, 0));
      }
      if (!group.state.redrive(ordinal, open)) continue;
      hide.run(group.id, ordinal);
      ++count;
    }
    if (count != 0 && !query.dry_run) state.set_dead(group, group.dead - count);
    return count;
  });
}

std::uint64_t SqliteLedger::purge(const GroupName& name, const DeadLetterQuery& query) {
  return writer_.call(true, [&](State& state) {
    Group& group = state.group(name, "purge");
    Statement& remove =
        state.connection().prepared("DELETE FROM dead_letter WHERE group_id = ? AND position = ? AND redriven = 0");
    const std::vector<Ordinal> ordinals = matching(state, group, query);
    if (query.dry_run || ordinals.empty()) return static_cast<std::uint64_t>(ordinals.size());
    ledger::RangeSet purged;
    for (const Ordinal ordinal : ordinals) {
      remove.run(group.id, ordinal);
      purged.add(ordinal);
    }
    record_settled(state, group, ledger::settled_by_nobody(purged));
    state.set_dead(group, group.dead - ordinals.size());
    return static_cast<std::uint64_t>(ordinals.size());
  });
}

}  // namespace millrace::store::sqlite
