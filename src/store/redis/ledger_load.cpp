// SPDX-License-Identifier: Apache-2.0

// A group's rows, read as its state.

#include <algorithm>

#include "store/ledger_calls.hpp"
#include "store/records.hpp"
#include "store/redis/ledger.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

using Fields = std::unordered_map<std::string, std::string>;

Fields fields_of(const Reply& reply) {
  const auto& items = reply.as_array();
  Fields fields;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) fields.emplace(items[i].as_text(), items[i + 1].as_text());
  return fields;
}

/// What the group's hash says, with defaults for what a group that was just made has not.
class Record {
 public:
  explicit Record(Fields fields) : fields_(std::move(fields)) {}

  [[nodiscard]] std::string text(std::string_view name) const {
    const auto it = fields_.find(std::string(name));
    return it == fields_.end() ? std::string{} : it->second;
  }
  [[nodiscard]] std::uint64_t number(std::string_view name) const {
    const std::string value = text(name);
    return value.empty() ? 0 : decode_number(value, name);
  }
  [[nodiscard]] Timestamp time(std::string_view name) const {
    const std::string value = text(name);
    return value.empty() ? Timestamp{} : decode_time(value);
  }
  [[nodiscard]] Ordinal position(std::string_view name) const {
    const std::string value = text(name);
    return value.empty() ? 0 : pack(position_of(value, name), name);
  }

 private:
  Fields fields_;
};

ledger::Snapshot snapshot_of(const Record& record, const Reply& claims, const Reply& items) {
  ledger::Snapshot snapshot;
  ledger::Progress& progress = snapshot.progress;
  progress.cursor = record.position(group_field::kCursor);
  progress.ready = decode_ranges(record.text("ready"));
  progress.suspects = decode_ranges(record.text("suspects"));
  progress.pass = record.number("pass");
  progress.counters = {.processed = record.number("processed"),
                       .failures = record.number("failures"),
                       .crashes = record.number("crashes"),
                       .rejected = record.number("rejected"),
                       .expired = record.number("expired_events"),
                       .skipped = record.number("skipped")};
  for (auto& [id, row] : fields_of(claims)) snapshot.claims.emplace(decode_number(id, "claim"), decode_claim(row));
  for (auto& [id, row] : fields_of(items)) snapshot.items.emplace(pack(position_of(id, "item")), decode_item(row));
  return snapshot;
}

std::set<std::uint64_t> numbers_in(std::string_view text) {
  std::set<std::uint64_t> numbers;
  while (!text.empty()) {
    const auto comma = text.find(',');
    numbers.insert(decode_number(text.substr(0, comma), "foreign"));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return numbers;
}

template <class Visit>
void for_each(const ledger::RangeSet& ranges, Visit visit) {
  for (const auto& [first, last] : ranges.ranges()) {
    for (Ordinal ordinal = first; ordinal <= last; ++ordinal) visit(ordinal);
  }
}

}  // namespace

void RedisLedger::load(Slot& slot, const GroupName& name, std::string_view operation) {
  const Reply reply = client_.run(Purpose::ledger, scripts::group,
                                  {keys_.group(name), keys_.claims(name), keys_.items(name)}, {}, Access::read);
  const auto& parts = reply.as_array();
  const Record record(fields_of(parts.at(0)));
  if (record.text(group_field::kVersion).empty()) vanished(slot, name, operation);
  ++counts_.loads;

  GroupIdentity identity{StreamName(record.text(group_field::kStream)), Start::parse(record.text("start")),
                         decode_types(record.text("types")), OrderRule::parse(record.text("order")),
                         decode_settings(record.text("settings"))};
  const GroupSettings settings = identity.settings;
  PatternList types(identity.types);
  ledger::Snapshot snapshot = snapshot_of(record, parts.at(1), parts.at(2));
  auto group = std::make_unique<Group>(Group{.name = name,
                                             .version = record.text(group_field::kVersion),
                                             .identity = std::move(identity),
                                             .types = std::move(types),
                                             .paused = record.number("paused") != 0,
                                             .created_at = record.time("created_at"),
                                             .last_seen = record.time(group_field::kLastSeen),
                                             .saved_last_seen = record.time(group_field::kLastSeen),
                                             .types_changed = record.time("types_changed"),
                                             .unrecorded_to = record.time("unrecorded_to"),
                                             .state = ledger::GroupState(settings),
                                             .last_claim = record.number("last_claim"),
                                             .native_cursor = snapshot.progress.cursor,
                                             .foreign = numbers_in(record.text("foreign"))});
  if (const std::string read = record.text("entries_read"); !read.empty()) {
    group->entries_read = decode_number(read, "entries_read");
  }
  recall_open_events(slot, *group, snapshot);
  group->state.load(std::move(snapshot), [&](Ordinal ordinal, bool) {
    const auto it = slot.known.find(ordinal);
    return it == slot.known.end() ? ledger::GroupState::OpenEvent{} : it->second;
  });
  slot.known.clear();  // it is all in the state now
  for (const auto& [id, claim] : group->state.claims()) {
    if (!group->foreign.contains(id)) group->shown.emplace(id, Group::Shown{claim.consumer, claim.open});
  }
  if (const Ordinal horizon = record.position(group_field::kForgetUpTo); horizon != 0) {
    group->state.forget_up_to(horizon);
    group->forgets = true;
    if (group->state.progress().cursor != group->native_cursor)
      group->entries_read.reset();  // it was of where it stood
  }
  slot.group = std::move(group);
  slot.ever_loaded = true;
  slot.vanished = false;
}

