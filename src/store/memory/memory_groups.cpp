// SPDX-License-Identifier: Apache-2.0

// The groups themselves: made, changed, described.

#include <algorithm>
#include <set>
#include <utility>

#include "store/ledger_calls.hpp"
#include "store/memory/memory_store.hpp"

namespace millrace::store::memory {

Ordinal MemoryLedger::resolve(const Stream& stream, const Start& start) const {
  return start_cursor(start, {.trimmed_to = stream.trimmed_to(),
                              .last = stream.last(),
                              .at = [](Position position) { return ordinal_of(position, "start"); },
                              .last_before = [&](Timestamp time) { return stream.before(time); }});
}

GroupInfo MemoryLedger::info(const GroupName& name, Group& group) {
  const Timestamp now = shared_.clock.now();
  group.state.expire(now, session_end());
  shared_.apply(group, now);
  const Stream& stream = shared_.streams.at(group.identity.stream);
  const ledger::GroupState& state = group.state;
  const Ordinal cursor = std::max(state.progress().cursor, stream.trimmed_to());

  std::optional<Timestamp> oldest;
  if (const SharedEvent ahead = stream.at(cursor + 1)) oldest = ahead->stored_at;
  if (!state.items().empty()) {
    const auto& [ordinal, item] = *state.items().begin();
    const Timestamp stored_at = item.redriven ? group.dead.at(ordinal).letter.stored_at : stream.at(ordinal)->stored_at;
    oldest = oldest ? std::min(*oldest, stored_at) : stored_at;
  }

  std::set<std::string> consumers;
  for (const auto& [id, session] : shared_.sessions) {
    if (session.until > now && session.groups.contains(name)) consumers.insert(session.consumer);
  }
  const auto dead =
      std::count_if(group.dead.begin(), group.dead.end(), [](const auto& entry) { return !entry.second.open_again; });
  return describe_group({.name = name,
                         .identity = group.identity,
                         .state = state,
                         .paused = group.paused,
                         .created_at = group.created_at,
                         .last_seen = group.last_seen,
                         .cursor = Position{state.progress().cursor},
                         .ahead = stream.last() - cursor,
                         .dead = static_cast<std::uint64_t>(dead),
                         .oldest = oldest,
                         .consumers = std::move(consumers),
                         .now = now});
}

GroupInfo MemoryLedger::ensure_group(const GroupName& name, const GroupSpec& spec) {
  const std::lock_guard lock(shared_.mutex);
  const Timestamp now = shared_.clock.now();
  shared_.drop_expired_groups(now);
  auto it = shared_.groups.find(name);
  if (it == shared_.groups.end()) {
    GroupIdentity identity = new_group(name, spec);
    const Stream& stream = shared_.stream_at("ensure group", identity.stream);
    const Ordinal cursor = resolve(stream, identity.start);
    it = shared_.groups.try_emplace(name, std::move(identity), now).first;
    it->second.state.seek(cursor, 0);
    shared_.apply(it->second, now);
  } else {
    check_group(name, spec, it->second.identity);
    if (spec.settings) {
      it->second.identity.settings = *spec.settings;
      it->second.state.set_settings(*spec.settings);
    }
    it->second.last_seen = now;
  }
  return info(name, it->second);
}

std::vector<GroupInfo> MemoryLedger::groups() {
  const std::lock_guard lock(shared_.mutex);
  shared_.drop_expired_groups(shared_.clock.now());
  std::vector<GroupInfo> all;
  for (auto& [name, group] : shared_.groups) all.push_back(info(name, group));
  return all;
}

GroupInfo MemoryLedger::group(const GroupName& name) {
  const std::lock_guard lock(shared_.mutex);
  return info(name, shared_.group_at("group", name));
}

GroupInfo MemoryLedger::alter_group(const GroupName& name, const GroupChange& change) {
  if (change.settings) change.settings->validate();
  const PatternList filter(change.types.value_or(std::vector<std::string>{}));
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("alter group", name);
  const Stream& stream = shared_.streams.at(group.identity.stream);
  const Timestamp now = shared_.clock.now();
  group.state.expire(now, session_end());
  shared_.apply(group, now);

  // What can fail comes first: a change happens whole or not at all.
  const Ordinal cursor = change.seek ? resolve(stream, *change.seek) : 0;
  const auto skip = change.skip ? std::optional(ordinal_of(*change.skip, "skip")) : std::nullopt;
  check_change(name, change, skip, group.identity, group.state);

  if (change.paused) group.paused = *change.paused;
  if (change.settings) {
    group.identity.settings = *change.settings;
    group.state.set_settings(*change.settings);
  }
  if (change.types) {
    group.identity.types = *change.types;
    group.filter = filter;
    group.types_changed = group.unrecorded_to = now;
  }
  if (change.order) group.identity.order = *change.order;
  if (skip) group.state.skip(*skip);
  if (change.seek) {
    const Ordinal old = std::max(group.state.progress().cursor, stream.trimmed_to());
    group.state.seek(cursor, cursor > old ? cursor - old : 0);
    group.unrecorded_to = now;
  }
  shared_.apply(group, now);
  shared_.notifier.changed();  // resumed, or events before the new cursor
  return info(name, group);
}

void MemoryLedger::delete_group(const GroupName& name) {
  const std::lock_guard lock(shared_.mutex);
  (void)shared_.group_at("delete group", name);
  shared_.groups.erase(name);
}

}  // namespace millrace::store::memory
