// SPDX-License-Identifier: Apache-2.0

// Where one event is in a group, and opening it once more.

#include <algorithm>

#include "store/ledger/replay_id.hpp"
#include "store/ledger_calls.hpp"
#include "store/memory/memory_store.hpp"

namespace millrace::store::memory {

ReplayStatus MemoryLedger::replay_one(Group& group, const Stream& stream, std::string_view replayid, Ordinal ordinal) {
  const SharedEvent stored = stream.at(ordinal);
  if (const auto refusal = replay_refusal(group.state, ordinal, stored ? &stored->event : nullptr, group.filter)) {
    return *refusal;
  }
  const auto dead = group.dead.find(ordinal);
  group.state.replay(ordinal, open_event(group.identity.order, stored->event), replayid, dead != group.dead.end());
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
  const Timestamp now = shared_.clock.now();
  group.state.expire(now, session_end());
  shared_.apply(group, now);

  const auto dead = group.dead.find(ordinal);
  const bool died = dead != group.dead.end();
  const SharedEvent stored = event_of(group, ordinal, died);
  const Ordinal cursor = std::max(group.state.progress().cursor, stream.trimmed_to());
  EventFacts facts{.ordinal = ordinal,
                   .cursor = cursor,
                   .event = stored ? &stored->event : nullptr,
                   .types = group.filter,
                   .pending = [&](const ledger::Item& item) { return pending_event(group, ordinal, item); },
                   .position = [](Ordinal one) { return Position{one}; },
                   .behind = [&] { return ordinal - cursor - 1; },
                   .settled_by =
                       [&] {
                         return ledger::SettledBy{
                             .exact = group.history.exact(ordinal),
                             .taken = group.history.taken(ordinal),
                             .types_changed = group.types_changed,
                             .unrecorded_to = std::max(group.unrecorded_to, group.history.forgotten_to())};
                       }};
  if (died) facts.dead = {dead->second.letter.reason, dead->second.letter.died_at};
  return tell_where(group.identity, group.state, facts, now);
}

}  // namespace millrace::store::memory
