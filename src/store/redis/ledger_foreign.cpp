// SPDX-License-Identifier: Apache-2.0

// Consumers that read the native group by themselves, with XREADGROUP and XACK. What they hold is a claim like others,
// in their name: nobody else gets it until they acknowledge it, or have not touched it for a while. What they have
// acknowledged is settled.

#include <algorithm>

#include "base/log.hpp"
#include "store/redis/ledger.hpp"

namespace millrace::store::redis {
namespace {

constexpr std::chrono::seconds kLookEvery{1};

/// What the native group says of those who read it.
struct NativeView {
  bool there = false;
  Ordinal read_to = 0;
  bool knows_how_many = false;  ///< it was read up to there, not set there by somebody
  std::set<std::string> consumers;
  std::vector<std::string> holders;  ///< those of them that hold something
};

struct Held {
  std::string consumer;
  Milliseconds idle{0};
};

NativeView decode_view(const Reply& groups, const Reply& consumers, const GroupName& name) {
  NativeView view;
  view.read_to = read_to_of(groups, name);
  if (groups.kind != Reply::Kind::array || consumers.kind != Reply::Kind::array) return view;
  for (const Reply& group : groups.items) {
    const auto& fields = group.as_array();
    if (fields.size() < 2 || fields[1].text != name.str()) continue;
    view.there = true;
    for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
      if (fields[i].text == "entries-read") view.knows_how_many = !fields[i + 1].is_nil();
    }
  }
  for (const Reply& consumer : consumers.items) {
    const auto& fields = consumer.as_array();
    bool holds = false;
    std::string who;
    for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
      if (fields[i].text == "name") who = fields[i + 1].text;
      if (fields[i].text == "pending") holds = fields[i + 1].integer > 0;
    }
    view.consumers.insert(who);
    if (holds) view.holders.push_back(std::move(who));
  }
  return view;
}

/// Of all consumers together: asked for one by one, an event that goes from one to the other meanwhile might be in
/// neither answer, and be taken for acknowledged.
std::map<Ordinal, Held> pending_of(Client& client, const std::string& log, const std::string& group) {
  constexpr std::size_t kPage = 5'000;
  std::map<Ordinal, Held> held;
  for (std::string from = "-";;) {
    const Reply page =
        client.call(Purpose::ledger, {"XPENDING", log, group, from, "+", std::to_string(kPage)}, Access::read);
    for (const Reply& row : page.as_array()) {
      const auto& fields = row.as_array();
      from = "(" + fields.at(0).as_text();
      const auto id = parse_id(fields[0].as_text());
      if (id && fits(*id)) held[pack(*id)] = {fields.at(1).as_text(), Milliseconds{fields.at(2).as_integer()}};
    }
    if (page.as_array().size() < kPage) return held;
  }
}

}  // namespace

bool RedisLedger::foreigners_due(const Slot& slot, Timestamp now) const {
  if (!slot.group || slot.group->foreign.empty()) return false;
  const Timestamp::duration every = std::min<Timestamp::duration>(kLookEvery, options_.foreign_idle / 4);
  return now - slot.foreign_looked_at >= every;
}

void RedisLedger::look_at_foreigners(Slot& slot, std::string_view operation) {
  const GroupName name = slot.group->name;
  for (unsigned losses = 0;; ++losses) {
    slot.read_on = false;
    if (take_in_foreigners(slot, losses != 0)) break;
    slot.drop();
    load(slot, name, operation);
  }
  slot.foreign_looked_at = client_.now();
}

