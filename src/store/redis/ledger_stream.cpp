// SPDX-License-Identifier: Apache-2.0

// The stream beside the group: where it begins and ends, and how much of it is ahead.

#include <algorithm>

#include "store/ledger_calls.hpp"
#include "store/redis/ledger.hpp"
#include "store/redis/log_rows.hpp"

namespace millrace::store::redis {
namespace {

/// Entries looked at for one of ours, which says how many there were before it.
constexpr std::size_t kLookAhead = 16;

}  // namespace

bool has_native_group(const Reply& groups, const GroupName& name) {
  return groups.kind == Reply::Kind::array &&
         std::any_of(groups.items.begin(), groups.items.end(),
                     [&](const Reply& one) { return one.as_array().size() >= 2 && one.items[1].text == name.str(); });
}

Ordinal read_to_of(const Reply& groups, const GroupName& name) {
  if (groups.kind != Reply::Kind::array) return 0;
  for (const Reply& group : groups.items) {
    const auto& fields = group.as_array();
    if (fields.size() < 2 || fields[1].text != name.str()) continue;
    for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
      const auto id = fields[i].text == "last-delivered-id" ? parse_id(fields[i + 1].text) : std::nullopt;
      if (id) return last_up_to(*id);
    }
  }
  return 0;
}

RedisLedger::StreamFacts RedisLedger::stream_facts(const StreamName& stream) {
  const auto replies = client_.pipeline(
      Purpose::ledger, {{"HGETALL", keys_.stream(stream)}, {"XINFO", "STREAM", keys_.log(stream)}}, Access::read);
  const auto row = decode_stream(replies.at(0));
  if (!row) return {};
  const NativeStream native = decode_native(replies.at(1));
  return {.exists = true,
          .trimmed_to = last_up_to(row->trimmed_to),
          .last = last_up_to(std::max({row->last, native.last, row->trimmed_to}))};
}

Ordinal RedisLedger::cursor_of(const StreamFacts& facts, const Start& start) {
  return start_cursor(start, {.trimmed_to = facts.trimmed_to,
                              .last = facts.last,
                              .at = [](Position position) { return pack(position, "start group"); },
                              .last_before = [](Timestamp time) { return last_up_to(last_before(time)); }});
}

/// False when the group has been made meanwhile. A native group that is none of ours is somebody's: making ours would
/// end it. But when ours has vanished, with all that was in Redis, its consumers may have made the native one first.
bool RedisLedger::name_is_free(const GroupName& name, const StreamName& stream) {
  const std::shared_ptr<Slot> slot = slot_of(name);
  {
    const std::lock_guard lock(slot->mutex);
    if (slot->vanished) return true;
  }
  const std::string log = keys_.log(stream);
  // In this order: one of ours that is made between the two is known by its version.
  const auto replies = client_.pipeline(
      Purpose::ledger, {{"XINFO", "GROUPS", log}, {"HGET", keys_.group(name), std::string(group_field::kVersion)}},
      Access::read);
  if (!replies.at(1).is_nil()) return false;
  if (!has_native_group(replies.at(0), name)) return true;
  throw Error(Errc::already_exists, "create group", name.str(),
              "Redis has a group of this name on " + log +
                  " that Millrace did not make, and its progress would be lost; take another name, or, when nobody "
                  "reads it any more: XGROUP DESTROY " +
                  log + " " + name.str());
}

RedisLedger::Ahead RedisLedger::ahead_of(const Group& group, Ordinal cursor) {
  const StreamName& stream = group.identity.stream;
  const std::string log = keys_.log(stream);
  const Position from = unpack(cursor);
  auto replies = client_.pipeline(Purpose::ledger,
                                  {{"HGET", keys_.group(group.name), std::string(group_field::kVersion)},
                                   {"ZCARD", keys_.dead_order(group.name)},
                                   {"XINFO", "STREAM", log},
                                   {"ZCARD", keys_.erased(stream)},
                                   {"XRANGE", log, "(" + id_of(from), "+", "COUNT", std::to_string(kLookAhead)},
                                   {"XINFO", "GROUPS", log}},
                                  Access::read);
  Ahead ahead;
  if (!replies.at(0).is_nil()) ahead.group_version = replies[0].as_text();
  ahead.dead = static_cast<std::uint64_t>(replies.at(1).as_integer());
  const NativeStream native = decode_native(replies.at(2));
  ahead.added = native.added;
  const auto erased = static_cast<std::uint64_t>(replies.at(3).as_integer());
  ahead.read_to = read_to_of(replies.at(5), group.name);
  std::vector<Entry> next;
  bool at_end = true;
  if (erased != 0) {
    Entries read = read_entries(client_, stream, from, kLookAhead, Purpose::ledger, options_.mapping);
    next = std::move(read.entries);
    at_end = read.at_end;
  } else if (replies.at(4).kind == Reply::Kind::array) {
    for (Reply& pair : replies[4].items) next.push_back(decode(std::move(pair), log, options_.mapping));
    at_end = next.size() < kLookAhead;
  }
  if (next.empty()) return ahead;
  ahead.first = next.front().position;
  const auto ours = std::find_if(next.begin(), next.end(), [](const Entry& entry) { return entry.n.has_value(); });
  const auto before = static_cast<std::uint64_t>(std::distance(next.begin(), ours));
  if (ours != next.end() && *ours->n <= native.added) {
    ahead.events = native.added - *ours->n + 1 + before;
  } else if (at_end) {
    ahead.events = next.size();
  } else {
    ahead.events = group.entries_read && *group.entries_read <= native.added && cursor == group.state.progress().cursor
                       ? native.added - *group.entries_read
                       : native.length + erased;
  }
  ahead.events = std::min(ahead.events, native.length + erased);
  return ahead;
}

GroupInfo RedisLedger::describe(const Group& group, const Ahead& ahead, Timestamp now) {
  std::optional<Timestamp> oldest;
  if (!group.state.items().empty()) {
    oldest = time_of(unpack(group.state.items().begin()->first));
  } else if (ahead.first) {
    oldest = time_of(*ahead.first);
  }
  GroupInfo info = describe_group({.name = group.name,
                                   .identity = group.identity,
                                   .state = group.state,
                                   .paused = group.paused,
                                   .created_at = group.created_at,
                                   .last_seen = group.last_seen,
                                   .cursor = unpack(group.state.progress().cursor),
                                   .ahead = ahead.events,
                                   .dead = ahead.dead,
                                   .oldest = oldest,
                                   .consumers = sessions_.users_of(group.name, now),
                                   .now = now});
  // Entries are stored to the millisecond: one from this very millisecond has waited for some of it.
  if (oldest) info.lag.oldest_seconds = std::max(1e-6, info.lag.oldest_seconds);
  return info;
}

}  // namespace millrace::store::redis
