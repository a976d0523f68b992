// SPDX-License-Identifier: Apache-2.0

// What was decided, as what is to be written.

#include <algorithm>

#include "store/records.hpp"
#include "store/redis/ledger.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

std::string joined(const std::set<std::uint64_t>& numbers) {
  std::string text;
  for (const std::uint64_t number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

std::string id_of(Ordinal ordinal) {
  return redis::id_of(unpack(ordinal));
}

template <class Visit>
void for_each(const ledger::RangeSet& ranges, Visit visit) {
  for (const auto& [first, last] : ranges.ranges()) {
    for (Ordinal ordinal = first; ordinal <= last; ++ordinal) visit(ordinal);
  }
}

/// Those of `ranges` that are not in `others`. Both in order, so in one pass.
template <class Visit>
void for_each_not_in(const ledger::RangeSet& ranges, const ledger::RangeSet& others, Visit visit) {
  if (others.empty()) return for_each(ranges, visit);
  auto other = others.ranges().begin();
  for_each(ranges, [&](Ordinal ordinal) {
    while (other != others.ranges().end() && other->second < ordinal) ++other;
    if (other == others.ranges().end() || ordinal < other->first) visit(ordinal);
  });
}

}  // namespace

std::uint64_t RedisLedger::take_id(Slot& slot, const Group& group) {
  constexpr std::uint64_t kAtOnce = 16;
  // Within a group, greater numbers are of later hand-outs.
  if (slot.next_id > slot.last_id || slot.next_id <= group.last_claim) {
    const Reply last = client_.run(Purpose::ledger, scripts::ids, {keys_.meta()}, {std::to_string(kAtOnce)});
    slot.last_id = decode_number(last.as_text(), "next_id");
    slot.next_id = slot.last_id - kAtOnce + 1;
  }
  return slot.next_id;  // until it is used
}

void RedisLedger::save(Turn& turn, ledger::Changes& changes) {
  if (!changes.settled.empty()) record_settled(turn, changes.settled);
  save_fields(turn);
  save_rows(turn, changes);
  show_natively(turn, changes);
  if (turn.wake) turn.commit.wake();
}

void RedisLedger::save_fields(Turn& turn) {
  Group& group = turn.group;
  const ledger::Progress& progress = group.state.progress();
  const ledger::Counters& counters = progress.counters;
  const Ordinal oldest = group.state.oldest_open();
  Command fields{"HSET", keys_.group(group.name)};
  const auto set = [&](std::string_view name, std::string value) {
    fields.emplace_back(name);
    fields.push_back(std::move(value));
  };
  const auto count = [&](std::string_view name, std::uint64_t value) { set(name, std::to_string(value)); };
  set(group_field::kCursor, id_of(progress.cursor));
  set(group_field::kOldestOpen, id_of(oldest));
  set(group_field::kLastSeen, encode_time(group.last_seen));
  set("ready", encode_ranges(progress.ready));
  set("suspects", encode_ranges(progress.suspects));
  count("processed", counters.processed);
  count("failures", counters.failures);
  count("crashes", counters.crashes);
  count("rejected", counters.rejected);
  count("expired_events", counters.expired);
  count("skipped", counters.skipped);
  count("pass", progress.pass);
  count("last_claim", group.last_claim);
  set("entries_read", group.entries_read ? std::to_string(*group.entries_read) : "");
  set("unrecorded_to", encode_time(group.unrecorded_to));
  if (turn.rewrite) {
    const GroupIdentity& identity = group.identity;
    set("types", encode_types(identity.types));
    set("order", identity.order.to_string());
    set("settings", encode_settings(identity.settings));
    set(group_field::kExpires, identity.settings.expires ? std::to_string(identity.settings.expires->count()) : "");
    set("paused", group.paused ? "1" : "0");
    set("types_changed", encode_time(group.types_changed));
    set("foreign", joined(group.foreign));
  }
  turn.commit.command(std::move(fields));
  if (group.forgets) turn.commit.command({"HDEL", keys_.group(group.name), std::string(group_field::kForgetUpTo)});
}

void RedisLedger::save_rows(Turn& turn, const ledger::Changes& changes) {
  Group& group = turn.group;
  Commit& commit = turn.commit;
  const StreamName& stream = group.identity.stream;
  for (const ledger::Changes::Dead& dead : changes.dead) {
    const ledger::Item& item = dead.item;
    const DeadRow row{turn.now, false, item.attempts, item.failures, item.crashes, dead.reason};
    commit.command({"HSET", keys_.dead(group.name), id_of(dead.ordinal), encode_dead(row)});
    commit.command({"ZADD", keys_.dead_order(group.name), "0", encode_order(dead.ordinal)});
    commit.keep_copy(stream, dead.ordinal);
  }
  for (const Ordinal ordinal : changes.redriven_done) {
    commit.command({"HDEL", keys_.dead(group.name), id_of(ordinal)});
    commit.drop_copy(ordinal);
  }
  for (const std::uint64_t id : changes.claims) {
    const ledger::Claim* claim = group.state.claim(id);
    if (claim) {
      commit.command({"HSET", keys_.claims(group.name), std::to_string(id), encode_claim(*claim)});
    } else {
      commit.command({"HDEL", keys_.claims(group.name), std::to_string(id)});
      if (group.foreign.erase(id) != 0) {
        commit.command({"HSET", keys_.group(group.name), "foreign", joined(group.foreign)});
      }
    }
  }
  for (const Ordinal ordinal : changes.items) {
    const ledger::Item* item = group.state.item(ordinal);
    if (!item || item->plain()) {
      commit.command({"HDEL", keys_.items(group.name), id_of(ordinal)});
      commit.drop_copy(ordinal);
      continue;
    }
    commit.command({"HSET", keys_.items(group.name), id_of(ordinal), encode_item(*item)});
    if (item->claim == 0) commit.keep_copy(stream, ordinal);
  }
}

/// Keeps the native group in step: who holds what, and how far it has read.
void RedisLedger::show_natively(Turn& turn, const ledger::Changes& changes) {
  Group& group = turn.group;
  Commit& commit = turn.commit;
  const std::string log = keys_.log(group.identity.stream);
  const std::string& name = group.name.str();
  std::vector<std::string> done;
  std::vector<std::string> through;  // consumers
  for (const std::uint64_t id : changes.claims) {
    const ledger::Claim* claim = group.state.claim(id);
    const auto known = group.shown.find(id);
    if (!claim && known == group.shown.end()) continue;
    if (group.foreign.contains(id)) continue;  // its consumer is shown as it is
    static const ledger::RangeSet kNone;
    const ledger::RangeSet& before = known == group.shown.end() ? kNone : known->second.open;
    const ledger::RangeSet& now = claim ? claim->open : kNone;
    const std::string consumer = (claim ? claim->consumer : known->second.consumer) + "#" + std::to_string(id);
    std::map<std::uint32_t, std::vector<std::string>> given;  // by the number of the hand-out
    for_each_not_in(now, before,
                    [&](Ordinal ordinal) { given[group.state.item(ordinal)->attempts].push_back(id_of(ordinal)); });
    for (const auto& [attempt, ids] : given) {
      commit.each({"XCLAIM", log, name, consumer, "0"}, ids, {"FORCE", "JUSTID", "RETRYCOUNT", std::to_string(attempt)},
                  true);
    }
    for_each_not_in(before, now, [&](Ordinal ordinal) { done.push_back(id_of(ordinal)); });
    if (claim) {
      group.shown.insert_or_assign(id, Group::Shown{claim->consumer, claim->open});
    } else {
      through.push_back(consumer);
      group.shown.erase(id);
    }
  }
  commit.each({"XACK", log, name}, done, {}, true);
  for (std::string& consumer : through) {
    commit.native({"XGROUP", "DELCONSUMER", log, name, std::move(consumer)});
  }
  const Ordinal cursor = group.state.progress().cursor;
  if (cursor == group.native_cursor) return;
  Command read_to{"XGROUP", "SETID", log, name, redis::id_of(behind(cursor))};
  if (group.entries_read) {
    read_to.emplace_back("ENTRIESREAD");
    read_to.push_back(std::to_string(*group.entries_read));
  }
  commit.native(std::move(read_to));
}

}  // namespace millrace::store::redis