/// False when something changed meanwhile.
bool RedisLedger::take_in_foreigners(Slot& slot, bool impatient) {
  Group& group = *slot.group;
  const StreamName& stream = group.identity.stream;
  const std::string log = keys_.log(stream);
  const std::string& name = group.name.str();
  const auto replies =
      client_.pipeline(Purpose::ledger, {{"XINFO", "GROUPS", log}, {"XINFO", "CONSUMERS", log, name}}, Access::read);
  const NativeView view = decode_view(replies.at(0), replies.at(1), group.name);
  if (!view.there && group.foreign.empty()) return true;  // it is made anew with the next claim
  const Timestamp now = client_.now();
  const ledger::GroupState& state = group.state;
  const Ordinal cursor = state.progress().cursor;

  std::set<std::string> ours;
  for (const auto& [id, shown] : group.shown) ours.insert(shown.consumer + "#" + std::to_string(id));
  std::map<Ordinal, Held> held;
  const auto is_ours = [&](const std::string& consumer) { return ours.contains(consumer); };
  if (!std::all_of(view.holders.begin(), view.holders.end(), is_ours)) {
    try {
      held = pending_of(client_, log, name);
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;
      return false;  // somebody destroyed it between the two questions: look again
    }
    std::erase_if(held, [&](const auto& one) { return is_ours(one.second.consumer); });
  }

  const bool read_on = view.read_to > cursor;
  if (read_on && !view.knows_how_many && held.upper_bound(cursor) == held.end()) {
    log::warn(
        "native_group_set", name,
        "somebody set the native group ahead, and nobody has read so far: it is set back, nothing is passed over");
    client_.pipeline(Purpose::ledger, {{"XGROUP", "SETID", log, name, id_of(unpack(cursor))}});
    return true;
  }

  // The state as its rows would be, with what has changed.
  ledger::Snapshot snapshot{.progress = state.progress(), .claims = state.claims(), .items = {}};
  std::unordered_map<Ordinal, ledger::GroupState::OpenEvent> known;
  for (const auto& [ordinal, item] : state.items()) {
    known.emplace(ordinal, ledger::GroupState::OpenEvent{item.key, item.bytes});
    if (!item.plain()) snapshot.items.emplace(ordinal, item);
  }
  ledger::Changes changes;
  std::map<std::string, std::uint64_t> claim_of;
  for (const std::uint64_t id : group.foreign) {
    const auto claim = snapshot.claims.find(id);
    if (claim != snapshot.claims.end()) claim_of.emplace(claim->second.consumer, id);
  }
  std::vector<std::string> taken_over;
  const auto hold = [&](Ordinal ordinal, const Held& by) {
    if (by.idle >= options_.foreign_idle) {
      snapshot.progress.suspects.add(ordinal);
      taken_over.push_back(id_of(unpack(ordinal)));
      return;
    }
    auto [at, added] = claim_of.try_emplace(by.consumer);
    if (added) {
      at->second = take_id(slot, group);
      group.last_claim = slot.next_id++;
      group.foreign.insert(at->second);
      ledger::Claim claim;
      claim.consumer = by.consumer;
      claim.claimed_at = now;
      snapshot.claims.emplace(at->second, std::move(claim));
    }
    snapshot.claims.at(at->second).open.add(ordinal);
    changes.claims.insert(at->second);
  };

  // What they held: still, by another of them, or acknowledged. With a consumer or the group that was deleted
  // (XGROUP DELCONSUMER, DESTROY) its pending entries go, and nobody can tell: they are handed out again.
  for (const std::uint64_t id : std::set<std::uint64_t>(group.foreign)) {
    const auto it = snapshot.claims.find(id);
    if (it == snapshot.claims.end()) continue;
    ledger::Claim& claim = it->second;
    const ledger::RangeSet open = claim.open;
    for (const auto& [first, last] : open.ranges()) {
      for (Ordinal ordinal = first; ordinal <= last; ++ordinal) {
        const auto by = held.find(ordinal);
        if (by != held.end() && by->second.consumer == claim.consumer && by->second.idle < options_.foreign_idle) {
          continue;
        }
        claim.open.remove(ordinal);
        changes.claims.insert(id);
        if (by != held.end()) {
          hold(ordinal, by->second);
        } else if (!view.consumers.contains(claim.consumer)) {
          snapshot.progress.suspects.add(ordinal);
        } else {
          claim.again.add(ordinal);
          ++snapshot.progress.counters.processed;
        }
      }
    }
  }

  // What they have read since.
  ledger::RangeSet acked;
  std::optional<std::uint64_t> entries_read = group.entries_read;
  Position at = behind(cursor);
  for (bool through = !read_on; !through;) {
    constexpr std::size_t kPage = 1'000;
    const Entries page = read_entries(client_, stream, at, kPage, Purpose::ledger, options_.mapping);
    through = page.at_end;
    for (const Entry& entry : page.entries) {
      const Ordinal ordinal = last_up_to(entry.position);
      if (ordinal > view.read_to) {
        through = true;
        break;
      }
      at = entry.position;
      entries_read = entry.n ? entry.n : entries_read ? std::optional(*entries_read + 1) : std::nullopt;
      if (!entry.event || !group.types.matches(entry.event->type) || state.item(ordinal)) continue;
      ++counts_.foreign_taken;
      const auto by = held.find(ordinal);
      if (by == held.end()) {
        acked.add(ordinal);
        ++snapshot.progress.counters.processed;
        continue;
      }
      known[ordinal] = open_event(group.identity.order, *entry.event);
      hold(ordinal, by->second);
    }
  }
  if (read_on) {
    snapshot.progress.cursor = view.read_to;
    group.entries_read = entries_read;
    changes.progress = true;
  }

  for (const std::uint64_t id : std::set<std::uint64_t>(group.foreign)) {
    const auto it = snapshot.claims.find(id);
    if (it == snapshot.claims.end()) continue;
    ledger::Claim& claim = it->second;
    if (claim.open.empty()) {
      for (ledger::RangeSet& block : claim.again.split(ledger::Changes::Settled::kBlock)) {
        const Ordinal first = block.front();
        const Ordinal last = block.back();
        changes.settled.push_back({id, false, 0, first, last, std::move(block), claim.consumer, claim.claimed_at});
      }
      snapshot.claims.erase(it);
      continue;
    }
    // Looked at again long before it ends; so it ends only when nobody looks any more.
    if (claim.lease_until - now >= options_.foreign_idle / 2) continue;
    claim.lease = options_.foreign_idle;
    claim.lease_until = now + options_.foreign_idle;
    changes.claims.insert(id);
  }
  for (ledger::Changes::Settled& one : ledger::settled_by_nobody(acked)) changes.settled.push_back(std::move(one));
  if (changes.empty() && taken_over.empty()) return true;

  group.state.load(std::move(snapshot), [&](Ordinal ordinal, bool) {
    const auto it = known.find(ordinal);
    return it == known.end() ? ledger::GroupState::OpenEvent{} : it->second;
  });
  if (read_on) group.native_cursor = view.read_to;
  Turn turn{
      .slot = slot, .group = group, .now = now, .commit = Commit(keys_, group.name), .rewrite = true, .wake = true};
  // Whatever was pending with the one that does not touch it is nobody's until it is handed out again.
  turn.commit.each({"XACK", log, name}, taken_over, {}, true);
  save(turn, changes);
  const Commit::Answer answer = turn.commit.run(client_, group.version, true, impatient);
  if (answer.kind != Commit::Answer::Kind::done) return false;
  ++counts_.commits;
  group.version = answer.version;
  return true;
}

}  // namespace millrace::store::redis
