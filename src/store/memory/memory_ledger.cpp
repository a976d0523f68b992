// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "millrace/replay.hpp"
#include "store/ledger_calls.hpp"
#include "store/memory/memory_store.hpp"

namespace millrace::store::memory {
namespace {

/// Events looked at per turn of the lock, so that a group whose filter matches little does not keep everyone waiting.
constexpr std::size_t kScanBudget = 10'000;

class FreshFromStream : public ledger::FreshEvents {
 public:
  FreshFromStream(const Stream& stream, const Group& group, Timestamp now)
      : stream_(stream), group_(group), now_(now), at_(std::max(group.state.progress().cursor, stream.trimmed_to())) {}

  std::optional<ledger::Candidate> next() override {
    while (at_ < stream_.last() && scanned_ < kScanBudget) {
      ++scanned_;
      const SharedEvent stored = stream_.at(++at_);
      if (!group_.filter.matches(stored->event.type)) continue;
      return candidate(at_, group_.identity.order, stored->event, now_);
    }
    return std::nullopt;
  }
  [[nodiscard]] Ordinal scanned_to() const override { return at_; }

 private:
  const Stream& stream_;
  const Group& group_;
  const Timestamp now_;
  Ordinal at_;
  std::size_t scanned_ = 0;
};

}  // namespace

ledger::SessionEnd MemoryLedger::session_end() const {
  return [this](SessionId id) -> std::optional<Timestamp> {
    const auto it = shared_.sessions.find(id);
    if (it == shared_.sessions.end()) return std::nullopt;
    return it->second.until;
  };
}

SharedEvent MemoryLedger::event_of(const Group& group, Ordinal ordinal, bool redriven) const {
  if (!redriven) return shared_.streams.at(group.identity.stream).at(ordinal);
  const auto it = group.dead.find(ordinal);
  if (it == group.dead.end()) return nullptr;
  const DeadLetter& letter = it->second.letter;
  return std::make_shared<const StoredEvent>(StoredEvent{letter.position, letter.stored_at, letter.event});
}

// ---- Sessions ----

SessionId MemoryLedger::open_session(const std::string& consumer, Milliseconds lease) {
  check_consumer(consumer, lease);
  const std::lock_guard lock(shared_.mutex);
  const Timestamp now = shared_.clock.now();
  // An expired session is only kept until its claims were looked at; a group looks whenever it is used.
  std::erase_if(shared_.sessions, [now](const auto& entry) { return entry.second.until <= now; });
  const SessionId id = ++shared_.last_session;
  shared_.sessions.emplace(id, Session{consumer, lease, now + lease, {}});
  return id;
}

bool MemoryLedger::renew_session(SessionId session) {
  const std::lock_guard lock(shared_.mutex);
  const Timestamp now = shared_.clock.now();
  const auto it = shared_.sessions.find(session);
  if (it == shared_.sessions.end() || it->second.until <= now) return false;
  it->second.until = now + it->second.lease;
  for (const GroupName& name : it->second.groups) {
    const auto group = shared_.groups.find(name);
    if (group != shared_.groups.end()) group->second.last_seen = now;
  }
  return true;
}

void MemoryLedger::close_session(SessionId session) {
  const std::lock_guard lock(shared_.mutex);
  const Timestamp now = shared_.clock.now();
  const auto it = shared_.sessions.find(session);
  if (it == shared_.sessions.end() || it->second.until <= now) return;  // expired: its claims are crashes
  for (const GroupName& name : it->second.groups) {
    const auto group = shared_.groups.find(name);
    if (group == shared_.groups.end()) continue;
    group->second.state.release_session(session);
    shared_.apply(group->second, now);
  }
  shared_.sessions.erase(it);
}

// ---- Deliveries ----

ClaimAnswer MemoryLedger::claim(const GroupName& name, const ClaimRequest& request) {
  check_claim(request);
  ClaimAnswer answer;
  std::vector<SharedEvent> events;
  std::map<std::size_t, std::string> replayids;  // few deliveries are of a replay
  for (bool look_further = true; look_further;) {
    const std::lock_guard lock(shared_.mutex);
    Group& group = shared_.group_at("claim", name);
    const Timestamp now = shared_.clock.now();
    Timestamp lease_until;
    if (const auto* id = std::get_if<SessionId>(&request.hold)) {
      const auto session = shared_.sessions.find(*id);
      if (session == shared_.sessions.end() || session->second.until <= now) throw session_ended(name);
      session->second.groups.insert(name);
      lease_until = session->second.until;
    } else {
      lease_until = now + std::get<Milliseconds>(request.hold);
    }
    group.last_seen = now;
    answer.max_dataversion = group.identity.settings.max_dataversion;
    if (group.paused) return answer;

    const Stream& stream = shared_.streams.at(group.identity.stream);
    const Ordinal cursor = group.state.progress().cursor;
    FreshFromStream fresh(stream, group, now);
    const auto out = group.state.claim(now, shared_.last_claim + 1, request, fresh, session_end());
    if (!out.events.empty()) ++shared_.last_claim;
    answer.next_due = out.next_due;
    for (const auto& given : out.events) {
      SharedEvent stored = event_of(group, given.ordinal, given.redriven);
      const auto expiry = given.fresh ? std::nullopt : expires_at(stored->event);
      if (expiry && *expiry <= now) {
        group.state.settle_expired(given.ordinal);
        continue;
      }
      answer.deliveries.push_back(delivery(out.claim, given, stored->position, lease_until, {}));
      const ledger::Item* item = given.fresh ? nullptr : group.state.item(given.ordinal);
      if (item && !item->replayid.empty()) replayids.emplace(events.size(), item->replayid);
      events.push_back(std::move(stored));
    }
    shared_.apply(group, now);
    shared_.delivered_total += events.size();
    const bool moved = !out.events.empty() || group.state.progress().cursor != cursor;
    look_further = events.empty() && moved && group.state.progress().cursor < stream.last();
  }
  for (std::size_t i = 0; i < events.size(); ++i) answer.deliveries[i].event = events[i]->event;
  for (const auto& [i, replayid] : replayids) {
    answer.deliveries[i].event.set_extension(kReplayId, replayid);
  }
  return answer;
}

std::vector<std::size_t> MemoryLedger::settle(const GroupName& name, std::span<const Settlement> settlements) {
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("settle", name);
  const Timestamp now = shared_.clock.now();
  group.last_seen = now;
  auto stale = settle_all(group.state, settlements, same_lease, now, session_end());
  shared_.settled_total += settlements.size() - stale.size();
  shared_.apply(group, now);
  return stale;
}

std::vector<std::size_t> MemoryLedger::extend(const GroupName& name, std::span<const Lease> leases,
                                              Milliseconds lease) {
  check_consumer("extend", lease);
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("extend", name);
  const Timestamp now = shared_.clock.now();
  group.last_seen = now;
  auto stale = extend_all(group.state, leases, lease, same_lease, now, session_end());
  shared_.apply(group, now);
  return stale;
}

std::vector<PendingEvent> MemoryLedger::pending(const GroupName& name, Position after, std::size_t limit) {
  const Ordinal from = ordinal_of(after, "pending");
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("pending", name);
  const Timestamp now = shared_.clock.now();
  group.state.expire(now, session_end());
  shared_.apply(group, now);
  std::vector<PendingEvent> all;
  const auto& items = group.state.items();
  for (auto it = items.upper_bound(from); it != items.end() && all.size() < limit; ++it) {
    const auto& [ordinal, item] = *it;
    all.push_back(pending_event(group, ordinal, item));
  }
  return all;
}

PendingEvent MemoryLedger::pending_event(const Group& group, Ordinal ordinal, const ledger::Item& item) const {
  const SharedEvent stored = event_of(group, ordinal, item.redriven);
  PendingEvent event = describe_pending(group.state, ordinal, item, stored->position, session_end());
  event.id = stored->event.id;
  event.source = stored->event.source;
  event.type = stored->event.type;
  event.subject = stored->event.subject;
  return event;
}

// ---- Dead letters ----

namespace {

/// Which dead letters a query asks for.
class Asked {
 public:
  Asked(const DeadLetterQuery& query, const char* operation)
      : filter_(query, [&](Position position) { return ordinal_of(position, operation); }),
        after_(ordinal_of(query.after, operation)) {}
  [[nodiscard]] bool matches(Ordinal ordinal, const DeadRow& row) const {
    return !row.open_again && ordinal > after_ && filter_.names(ordinal) &&
           filter_.matches(row.letter.event.type, row.letter.died_at, row.letter.reason);
  }

