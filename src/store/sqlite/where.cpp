// SPDX-License-Identifier: Apache-2.0

// Where one event is in a group, and opening it once more.

#include <algorithm>

#include "store/ledger/replay_id.hpp"
#include "store/ledger_calls.hpp"
#include "store/sqlite/ledger.hpp"
#include "store/sqlite/rows.hpp"

namespace millrace::store::sqlite {
namespace {

std::optional<Event> logged_event(StreamState& stream, Ordinal ordinal) {
  auto row = stream.by_position.query(ordinal);
  return row.next() ? std::optional(decode_event(row, 0)) : std::nullopt;
}

/// A dead letter, shown or open again.
struct DeadRow {
  Event event;
  std::string reason;
  Timestamp died_at;
};

std::optional<DeadRow> dead_letter(State& state, const Group& group, Ordinal ordinal) {
  auto row = state.connection()
                 .prepared(std::string("SELECT ") + kEventColumns +
                           ", reason, died_at FROM dead_letter WHERE group_id = ? AND position = ?")
                 .query(group.id, ordinal);
  if (!row.next()) return std::nullopt;
  return DeadRow{decode_event(row, 0), std::string(row.text(kEventColumnCount)), row.time(kEventColumnCount + 1)};
}

ReplayStatus replay_one(State& state, Group& group, StreamState& stream, std::string_view replayid, Ordinal ordinal) {
  const std::optional<Event> event = logged_event(stream, ordinal);
  const Event* known = event ? &*event : nullptr;
  if (const auto refusal = replay_refusal(group.state, ordinal, known, group.judgement->types)) return *refusal;
  state.connection()
      .prepared("UPDATE dead_letter SET redriven = 1 WHERE group_id = ? AND position = ?")
      .run(group.id, ordinal);
  const bool dead = state.connection().changes() != 0;
  if (dead) state.set_dead(group, group.dead - 1);
  group.state.replay(ordinal, open_event(group.identity.order, *event), replayid, dead);
  return ReplayStatus::accepted;
}

bool ever_stored(const StreamState& stream, Ordinal ordinal) {
  return ordinal != 0 && ordinal <= stream.head() && positions_between(stream.skipped, ordinal - 1, ordinal) == 1;
}

}  // namespace

std::vector<ReplayStatus> SqliteLedger::replay(const GroupName& name, std::string_view replayid,
                                               std::span<const Position> positions) {
  ledger::check_replay_id(replayid);
  std::vector<Ordinal> ordinals;
  for (const Position position : positions) ordinals.push_back(ordinal_of(position, "replay"));
  return writer_.call(true, [&](State& state) {
    Group& group = state.group(name, "replay");
    StreamState& stream = state.stream(group.identity.stream, "replay");
    group.state.expire(state.now(), state.session_end());
    state.touch(group, false);
    std::vector<ReplayStatus> answers;
    answers.reserve(ordinals.size());
    for (const Ordinal ordinal : ordinals) answers.push_back(replay_one(state, group, stream, replayid, ordinal));
    return answers;
  });
}

Whereabouts SqliteLedger::where(const GroupName& name, Position position) {
  const Ordinal ordinal = ordinal_of(position, "where");
  return writer_.call(false, [&](State& state) {
    Group& group = state.group(name, "where");
    StreamState& stream = state.stream(group.identity.stream, "where");
    if (!ever_stored(stream, ordinal)) {
      throw Error(Errc::not_found, "where", position.to_string(),
                  "stream " + stream.name.str() + " never had an event there");
    }
    group.state.expire(state.now(), state.session_end());
    state.touch(group, false);

    const std::optional<DeadRow> dead = dead_letter(state, group, ordinal);
    const std::optional<Event> event = dead ? dead->event : logged_event(stream, ordinal);
    const Ordinal cursor = std::max(group.state.progress().cursor, stream.trimmed_to);
    EventFacts facts{.ordinal = ordinal,
                     .cursor = cursor,
                     .event = event ? &*event : nullptr,
                     .types = group.judgement->types,
                     .pending = [&](const ledger::Item& item) { return pending_event(state, group, ordinal, item); },
                     .position = [](Ordinal one) { return Position(one); },
                     .behind = [&] { return events_between(stream, cursor, ordinal - 1); },
                     .settled_by = [&] { return settled_by(state, group, ordinal); }};
    if (dead) facts.dead = {dead->reason, dead->died_at};
    return tell_where(group.identity, group.state, facts, state.now());
  });
}

}  // namespace millrace::store::sqlite
