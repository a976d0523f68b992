// SPDX-License-Identifier: Apache-2.0

// Where one event is in a group, and opening it once more.

#include <algorithm>

#include "store/ledger/replay_id.hpp"
#include "store/redis/ledger.hpp"

namespace millrace::store::redis {

ReplayStatus RedisLedger::replay_one(Turn& turn, std::string_view replayid, Ordinal ordinal,
                                     const std::optional<Entry>& entry) {
  Group& group = turn.group;
  if (group.state.item(ordinal)) return ReplayStatus::open;
  if (!entry || !entry->event) return ReplayStatus::gone;
  const Event& event = *entry->event;
  if (!group.types.matches(event.type)) return ReplayStatus::filtered_out;
  if (ordinal > group.state.progress().cursor) return ReplayStatus::ahead;
  std::optional<Dead> dead = dead_letter(group, ordinal);
  if (dead) {
    dead->row.redriven = true;
    turn.commit.command({"HSET", keys_.dead(group.name), id_of(unpack(ordinal)), encode_dead(dead->row)});
    turn.commit.command({"ZREM", keys_.dead_order(group.name), encode_order(ordinal)});
  }
  const auto key = ledger::hash_key(group.identity.order.key_of(event));
  group.state.replay(ordinal, {key, event_bytes(event)}, replayid, dead.has_value());
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
    Whereabouts where;
    make_current(turn);
    if (turn.stale) return where;
    Group& group = turn.group;
    group.state.expire(turn.now, session_end());
    const StreamFacts facts = stream_facts(group.identity.stream);
    const std::optional<Dead> dead = dead_letter(group, ordinal);
    std::optional<Entry> entry;
    if (!dead) entry = std::move(load_events(group, {ordinal}, {ordinal}).at(ordinal));
    const Event* event = dead ? &dead->stored.event : entry && entry->event ? &*entry->event : nullptr;
    const ledger::Item* item = group.state.item(ordinal);
    if (!event && !item && (ordinal == 0 || ordinal > facts.trimmed_to)) {
      throw Error(Errc::not_found, "where", position.to_string(),
                  "stream " + group.identity.stream.str() + " has no event there");
    }

    if (event) where.key = group.identity.order.key_of(*event);
    const Ordinal cursor = std::max(group.state.progress().cursor, facts.trimmed_to);
    if (item) {
      where.state = Whereabouts::State::open;
      if (dead) entry = Entry{.position = dead->stored.position, .event = dead->stored.event};
      where.pending = pending_event(turn, ordinal, *item, entry);
      if (const auto first = group.state.parked_behind(ordinal)) where.parked_behind = unpack(*first);
    } else if (ordinal <= cursor && dead && !dead->row.redriven) {
      where.state = Whereabouts::State::dead;
      where.reason = dead->row.reason;
      where.died_at = dead->row.died_at;
    } else if (event && !group.types.matches(event->type)) {
      where.state = Whereabouts::State::filtered_out;
    } else if (ordinal > cursor) {
      where.state = Whereabouts::State::ahead;
      const std::uint64_t from_cursor = ahead_of(group, cursor).events;
      where.behind = from_cursor - std::min(from_cursor, ahead_of(group, ordinal).events + 1);
    } else {
      where.state = Whereabouts::State::settled;
      ledger::SettledBy found = settled_by(turn, ordinal, facts.trimmed_to);
      ledger::add_open_claims(found, group.state, ordinal, turn.now);
      ledger::tell_settled(where, ordinal, found);
    }
    return where;
  });
}

}  // namespace millrace::store::redis