 private:
  DeadLetterFilter filter_;
  Ordinal after_;
};

}  // namespace

std::vector<DeadLetter> MemoryLedger::dead_letters(const GroupName& name, const DeadLetterQuery& query) {
  const Asked filter(query, "dead letters");
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("dead letters", name);
  const Timestamp now = shared_.clock.now();
  group.state.expire(now, session_end());
  shared_.apply(group, now);
  std::vector<DeadLetter> found;
  for (auto it = group.dead.begin(); it != group.dead.end() && found.size() < query.limit; ++it) {
    if (filter.matches(it->first, it->second)) found.push_back(it->second.letter);
  }
  return found;
}

std::uint64_t MemoryLedger::redrive(const GroupName& name, const DeadLetterQuery& query) {
  const Asked filter(query, "redrive");
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("redrive", name);
  std::uint64_t count = 0;
  for (auto& [ordinal, row] : group.dead) {
    if (!filter.matches(ordinal, row)) continue;
    if (query.dry_run) {
      count += group.state.item(ordinal) ? 0 : 1;
      continue;
    }
    if (!group.state.redrive(ordinal, open_event(group.identity.order, row.letter.event))) continue;
    row.open_again = true;
    ++count;
  }
  shared_.apply(group, shared_.clock.now());
  return count;
}

std::uint64_t MemoryLedger::purge(const GroupName& name, const DeadLetterQuery& query) {
  const Asked filter(query, "purge");
  const std::lock_guard lock(shared_.mutex);
  Group& group = shared_.group_at("purge", name);
  const auto matches = [&](const auto& entry) { return filter.matches(entry.first, entry.second); };
  if (query.dry_run) return static_cast<std::uint64_t>(std::count_if(group.dead.begin(), group.dead.end(), matches));
  ledger::RangeSet purged;
  const std::uint64_t count = std::erase_if(group.dead, [&](const auto& entry) {
    if (!matches(entry)) return false;
    purged.add(entry.first);
    return true;
  });
  shared_.record(group, ledger::settled_by_nobody(purged), shared_.clock.now());
  return count;
}

}  // namespace millrace::store::memory
