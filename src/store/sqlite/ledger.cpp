// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/ledger.hpp"

#include <algorithm>

#include "store/ledger_calls.hpp"
#include "store/records.hpp"
#include "store/sqlite/log.hpp"
#include "store/sqlite/rows.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

/// When the oldest event that is not settled was stored.
std::optional<Timestamp> oldest_unsettled(StreamState& stream, const Group& group, std::uint64_t ahead) {
  const Ordinal open = group.state.oldest_open();
  if (open != 0) {
    auto row = stream.by_position.query(open);
    if (row.next()) return row.time(kEventColumnCount);
  }
  if (ahead == 0) return std::nullopt;
  Ordinal first = 0;
  {
    auto row = stream.after.query(std::max(group.state.progress().cursor, stream.trimmed_to));
    if (!row.next()) return std::nullopt;
    first = row.number(0);
  }
  auto row = stream.by_position.query(first);
  return row.next() ? std::optional(row.time(kEventColumnCount)) : std::nullopt;
}

void change_settings(State& state, Group& group, const GroupSettings& settings) {
  if (group.identity.settings == settings) return;
  state.connection()
      .prepared("UPDATE consumer_group SET settings = ? WHERE id = ?")
      .run(encode_settings(settings), group.id);
  group.identity.settings = settings;
  group.state.set_settings(settings);
}

void apply(State& state, Group& group, const GroupChange& change) {
  Connection& connection = state.connection();
  StreamState& stream = state.stream(group.identity.stream, "alter group");
  // Everything that can refuse, before anything is written.
  const auto skip = change.skip ? std::optional(ordinal_of(*change.skip, "skip")) : std::nullopt;
  check_change(group.name, change, skip, group.identity, group.state);
  const std::optional<Ordinal> cursor =
      change.seek ? std::optional(cursor_of(state, stream, *change.seek)) : std::nullopt;

  state.touch(group, false);
  if (skip) group.state.skip(*skip);
  if (cursor) {
    group.state.seek(*cursor, events_between(stream, group.state.progress().cursor, *cursor));
    group.unrecorded_to = state.now();  // written with the group's progress
  }
  if (change.settings) change_settings(state, group, *change.settings);
  if (change.paused && *change.paused != group.paused) {
    connection.prepared("UPDATE consumer_group SET paused = ? WHERE id = ?").run(*change.paused, group.id);
    group.paused = *change.paused;
  }
  if (change.types) {
    connection.prepared("UPDATE consumer_group SET types = ?1, types_changed = ?3, unrecorded_to = ?3 WHERE id = ?2")
        .run(encode_types(*change.types), group.id, state.now());
    group.types_changed = group.unrecorded_to = state.now();
    group.identity.types = *change.types;
  }
  if (change.order) {
    connection.prepared("UPDATE consumer_group SET order_rule = ? WHERE id = ?")
        .run(change.order->to_string(), group.id);
    group.identity.order = *change.order;
  }
  group.judgement =
      std::make_shared<const Judgement>(Judgement{PatternList(group.identity.types), group.identity.order});
  state.wake();
}

}  // namespace

std::uint64_t events_between(const StreamState& stream, Ordinal after, Ordinal to) {
  return positions_between(stream.skipped, std::max(after, stream.trimmed_to), to);
}

Ordinal cursor_of(State& state, const StreamState& stream, const Start& start) {
  return start_cursor(start, {.trimmed_to = stream.trimmed_to,
                              .last = stream.head(),
                              .at = [](Position position) { return ordinal_of(position, "start group"); },
                              .last_before =
                                  [&](Timestamp time) {
                                    return last_before(state.connection(), stream.id, stream.trimmed_to + 1,
                                                       stream.head(), time);
                                  }});
}

GroupInfo describe(State& state, Group& group) {
  StreamState& stream = state.stream(group.identity.stream, "describe group");
  group.state.expire(state.now(), state.session_end());
  state.touch(group, false);
  const Ordinal cursor = group.state.progress().cursor;
  const std::uint64_t ahead = events_between(stream, cursor, stream.head());
  return describe_group({.name = group.name,
                         .identity = group.identity,
                         .state = group.state,
                         .paused = group.paused,
                         .created_at = group.created_at,
                         .last_seen = group.last_seen,
                         .cursor = Position(cursor),
                         .ahead = ahead,
                         .dead = group.dead,
                         .oldest = oldest_unsettled(stream, group, ahead),
                         .consumers = state.users_of(group.name),
                         .now = state.now()});
}

// ---- Groups ----

GroupInfo SqliteLedger::ensure_group(const GroupName& name, const GroupSpec& spec) {
  if (spec.types) check_types(*spec.types);
  return writer_.call(true, [&](State& state) {
    Group* group = state.find_group(name);
    if (group) {
      check_group(name, spec, group->identity);
      state.touch(*group, true);
      if (spec.settings) change_settings(state, *group, *spec.settings);
      return describe(state, *group);
    }
    const GroupIdentity identity = new_group(name, spec);
    const StreamState& stream = state.stream(identity.stream, "ensure group");
    return describe(state, state.add_group(name, identity, cursor_of(state, stream, identity.start)));
  });
}

