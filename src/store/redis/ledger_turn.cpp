// SPDX-License-Identifier: Apache-2.0

// One call on one group: from what is known of it to what was written, again and again until nobody else was faster.

#include <algorithm>
#include <thread>

#include "base/log.hpp"
#include "store/redis/ledger.hpp"

namespace millrace::store::redis {
namespace {

/// How stale the recorded last_seen of a group may become while nothing else of it changes.
constexpr std::chrono::seconds kSeenEvery{5};
/// So long a call may lose races before its process is let go first: whoever wins many in a row needs to read nothing
/// anew.
constexpr std::chrono::milliseconds kPatience{20};
constexpr std::chrono::milliseconds kLongestWait{50};
constexpr std::chrono::seconds kReadAheadKept{5};
constexpr std::size_t kMostSlots = 1'000;

}  // namespace

Timestamp::duration seen_every(const GroupSettings& settings) {
  const Timestamp::duration most = kSeenEvery;
  return settings.expires ? std::min(most, Timestamp::duration(*settings.expires) / 4) : most;
}

void Slot::drop() {
  ahead.reset();
  if (!group) return;
  const std::string order = group->identity.order.to_string();
  if (order != known_order) known.clear();
  known_order = order;
  // Also what a lost decision had opened: whoever won has most likely opened the same.
  for (const auto& [ordinal, item] : group->state.items()) {
    if (item.bytes != 0) known.insert_or_assign(ordinal, ledger::GroupState::OpenEvent{item.key, item.bytes});
  }
  group.reset();
}

void Slot::forget_read_ahead(Timestamp now) {
  if (ahead && ahead->asked + kReadAheadKept < now) ahead.reset();
}

std::shared_ptr<Slot> RedisLedger::slot_of(const GroupName& name) {
  const std::lock_guard lock(slots_mutex_);
  if (slots_.size() >= kMostSlots) {  // of names that were asked for and are no groups, mostly
    std::erase_if(slots_, [](const auto& entry) { return entry.second.use_count() == 1 && !entry.second->group; });
  }
  std::shared_ptr<Slot>& slot = slots_[name];
  if (!slot) slot = std::make_shared<Slot>();
  return slot;
}

Turn RedisLedger::begin(Slot& slot, const GroupName& name, std::string_view operation, const Attempt& attempt) {
  if (!options_.caches) {
    slot.drop();
    slot.known.clear();
  }
  slot.forget_read_ahead(client_.now());
  // A server that was started again may have lost its last commits, and then count the same versions once more.
  const std::uint64_t greetings = client_.greetings();
  if (greetings != slot.greetings) slot.drop();
  bool current = false;
  if (!slot.group) {
    slot.greetings = greetings;
    load(slot, name, operation);
    current = true;
  }
  if (slot.read_on || foreigners_due(slot, client_.now())) look_at_foreigners(slot, operation);
  Group& group = *slot.group;
  Turn turn{.slot = slot,
            .group = group,
            .now = client_.now() - attempt.clock_ahead,
            .commit = Commit(keys_, group.name),
            .current = current,
            .attempt = {.began = attempt.began}};
  for (const std::uint64_t id : slot.in_doubt) group.state.release_claim(id);
  look_at_ends(turn);
  return turn;
}

ledger::SessionEnd RedisLedger::session_end() const {
  return [this](SessionId id) -> std::optional<Timestamp> {
    const auto session = sessions_.seen(id);
    return session ? std::optional(session->until) : std::nullopt;
  };
}

/// Claims that end with this call do so only if they have ended on the server's clock, and by the sessions as they are.
void RedisLedger::look_at_ends(Turn& turn) {
  std::set<SessionId> unsure;
  for (const auto& [id, claim] : turn.group.state.claims()) {
    if (claim.session == 0) {
      if (claim.lease_until <= turn.now) turn.commit.require_not_before(claim.lease_until);
      continue;
    }
    const auto session = sessions_.seen(claim.session);
    if (!session || session->until <= turn.now) unsure.insert(claim.session);
  }
  if (unsure.empty()) return;
  sessions_.look(std::vector<SessionId>(unsure.begin(), unsure.end()));
  for (const SessionId id : unsure) {
    const auto session = sessions_.seen(id);
    if (session && session->until > turn.now) continue;
    turn.commit.require_session_is(id, session ? session->text : std::string{});
    if (session) turn.commit.require_not_before(session->until);
  }
}

void RedisLedger::vanished(Slot& slot, const GroupName& name, std::string_view operation) {
  if (slot.ever_loaded) {
    slot.ever_loaded = false;
    slot.vanished = true;
    ++counts_.vanished_groups;
    log::warn(
        "group_vanished", name.str(),
        "the group was there and is gone: deleted by another process, or the server came back empty; whoever uses "
        "it makes it anew");
  }
  slot.drop();
  slot.known.clear();
  throw unknown_group(operation, name);
}

/// Whether the state is the newest and nobody has read on in the native group, asked of the server.
void RedisLedger::make_current(Turn& turn) {
  if (turn.stale) return;
  const Group& group = turn.group;
  const auto replies = client_.pipeline(Purpose::ledger,
                                        {{"HGET", keys_.group(group.name), std::string(group_field::kVersion)},
                                         {"XINFO", "GROUPS", keys_.log(group.identity.stream)}},
                                        Access::read);
  // Rows that were read during this call are as good as any newer ones.
  const Reply& version = replies.at(0);
  turn.current = turn.current || (version.kind == Reply::Kind::text && version.text == group.version);
  turn.slot.read_on = read_to_of(replies.at(1), group.name) > group.native_cursor;
  turn.stale = !turn.current || turn.slot.read_on;
}

/// Writes the turn's commit. When no answer comes it looks whether it was written.
Commit::Answer RedisLedger::write(Turn& turn, bool decided) {
  const std::string& expected = turn.group.version;
  try {
    return turn.commit.run(client_, expected, decided,
                           std::chrono::steady_clock::now() - turn.attempt.began > kPatience);
  } catch (const Error& error) {
    if (error.code() != Errc::outcome_unknown) throw;
    if (turn.claim != 0) turn.slot.in_doubt.insert(turn.claim);
    // With replicas it is not only the answer that is missing.
    if (!decided || client_.url().replicas > 0) throw;
    std::optional<std::string> version;
    try {
      version = turn.commit.look_up(client_, expected);
    } catch (const Error& nobody_there) {
      log::write(log::Level::debug, nobody_there);
    }
    if (!version) throw;
    if (version->empty()) {
      turn.attempt.doubt = error;
      return {.kind = Commit::Answer::Kind::moved};
    }
    return {.version = *version};
  }
}

bool RedisLedger::finish(Turn& turn, std::string_view operation) {
  Group& group = turn.group;
  if (turn.stale) {
    ++counts_.lost_races;
    return false;
  }
  ledger::Changes changes = group.state.take_changes();
  if (turn.seen) group.last_seen = turn.now;
  const bool decided = !changes.empty() || turn.rewrite || group.forgets || !turn.commit.empty();
  if (!decided && group.last_seen - group.saved_last_seen < seen_every(group.identity.settings)) {
    if (!turn.current) make_current(turn);
    if (turn.stale) ++counts_.lost_races;
    return !turn.stale;
  }
  turn.wake = turn.wake || changes.wake;
  if (!turn.removed) save(turn, changes);
  using Kind = Commit::Answer::Kind;
  const Commit::Answer answer = write(turn, decided);
  switch (answer.kind) {
    case Kind::done:
      break;
    case Kind::unknown:
      vanished(turn.slot, GroupName(group.name), operation);  // a copy: the slot forgets its group
    case Kind::moved:
    case Kind::session_moved:
    case Kind::removed:
      ++counts_.lost_races;
      return false;
    case Kind::session_ended:
      sessions_.forget(answer.session);
      return false;
    case Kind::early: {
      const auto ahead = client_.now() - answer.server_time;
      // A little is waited for. More is the server's clock that was set back: it is its time that counts.
      if (ahead <= kLongestWait) {
        std::this_thread::sleep_for(ahead);
      } else {
        turn.attempt.clock_ahead = ahead;
      }
      return false;
    }
    case Kind::read_on:
      turn.slot.read_on = true;
      return false;
  }
  ++counts_.commits;
  if (decided) turn.slot.in_doubt.clear();  // those that were there are given back; for the others it is too late now
  group.version = answer.version;
  group.saved_last_seen = group.last_seen;
  group.native_cursor = group.state.progress().cursor;
  group.forgets = false;
  if (turn.used_by != 0) sessions_.note_use(turn.used_by, group.name);
  if (!answer.native_failure.empty()) {
    if (counts_.native_failures++ == 0) {
      log::warn(
          "native_group_behind", group.name.str(),
          "a command on the native group failed; what XINFO and XPENDING show may be behind, what is delivered is "
          "not: " +
              answer.native_failure);
    }
  }
  return true;
}

}  // namespace millrace::store::redis
