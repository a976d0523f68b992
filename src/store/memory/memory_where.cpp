// SPDX-License-Identifier: Apache-2.0

// Where one event is in a group, and opening it once more.

#include <algorithm>

#include "store/ledger/replay_id.hpp"
#include "store/memory/memory_store.hpp"

namespace millrace::store::memory {

ReplayStatus MemoryLedger::replay_one(Group& group, const Stream& stream, std::string_view replayid, Ordinal ordinal) {
  if (group.state.item(ordinal)) return ReplayStatus::open;
  const SharedEvent stored = stream.at(ordinal);
  if (!stored) return ReplayStatus::gone;
  if (!group.filter.matches(stored->event.type)) return ReplayStatus::filtered_out;
  if (ordinal > group.state.progress().cursor) return ReplayStatus::ahead;
  const auto dead = group.dead.find(ordinal);
  const auto key = ledger::hash_key(group.identity.order.key_of(stored->event));
  group.state.replay(ordinal, {key, event_bytes(stored->event)}, replayid, dead != group.dead.end());
  if (dead != group.dead.end()) dead->second.open_again = true;
  return ReplayStatus::accepted;
}

std::vector<ReplayStatus> MemoryLedger::replay(const GroupName& name, std::string_view replayid,
                                               std::span<const Position> positions) {
  ledger::check_replay_id(replayid);
  std::vector<Ordinal> ordinals;
  for (const Position position : positions) ordinals.push_back(ordinal_of(position, "replay"));
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("replay", name);
  const Stream& stream = shared_.streams.at(group.identity.stream);
  const Timestamp now = shared_.clock.now();
  group.state.expire(now, session_end());
  std::vector<ReplayStatus> answers;
  answers.reserve(ordinals.size());
  for (const Ordinal ordinal : ordinals) answers.push_back(replay_one(group, stream, replayid, ordinal));
  shared_.apply(group, now);
  return answers;
}

Whereabouts MemoryLedger::where(const GroupName& name, Position position) {
  const Ordinal ordinal = ordinal_of(position, "where");
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("where", name);
  const Stream& stream = shared_.streams.at(group.identity.stream);
  if (ordinal == 0 || ordinal > stream.last()) {
    throw Error(Errc::not_found, "where", position.to_string(),
                "stream " + stream.name().str() + " never had an event there");
  }
  group.state.expire(shared_.clock.now(), session_end());
  shared_.apply(group, shared_.clock.now());

  Whereabouts where;
  const auto dead = group.dead.find(ordinal);
  const SharedEvent stored = event_of(group, ordinal, dead != group.dead.end());
  if (stored) where.key = group.identity.order.key_of(stored->event);
  const Ordinal cursor = std::max(group.state.progress().cursor, stream.trimmed_to());
  if (const ledger::Item* item = group.state.item(ordinal)) {
    where.state = Whereabouts::State::open;
    where.pending = pending_event(group, ordinal, *item);
    if (const auto first = group.state.parked_behind(ordinal)) where.parked_behind = Position{*first};
  } else if (ordinal <= cursor && dead != group.dead.end()) {
    where.state = Whereabouts::State::dead;
    where.reason = dead->second.letter.reason;
    where.died_at = dead->second.letter.died_at;
  } else if (stored && !group.filter.matches(stored->event.type)) {
    where.state = Whereabouts::State::filtered_out;
  } else if (ordinal > cursor) {
    where.state = Whereabouts::State::ahead;
    where.behind = ordinal - cursor - 1;
  } else {
    where.state = Whereabouts::State::settled;
    ledger::SettledBy found{.exact = group.history.exact(ordinal),
                            .taken = group.history.taken(ordinal),
                            .types_changed = group.types_changed,
                            .unrecorded_to = std::max(group.unrecorded_to, group.history.forgotten_to())};
    ledger::add_open_claims(found, group.state, ordinal, shared_.clock.now());
    ledger::tell_settled(where, ordinal, found);
  }
  return where;
}

}  // namespace millrace::store::memory