std::vector<GroupInfo> SqliteLedger::groups() {
  return writer_.call(false, [&](State& state) {
    std::vector<GroupInfo> infos;
    for (Group* group : state.all_groups()) infos.push_back(describe(state, *group));
    return infos;
  });
}

GroupInfo SqliteLedger::group(const GroupName& name) {
  return writer_.call(false, [&](State& state) { return describe(state, state.group(name, "read group")); });
}

GroupInfo SqliteLedger::alter_group(const GroupName& name, const GroupChange& change) {
  if (change.types) check_types(*change.types);
  if (change.settings) change.settings->validate();
  return writer_.call(true, [&](State& state) {
    Group& group = state.group(name, "alter group");
    apply(state, group, change);
    return describe(state, group);
  });
}

void SqliteLedger::delete_group(const GroupName& name) {
  writer_.call(true, [&](State& state) { state.delete_group(state.group(name, "delete group")); });
}

// ---- Sessions ----

SessionId SqliteLedger::open_session(const std::string& consumer, Milliseconds lease) {
  check_consumer(consumer, lease);
  return writer_.call(false, [&](State& state) {
    const SessionId id = state.new_id();
    const Session session{consumer, lease, state.now() + lease};
    state.connection()
        .prepared("INSERT INTO session (id, consumer, lease_ms, until) VALUES (?,?,?,?)")
        .run(id, consumer, static_cast<std::int64_t>(lease.count()), session.until);
    state.sessions().insert_or_assign(id, session);
    return id;
  });
}

bool SqliteLedger::renew_session(SessionId id) {
  return writer_.call(false, [&](State& state) {
    const auto session = state.sessions().find(id);
    if (session == state.sessions().end() || session->second.until <= state.now()) {
      state.note_ended(id);
      return false;
    }
    session->second.until = state.now() + session->second.lease;
    state.connection().prepared("UPDATE session SET until = ? WHERE id = ?").run(session->second.until, id);
    state.note_renewed(id);
    return true;
  });
}

void SqliteLedger::close_session(SessionId id) {
  writer_.call(true, [&](State& state) {
    state.note_ended(id);
    const auto session = state.sessions().find(id);
    if (session == state.sessions().end()) return;
    // One that has expired has crashed, however politely it says goodbye now.
    const bool expired = session->second.until <= state.now();
    for (Group* group : state.all_groups()) {
      state.touch(*group, false);
      if (expired) {
        group->state.expire(state.now(), state.session_end());
      } else {
        group->state.release_session(id);
      }
    }
    state.connection().prepared("DELETE FROM session WHERE id = ?").run(id);
    state.sessions().erase(id);
  });
}

// ---- Deliveries ----

ClaimAnswer SqliteLedger::claim(const GroupName& name, const ClaimRequest& request) {
  check_claim(request);
  ReadAhead ahead = ahead_.read(name, request);
  return writer_.call(false, [&](State& state) { return hand_out(state, name, request, ahead, ahead_); });
}

std::vector<std::size_t> SqliteLedger::settle(const GroupName& name, std::span<const Settlement> settlements) {
  return writer_.call(true, [&](State& state) {
    Group& group = state.group(name, "settle");
    state.touch(group, true);
    return settle_all(group.state, settlements, same_lease, state.now(), state.session_end());
  });
}

std::vector<std::size_t> SqliteLedger::extend(const GroupName& name, std::span<const Lease> leases,
                                              Milliseconds lease) {
  check_consumer("-", lease);
  return writer_.call(false, [&](State& state) {
    Group& group = state.group(name, "extend");
    state.touch(group, true);
    return extend_all(group.state, leases, lease, same_lease, state.now(), state.session_end());
  });
}

std::vector<PendingEvent> SqliteLedger::pending(const GroupName& name, Position after, std::size_t limit) {
  const Ordinal from = ordinal_of(after, "pending");
  return writer_.call(false, [&](State& state) {
    Group& group = state.group(name, "pending");
    group.state.expire(state.now(), state.session_end());
    state.touch(group, false);
    std::vector<PendingEvent> all;
    const auto& items = group.state.items();
    for (auto it = items.upper_bound(from); it != items.end() && all.size() < limit; ++it) {
      all.push_back(pending_event(state, group, it->first, it->second));
    }
    return all;
  });
}

PendingEvent pending_event(State& state, Group& group, Ordinal ordinal, const ledger::Item& item) {
  PendingEvent event = describe_pending(group.state, ordinal, item, Position(ordinal), state.session_end());
  auto row =
      item.redriven
          ? state.connection()
                .prepared("SELECT id, source, type, subject FROM dead_letter WHERE group_id = ? AND position = ?")
                .query(group.id, ordinal)
          : state.stream(group.identity.stream, "pending").by_position.query(ordinal);
  if (row.next()) {
    event.id = row.text(0);
    event.source = row.text(1);
    event.type = row.text(2);
    event.subject = row.text(3);
  }
  return event;
}

}  // namespace millrace::store::sqlite
