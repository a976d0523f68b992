// SPDX-License-Identifier: Apache-2.0

// The dead letters of a group.

#include "store/ledger_calls.hpp"
#include "store/redis/ledger.hpp"

namespace millrace::store::redis {
namespace {

/// Until its copy is read.
StoredEvent lost(Position position) {
  return {position, time_of(position), lost_event(position)};
}

/// Dead letters of one step: more would not fit into a command, and hold the server up.
constexpr std::uint64_t kAtOnce = 1'000;

/// All that a query asks for, in steps of their own. `step` says after which position there may be more.
std::uint64_t in_steps(DeadLetterQuery query,
                       const std::function<std::uint64_t(const DeadLetterQuery&, std::optional<Position>&)>& step) {
  std::uint64_t count = 0;
  for (std::optional<Position> more_after = query.after; more_after;) {
    query.after = *more_after;
    try {
      count += step(query, more_after);
    } catch (const Error& error) {
      if (count == 0 || error.code() != Errc::unavailable) throw;
      throw Error(
          Errc::outcome_unknown, error.operation(), error.object(),
          "done for " + std::to_string(count) + " dead letters, the rest is as it was; repeat: " + error.message(),
          error.native());
    }
  }
  return count;
}

}  // namespace

/// In order, page by page, until `take` returns false.
void RedisLedger::for_each_dead(const GroupName& name, const StreamName& stream, const DeadLetterQuery& query,
                                const std::function<bool(Dead&&)>& take) {
  constexpr std::size_t kPage = 200;
  const DeadLetterFilter wanted(query, [](Position position) { return pack(position, "dead letters"); });
  std::string after = "(" + encode_order(pack(query.after, "dead letters"));
  if (query.after == Position{}) after = "-";
  while (true) {
    const Reply page = client_.call(
        Purpose::ledger, {"ZRANGE", keys_.dead_order(name), after, "+", "BYLEX", "LIMIT", "0", std::to_string(kPage)},
        Access::read);
    if (page.as_array().empty()) return;
    std::vector<Ordinal> ordinals;
    Command rows{"HMGET", keys_.dead(name)};
    Command copies{"HMGET", keys_.events(name)};
    for (const Reply& member : page.as_array()) {
      after = "(" + member.as_text();
      const Ordinal ordinal = decode_order(member.as_text());
      if (!wanted.names(ordinal)) continue;
      ordinals.push_back(ordinal);
      rows.push_back(id_of(unpack(ordinal)));
      copies.push_back(rows.back());
    }
    if (!ordinals.empty()) {
      const auto replies = client_.pipeline(Purpose::ledger, {std::move(rows), std::move(copies)}, Access::read);
      for (std::size_t i = 0; i < ordinals.size(); ++i) {
        const Reply& row = replies.at(0).as_array().at(i);
        const Reply& copy = replies.at(1).as_array().at(i);
        if (row.is_nil()) continue;  // redriven or purged since
        Dead dead{ordinals[i], decode_dead(row.as_text()), lost(unpack(ordinals[i]))};
        if (!copy.is_nil()) {
          Entry entry = decode_copy(copy.as_text(), keys_.log(stream), options_.mapping);
          if (entry.event) dead.stored = std::move(entry).stored();
        }
        if (dead.row.redriven) continue;
        if (!wanted.matches(dead.stored.event.type, dead.row.died_at, dead.row.reason)) continue;
        if (!take(std::move(dead))) return;
      }
    }
    if (page.as_array().size() < kPage) return;
  }
}

std::optional<RedisLedger::Dead> RedisLedger::dead_letter(const Group& group, Ordinal ordinal) {
  const std::string id = id_of(unpack(ordinal));
  const auto replies = client_.pipeline(
      Purpose::ledger, {{"HGET", keys_.dead(group.name), id}, {"HGET", keys_.events(group.name), id}}, Access::read);
  if (replies.at(0).is_nil()) return std::nullopt;
  Dead dead{ordinal, decode_dead(replies[0].as_text()), lost(unpack(ordinal))};
  if (!replies.at(1).is_nil()) {
    Entry entry = decode_copy(replies[1].as_text(), keys_.log(group.identity.stream), options_.mapping);
    if (entry.event) dead.stored = std::move(entry).stored();
  }
  return dead;
}

std::vector<DeadLetter> RedisLedger::dead_letters(const GroupName& name, const DeadLetterQuery& query) {
  const StreamName stream = look(name, "dead letters", [&](Turn& turn) {
    make_current(turn);
    if (!turn.stale) turn.group.state.expire(turn.now, session_end());
    return turn.group.identity.stream;
  });
  std::vector<DeadLetter> letters;
  if (query.limit == 0) return letters;
  for_each_dead(name, stream, query, [&](Dead&& dead) {
    letters.push_back({dead.stored.position, std::move(dead.stored.event), dead.stored.stored_at, dead.row.died_at,
                       std::move(dead.row.reason), dead.row.attempts, dead.row.failures, dead.row.crashes});
    return letters.size() < query.limit;
  });
  return letters;
}

std::uint64_t RedisLedger::redrive(const GroupName& name, const DeadLetterQuery& query) {
  return in_steps(query, [&](const DeadLetterQuery& rest, std::optional<Position>& more_after) {
    return decide(name, "redrive", [&](Turn& turn) {
      std::uint64_t count = 0;
      more_after.reset();
      make_current(turn);
      if (turn.stale) return count;
      Group& group = turn.group;
      for_each_dead(name, group.identity.stream, rest, [&](Dead&& dead) {
        if (rest.dry_run) {
          count += group.state.item(dead.ordinal) ? 0 : 1;
          return true;
        }
        if (!group.state.redrive(dead.ordinal, open_event(group.identity.order, dead.stored.event))) return true;
        dead.row.redriven = true;
        turn.commit.command({"HSET", keys_.dead(name), id_of(unpack(dead.ordinal)), encode_dead(dead.row)});
        turn.commit.command({"ZREM", keys_.dead_order(name), encode_order(dead.ordinal)});
        if (++count < kAtOnce) return true;
        more_after = unpack(dead.ordinal);
        return false;
      });
      return count;
    });
  });
}

std::uint64_t RedisLedger::purge(const GroupName& name, const DeadLetterQuery& query) {
  return in_steps(query, [&](const DeadLetterQuery& rest, std::optional<Position>& more_after) {
    return decide(name, "purge", [&](Turn& turn) {
      std::uint64_t count = 0;
      more_after.reset();
      make_current(turn);
      if (turn.stale) return count;
      ledger::RangeSet purged;
      for_each_dead(name, turn.group.identity.stream, rest, [&](Dead&& dead) {
        ++count;
        if (rest.dry_run) return true;
        turn.commit.command({"HDEL", keys_.dead(name), id_of(unpack(dead.ordinal))});
        turn.commit.command({"ZREM", keys_.dead_order(name), encode_order(dead.ordinal)});
        const ledger::Item* item = turn.group.state.item(dead.ordinal);
        if (!item || item->plain()) turn.commit.drop_copy(dead.ordinal);
        purged.add(dead.ordinal);
        if (count < kAtOnce) return true;
        more_after = unpack(dead.ordinal);
        return false;
      });
      if (!purged.empty()) record_settled(turn, ledger::settled_by_nobody(purged));
      return count;
    });
  });
}

}  // namespace millrace::store::redis