/// Key and size of every open event, of which the rows say nothing.
void RedisLedger::recall_open_events(Slot& slot, const Group& group, const ledger::Snapshot& snapshot) {
  if (slot.known_order != group.identity.order.to_string()) {
    slot.known.clear();
    slot.known_order = group.identity.order.to_string();
  }
  std::set<Ordinal> unknown;
  std::set<Ordinal> copied;
  const auto want = [&](Ordinal ordinal) {
    if (!slot.known.contains(ordinal)) unknown.insert(ordinal);
  };
  for_each(snapshot.progress.ready, want);
  for_each(snapshot.progress.suspects, want);
  for (const auto& [id, claim] : snapshot.claims) for_each(claim.open, want);
  for (const auto& [ordinal, item] : snapshot.items) {
    want(ordinal);
    copied.insert(ordinal);
  }
  if (unknown.empty()) return;
  for (const auto& [ordinal, entry] : load_events(group, unknown, copied)) {
    if (!entry || !entry->event) continue;
    slot.known[ordinal] = open_event(group.identity.order, *entry->event);
  }
}

RedisLedger::Events RedisLedger::load_events(const Group& group, const std::set<Ordinal>& ordinals,
                                             const std::set<Ordinal>& copied) {
  constexpr std::size_t kFewAtOnce = 64;
  constexpr std::size_t kPage = 500;
  const StreamName& stream = group.identity.stream;
  Events events;
  std::vector<Ordinal> wanted;
  Command copies{"HMGET", keys_.events(group.name)};
  for (const Ordinal ordinal : ordinals) {
    if (copied.contains(ordinal)) {
      wanted.push_back(ordinal);
      copies.push_back(id_of(unpack(ordinal)));
    }
  }
  if (!wanted.empty()) {
    const Reply reply = client_.call(Purpose::ledger, std::move(copies), Access::read);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const Reply& copy = reply.as_array().at(i);
      if (!copy.is_nil()) events[wanted[i]] = decode_copy(copy.as_text(), keys_.log(stream), options_.mapping);
    }
  }
  std::vector<Ordinal> rest;
  for (const Ordinal ordinal : ordinals) {
    if (!events.contains(ordinal)) rest.push_back(ordinal);
  }
  if (rest.size() <= kFewAtOnce) {
    std::vector<Position> positions;
    positions.reserve(rest.size());
    for (const Ordinal ordinal : rest) positions.push_back(unpack(ordinal));
    auto found = read_entries_at(client_, stream, positions, Purpose::ledger, options_.mapping);
    for (std::size_t i = 0; i < rest.size(); ++i) events[rest[i]] = std::move(found[i]);
    return events;
  }
  // Many mostly stand beside each other.
  for (auto next = rest.begin(); next != rest.end();) {
    Entries page = read_entries(client_, stream, before(*next), kPage, Purpose::ledger, options_.mapping);
    for (Entry& entry : page.entries) {
      const Ordinal ordinal = last_up_to(entry.position);
      while (next != rest.end() && *next < ordinal) events[*next++] = std::nullopt;
      if (next != rest.end() && *next == ordinal) {
        events[*next++] = fits(entry.position) ? std::optional(std::move(entry)) : std::nullopt;
      }
    }
    if (page.at_end) {
      while (next != rest.end()) events[*next++] = std::nullopt;
    }
  }
  return events;
}

}  // namespace millrace::store::redis
