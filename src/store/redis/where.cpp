// SPDX-License-Identifier: Apache-2.0

// Where one event is in a group, and opening it once more.

#include <algorithm>

#include "store/ledger/replay_id.hpp"
#include "store/ledger_calls.hpp"
#include "store/redis/ledger.hpp"

namespace millrace::store::redis {

ReplayStatus RedisLedger::replay_one(Turn& turn, std::string_view replayid, Ordinal ordinal,
                                     const std::optional<Entry>& entry) {
  Group& group = turn.group;
  const Event* event = entry && entry->event ? &*entry->event : nullptr;
  if (const auto refusal = replay_refusal(group.state, ordinal, event, group.types)) return *refusal;
  std::optional<Dead> dead = dead_letter(group, ordinal);
  if (dead) {
    dead->row.redriven = true;
    turn.commit.command({"HSET", keys_.dead(group.name), id_of(unpack(ordinal)), encode_dead(dead->row)});
    turn.commit.command({"ZREM", keys_.dead_order(group.name), encode_order(ordinal)});
  }
  group.state.replay(ordinal, open_event(group.identity.order, *event), replayid, dead.has_value());
  return ReplayStatus::accepted;
}

std::vector<ReplayStatus> RedisLedger::replay(const GroupName& name, std::string_view replayid,
                                              std::span<const Position> positions) {
  ledger::check_replay_id(replayid);
  std::vector<Ordinal> ordinals;
  ordinals.reserve(positions.size());
  for (const Position position : positions) ordinals.push_back(pack(position, "replay"));
  return decide(name, "replay", [&](Turn& turn) {
    std::vector<ReplayStatus> answers;
    make_current(turn);
    if (turn.stale) return answers;
    turn.group.state.expire(turn.now, session_end());
    const Events events = load_events(turn.group, std::set<Ordinal>(ordinals.begin(), ordinals.end()), {});
    answers.reserve(ordinals.size());
    for (const Ordinal ordinal : ordinals) answers.push_back(replay_one(turn, replayid, ordinal, events.at(ordinal)));
    return answers;
  });
}

Whereabouts RedisLedger::where(const GroupName& name, Position position) {
  const Ordinal ordinal = pack(position, "where");
  return look(name, "where", [&](Turn& turn) {
    make_current(turn);
    if (turn.stale) return Whereabouts{};
    Group& group = turn.group;
    group.state.expire(turn.now, session_end());
    const StreamFacts facts = stream_facts(group.identity.stream);
    const std::optional<Dead> dead = dead_letter(group, ordinal);
    std::optional<Entry> entry;
    if (!dead) entry = std::move(load_events(group, {ordinal}, {ordinal}).at(ordinal));
    const Event* event = dead ? &dead->stored.event : entry && entry->event ? &*entry->event : nullptr;
    if (!event && !group.state.item(ordinal) && (ordinal == 0 || ordinal > facts.trimmed_to)) {
      throw Error(Errc::not_found, "where", position.to_string(),
                  "stream " + group.identity.stream.str() + " has no event there");
    }

    const Ordinal cursor = std::max(group.state.progress().cursor, facts.trimmed_to);
    EventFacts told{.ordinal = ordinal,
                    .cursor = cursor,
                    .event = event,
                    .types = group.types,
                    .pending =
                        [&](const ledger::Item& item) {
                          if (dead) entry = Entry{.position = dead->stored.position, .event = dead->stored.event};
                          return pending_event(turn, ordinal, item, entry);
                        },
                    .position = unpack,
                    .behind =
                        [&] {
                          const std::uint64_t from_cursor = ahead_of(group, cursor).events;
                          return from_cursor - std::min(from_cursor, ahead_of(group, ordinal).events + 1);
                        },
                    .settled_by = [&] { return settled_by(turn, ordinal, facts.trimmed_to); }};
    if (dead && !dead->row.redriven) told.dead = {dead->row.reason, dead->row.died_at};
    return tell_where(group.identity, group.state, told, turn.now);
  });
}

}  // namespace millrace::store::redis
