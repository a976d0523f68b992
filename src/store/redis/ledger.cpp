// SPDX-License-Identifier: Apache-2.0
#include "store/redis/ledger.hpp"

#include <algorithm>

#include "store/ledger_calls.hpp"

namespace millrace::store::redis {

RedisLedger::RedisLedger(Client& client, LedgerOptions options)
    : client_(client), options_(std::move(options)), keys_(client.key("")), sessions_(client, keys_) {
  options_.mapping.validate();
  if (options_.keeps_house) house_ = std::thread([this] { run_house(); });
}

RedisLedger::~RedisLedger() {
  {
    const std::lock_guard lock(house_mutex_);
    ending_ = true;
  }
  house_ends_.notify_all();
  if (house_.joinable()) house_.join();
}

RedisLedger::Figures RedisLedger::figures() const {
  return {counts_.commits,         counts_.lost_races,    counts_.loads,     counts_.vanished_groups,
          counts_.native_failures, counts_.foreign_taken, counts_.set_aside, counts_.lost_events};
}

void RedisLedger::change_settings(Turn& turn, const GroupSettings& settings) {
  if (turn.group.identity.settings == settings) return;
  turn.group.identity.settings = settings;
  turn.group.state.set_settings(settings);
  turn.rewrite = true;
}

void RedisLedger::apply(Turn& turn, const GroupChange& change) {
  Group& group = turn.group;
  group.state.expire(turn.now, session_end());
  // Everything that can refuse, before anything is changed.
  const auto skip = change.skip ? std::optional(pack(*change.skip, "skip")) : std::nullopt;
  check_change(group.name, change, skip, group.identity, group.state);
  std::optional<Ordinal> cursor;
  if (change.seek) {
    const StreamFacts facts = stream_facts(group.identity.stream);
    if (!facts.exists) throw unknown_stream("alter group", group.identity.stream);
    cursor = cursor_of(facts, *change.seek);
  }

  if (skip) group.state.skip(*skip);
  if (cursor) {
    const Ahead before = ahead_of(group, group.state.progress().cursor);
    const Ahead after = ahead_of(group, *cursor);
    turn.commit.require_native_at(group.identity.stream, group.native_cursor);
    group.state.seek(*cursor, before.events - std::min(before.events, after.events));
    group.entries_read = after.added - std::min(after.added, after.events);
    group.unrecorded_to = turn.now;
  }
  if (change.settings) change_settings(turn, *change.settings);
  if (change.paused) group.paused = *change.paused;
  if (change.types) {
    group.types_changed = group.unrecorded_to = turn.now;
    group.identity.types = *change.types;
    group.types = PatternList(*change.types);
  }
  if (change.order) group.identity.order = *change.order;
  turn.rewrite = turn.wake = true;
}

// ---- Groups ----

GroupInfo RedisLedger::ensure_group(const GroupName& name, const GroupSpec& spec) {
  if (spec.types) check_types(*spec.types);
  while (true) {
    try {
      decide(name, "ensure group", [&](Turn& turn) {
        make_current(turn);
        if (turn.stale) return 0;
        check_group(name, spec, turn.group.identity);
        turn.seen = true;
        if (spec.settings) change_settings(turn, *spec.settings);
        return 0;
      });
      return group(name);
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;
    }
    const GroupIdentity identity = new_group(name, spec);
    const StreamFacts facts = stream_facts(identity.stream);
    if (!facts.exists) throw unknown_stream("ensure group", identity.stream);
    if (!name_is_free(name, identity.stream)) continue;
    create(name, identity, cursor_of(facts, identity.start), false);  // somebody else's is checked in the next turn
  }
}

bool RedisLedger::make_again(const GroupInfo& info) {
  const GroupIdentity identity{info.stream, info.start, info.types, info.order, info.settings};
  const StreamFacts facts = stream_facts(identity.stream);
  return facts.exists && create(info.name, identity, cursor_of(facts, Start::beginning()), info.paused);
}

/// False when there is one.
bool RedisLedger::create(const GroupName& name, const GroupIdentity& identity, Ordinal cursor, bool paused) {
  const std::shared_ptr<Slot> slot = slot_of(name);
  const std::lock_guard lock(slot->mutex);
  Group group{.name = name,
              .version = {},
              .identity = identity,
              .types = PatternList(identity.types),
              .state = ledger::GroupState(identity.settings)};
  ledger::Snapshot snapshot;
  snapshot.progress.cursor = cursor;
  group.state.load(std::move(snapshot), [](Ordinal, bool) { return ledger::GroupState::OpenEvent{}; });
  const Ahead ahead = ahead_of(group, cursor);
  group.entries_read = ahead.added - std::min(ahead.added, ahead.events);
  const Timestamp now = client_.now();
  group.created_at = group.last_seen = group.unrecorded_to = now;
  group.native_cursor = cursor;
  group.paused = paused;
  // Versions go on ahead of the time: nobody's knowledge of an earlier group of this name fits.
  group.version = encode_time(now);
  Commit commit(keys_, name);
  const std::string log = keys_.log(identity.stream);
  commit.command({"HSET", keys_.group(name), std::string(group_field::kVersion), group.version,
                  std::string(group_field::kStream), identity.stream.str(), "start", identity.start.to_string(),
                  "created_at", encode_time(now)});
  commit.command({"HSET", keys_.groups(), name.str(), identity.stream.str()});
  commit.native({"XGROUP", "DESTROY", log, name.str()});
  Command native{"XGROUP", "CREATE", log, name.str(), id_of(unpack(cursor)), "MKSTREAM"};
  if (group.entries_read) {
    native.emplace_back("ENTRIESREAD");
    native.push_back(std::to_string(*group.entries_read));
  }
  commit.native(std::move(native));
  Turn turn{.slot = *slot, .group = group, .now = now, .commit = std::move(commit), .rewrite = true};
  save_fields(turn);
  const bool made = turn.commit.run(client_, {}, false).kind == Commit::Answer::Kind::done;
  slot->drop();
  return made;
}

std::vector<GroupInfo> RedisLedger::groups() {
  std::vector<GroupInfo> infos;
  for (const auto& [name, stream] : group_streams()) {
    try {
      if (drop_if_unused(GroupName(name), StreamName(stream))) continue;
      infos.push_back(group(GroupName(name)));
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;  // gone meanwhile
    }
  }
  return infos;
}

GroupInfo RedisLedger::group(const GroupName& name) {
  const std::shared_ptr<Slot> slot = slot_of(name);
  for (bool again = false;; again = true) {
    look(name, "read group", [&](Turn& turn) {
      turn.group.state.expire(turn.now, session_end());
      turn.current = true;  // what is told is looked at below
      return 0;
    });
    const std::lock_guard lock(slot->mutex);
    if (!slot->group) continue;
    const Ahead ahead = ahead_of(*slot->group, slot->group->state.progress().cursor);
    if (ahead.group_version.empty()) vanished(*slot, name, "read group");
    slot->read_on = ahead.read_to > slot->group->native_cursor;
    const bool newest = ahead.group_version == slot->group->version && !slot->read_on;
    // Rows that were read during this call are as good as any newer ones.
    if (newest || again) return describe(*slot->group, ahead, client_.now());
    if (ahead.group_version != slot->group->version) slot->drop();
  }
}

GroupInfo RedisLedger::alter_group(const GroupName& name, const GroupChange& change) {
  if (change.types) check_types(*change.types);
  if (change.settings) change.settings->validate();
  decide(name, "alter group", [&](Turn& turn) {
    make_current(turn);
    if (!turn.stale) apply(turn, change);
    return 0;
  });
  return group(name);
}

void RedisLedger::delete_group(const GroupName& name) {
  const std::shared_ptr<Slot> slot = slot_of(name);
  decide(name, "delete group", [&](Turn& turn) {
    make_current(turn);
    if (!turn.stale) {
      remove_group(turn.commit, name, turn.group.identity.stream);
      turn.removed = true;
    }
    return 0;
  });
  const std::lock_guard lock(slot->mutex);
  slot->drop();
  slot->known.clear();
  slot->ever_loaded = false;
}

// ---- Sessions ----

SessionId RedisLedger::open_session(const std::string& consumer, Milliseconds lease) {
  check_consumer(consumer, lease);
  return sessions_.open(consumer, lease);
}

bool RedisLedger::renew_session(SessionId id) {
  const bool lives = sessions_.renew(id);
  if (!lives) return false;
  for (const GroupName& name : sessions_.used(id)) {
    try {
      decide(name, "renew session", [](Turn& turn) {
        turn.seen = turn.current = true;
        return 0;
      });
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;
    }
  }
  return true;
}

void RedisLedger::close_session(SessionId id) {
  const std::set<GroupName> used = sessions_.groups_of(id);
  for (const GroupName& name : used) {
    try {
      decide(name, "close session", [&](Turn& turn) {
        make_current(turn);
        if (turn.stale) return 0;
        // One that has expired has crashed, however politely it says goodbye now.
        const auto session = sessions_.find(id, turn.now);
        if (session && session->until > turn.now) {
          turn.commit.require_session_lives(id);
          turn.group.state.release_session(id);
        } else {
          turn.group.state.expire(turn.now, session_end());
        }
        return 0;
      });
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;
    }
  }
  sessions_.close(id);
}

// ---- Deliveries (claims have a file of their own) ----

namespace {

/// A lease as the core counts; one whose position cannot be of this store is nobody's.
std::optional<Lease> counted(const Lease& lease) {
  if (!fits(lease.position)) return std::nullopt;
  return Lease{lease.claim, Position(pack(lease.position))};
}

}  // namespace

std::vector<std::size_t> RedisLedger::settle(const GroupName& name, std::span<const Settlement> settlements) {
  return decide(name, "settle", [&](Turn& turn) {
    turn.seen = true;
    const auto end = session_end();
    auto stale = settle_all(turn.group.state, settlements, counted, turn.now, end);
    turn.group.state.expire(turn.now, end);
    return stale;
  });
}

std::vector<std::size_t> RedisLedger::extend(const GroupName& name, std::span<const Lease> leases, Milliseconds lease) {
  check_consumer("-", lease);
  return decide(name, "extend", [&](Turn& turn) {
    turn.seen = true;
    return extend_all(turn.group.state, leases, lease, counted, turn.now, session_end());
  });
}

std::vector<PendingEvent> RedisLedger::pending(const GroupName& name, Position after, std::size_t limit) {
  const Ordinal from = pack(after, "pending");
  return look(name, "pending", [&](Turn& turn) {
    std::vector<PendingEvent> all;
    make_current(turn);
    if (turn.stale) return all;
    Group& group = turn.group;
    group.state.expire(turn.now, session_end());
    std::set<Ordinal> ordinals;
    std::set<Ordinal> copied;
    const auto& items = group.state.items();
    for (auto it = items.upper_bound(from); it != items.end() && ordinals.size() < limit; ++it) {
      ordinals.insert(it->first);
      if (it->second.has_row) copied.insert(it->first);
    }
    const Events events = load_events(group, ordinals, copied);
    for (const Ordinal ordinal : ordinals) {
      all.push_back(pending_event(turn, ordinal, *group.state.item(ordinal), events.at(ordinal)));
    }
    return all;
  });
}

PendingEvent RedisLedger::pending_event(const Turn& turn, Ordinal ordinal, const ledger::Item& item,
                                        const std::optional<Entry>& entry) const {
  PendingEvent event = describe_pending(turn.group.state, ordinal, item, unpack(ordinal), session_end());
  if (entry && entry->event) {
    event.id = entry->event->id;
    event.source = entry->event->source;
    event.type = entry->event->type;
    event.subject = entry->event->subject;
  }
  return event;
}

}  // namespace millrace::store::redis
