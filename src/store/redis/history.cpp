// SPDX-License-Identifier: Apache-2.0

// Who settled an event: rows in the order they are found by, and a list of them by age.

#include <algorithm>
#include <limits>

#include "store/redis/ledger.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

/// Of a group; they stand in memory. About 30 MB.
constexpr std::uint64_t kMostRows = 100'000;
/// Forgotten by one housekeeping, so that nobody waits long behind it.
constexpr int kAtOnce = 1'000;

std::string by_age(const Keys& keys, const GroupName& group) {
  return keys.history(group) + ":age";
}

}  // namespace

void RedisLedger::record_settled(Turn& turn, const std::vector<ledger::Changes::Settled>& settled) {
  Group& group = turn.group;
  if (options_.history.count() == 0) {
    // Settled without a row: from now on only that is certain.
    group.unrecorded_to = turn.now;
    return;
  }
  for (const ledger::Changes::Settled& one : settled) {
    HistoryMember member{.fresh = one.fresh,
                         .pass = one.pass,
                         .first = one.first,
                         .last = one.last,
                         .row = {one.claim, one.apart, one.consumer, one.claimed_at, turn.now}};
    if (one.claim == 0) {
      member.row.id = group.last_claim = take_id(turn.slot, group);
      ++turn.slot.next_id;
      member.row.claimed_at = turn.now;
    }
    const std::string text = encode_history(member);
    turn.commit.command({"ZADD", keys_.history(group.name), "0", text});
    turn.commit.command(
        {"RPUSH", by_age(keys_, group.name), encode_time(turn.now) + " " + std::string(history_key(text))});
  }
}

ledger::SettledBy RedisLedger::settled_by(const Turn& turn, Ordinal ordinal, Ordinal trimmed_to) {
  constexpr Ordinal kBlock = ledger::Changes::Settled::kBlock;
  const Group& group = turn.group;
  const std::string key = keys_.history(group.name);
  const Timestamp kept_from = turn.now - options_.history;
  // No row of what was handed out again spans two blocks, so those of its own block are all that can hold it.
  const auto replies = client_.pipeline(
      Purpose::ledger,
      {{"HGET", keys_.group(group.name), "forgotten_to"},
       {"ZRANGE", key, "[" + again_prefix(ordinal - ordinal % kBlock), "(" + again_prefix(ordinal) + "!", "BYLEX"}},
      Access::read);
  ledger::SettledBy found;
  found.types_changed = group.types_changed;
  Timestamp forgotten_to = replies.at(0).is_nil() ? Timestamp{} : decode_time(replies[0].as_text());
  forgotten_to = std::max(forgotten_to, kept_from);
  if (group.unrecorded_to != Timestamp{}) found.unrecorded_to = std::max(group.unrecorded_to, forgotten_to);
  // Rows of trimmed events go whatever their age: all that is certain is "by now".
  if (ordinal <= trimmed_to) found.unrecorded_to = turn.now;
  for (const Reply& member : replies.at(1).as_array()) {
    HistoryMember one = decode_history(member.as_text());
    if (one.row.settled_at < kept_from || one.last < ordinal || !one.row.apart.contains(ordinal)) continue;
    if (found.exact && found.exact->id > one.row.id) continue;
    one.row.apart = {};
    found.exact = std::move(one.row);
  }
  // From the newest pass that has rows to the oldest: within one, ranges do not overlap.
  for (std::uint64_t pass = group.state.progress().pass;;) {
    const Reply reply = client_.call(
        Purpose::ledger,
        {"ZRANGE", key, "(" + fresh_prefix(pass, ordinal) + "!", "[fresh ", "BYLEX", "REV", "LIMIT", "0", "1"},
        Access::read);
    if (reply.as_array().empty()) break;
    HistoryMember one = decode_history(reply.as_array()[0].as_text());
    const bool covers = one.pass <= pass && one.first <= ordinal && one.last >= ordinal;
    if (covers && one.row.settled_at >= kept_from) {
      found.taken = std::move(one.row);
      break;
    }
    if (one.pass == pass) {
      if (pass == 0) break;
      --pass;
    } else {
      pass = one.pass;
    }
  }
  return found;
}

void RedisLedger::forget_history(const GroupName& name) {
  const auto reply =
      client_.run(Purpose::ledger, scripts::history, {keys_.group(name), keys_.history(name), by_age(keys_, name)},
                  {encode_time(client_.now() - options_.history), std::to_string(kMostRows), std::to_string(kAtOnce)});
  (void)reply;
}

/// What the log no longer has, nobody asks for by position: retention bounds the history too.
void RedisLedger::forget_trimmed(const GroupName& name, const StreamName& stream) {
  const Ordinal trimmed_to = stream_facts(stream).trimmed_to;
  if (trimmed_to == 0) return;
  const std::string key = keys_.history(name);
  const std::string most = std::to_string(kAtOnce);
  const auto forget = [&](const std::string& from, const std::string& to) {
    const Reply reply =
        client_.call(Purpose::ledger, {"ZRANGE", key, from, to, "BYLEX", "LIMIT", "0", most}, Access::read);
    Command command{"ZREM", key};
    std::optional<HistoryMember> last;
    for (const Reply& member : reply.as_array()) {
      last = decode_history(member.as_text());
      if (last->last <= trimmed_to) command.push_back(member.as_text());
    }
    if (command.size() > 2) client_.call(Purpose::ledger, std::move(command));
    return last;
  };
  forget("[again ", "(" + again_prefix(trimmed_to) + "!");
  // Of each pass, the rows up to there. The first row at or after the beginning of a pass tells which one it is.
  for (std::uint64_t pass = 0;; ++pass) {
    const Reply next =
        client_.call(Purpose::ledger,
                     {"ZRANGE", key, "[" + fresh_prefix(pass, 0), "(fresh!", "BYLEX", "LIMIT", "0", "1"}, Access::read);
    if (next.as_array().empty()) return;
    pass = decode_history(next.as_array()[0].as_text()).pass;
    forget("[" + fresh_prefix(pass, 0), "(" + fresh_prefix(pass, trimmed_to) + "!");
  }
}

}  // namespace millrace::store::redis
