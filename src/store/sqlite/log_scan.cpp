// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/log_scan.hpp"

#include <algorithm>
#include <utility>

#include "store/sqlite/rows.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

/// Most rows one claim looks at; the next one goes on from there.
constexpr std::size_t kScanBudget = 10'000;
/// Beyond what the claim may hand out: parked events pass by, too.
constexpr std::size_t kBytesBeyond = 1 << 20;
constexpr std::size_t kMostStandings = 10'000;

}  // namespace

std::optional<ScannedEvent> next_match(Statement::Rows& rows, const Judgement& judgement, std::size_t budget,
                                       std::size_t& scanned, Ordinal& scanned_to) {
  constexpr int kFirst = 1;
  while (scanned < budget && rows.next()) {
    ++scanned;
    scanned_to = rows.number(0);
    if (!judgement.types.matches(rows.text(kFirst + kTypeColumn))) continue;
    Event event = decode_event(rows, kFirst);
    return ScannedEvent{scanned_to, ledger::hash_key(judgement.order.key_of(event)), event_bytes(event),
                        expires_at(event), std::move(event)};
  }
  return std::nullopt;
}

// ---- On the caller's thread ----

ReadAhead ReadAheads::read(const GroupName& group, const ClaimRequest& request) {
  Standing standing;
  {
    const std::lock_guard lock(mutex_);
    const auto it = groups_.find(group.str());
    if (it == groups_.end()) return {};
    standing = it->second;
  }
  ReadAhead ahead{standing.judgement, standing.cursor, standing.cursor, 0, {}, 0};
  return readers_.read([&](Connection& connection) {
    ahead.erasures = load_erasures(connection);
    auto rows = connection
                    .prepared(std::string("SELECT position, ") + kEventColumns + " FROM " +
                              event_table(standing.stream_id) + " WHERE position > ? ORDER BY position")
                    .query(ahead.from);
    std::size_t bytes = 0;
    while (ahead.events.size() < request.max && bytes < request.max_bytes) {
      auto event = next_match(rows, *ahead.judgement, kScanBudget, ahead.scanned, ahead.scanned_to);
      if (!event) break;
      bytes += event->bytes;
      ahead.events.push_back(std::move(*event));
    }
    return std::move(ahead);
  });
}

void ReadAheads::note(const Group& group, std::int64_t stream_id) {
  const std::lock_guard lock(mutex_);
  // Groups come and go; whoever is forgotten here reads the next claim in the writer's turn, once.
  if (groups_.size() >= kMostStandings && !groups_.contains(group.name.str())) groups_.clear();
  groups_[group.name.str()] = {group.judgement, stream_id, group.state.progress().cursor};
}

// ---- In the writer's turn ----

LogScan::LogScan(State& state, const Group& group, std::size_t max_bytes, ReadAhead& ahead)
    : stream_(state.stream(group.identity.stream, "claim")),
      judgement_(group.judgement),
      ahead_(ahead),
      now_(state.now()),
      most_bytes_(max_bytes + kBytesBeyond),
      scanned_to_(std::max(group.state.progress().cursor, stream_.trimmed_to)) {
  // Judged by another filter, or not reaching up to the cursor: of no use. Behind it: already handed out by others.
  // Read before an erasure: it may hold what must not be handed out any more.
  const bool fits = ahead_.judgement == judgement_ && ahead_.from <= scanned_to_ && ahead_.erasures == state.erasures();
  if (!fits) ahead_ = {};
  while (!ahead_.events.empty() && ahead_.events.front().ordinal <= scanned_to_) ahead_.events.pop_front();
}

ledger::Candidate LogScan::show(ScannedEvent event) {
  const ledger::Candidate candidate{event.ordinal, event.key, event.bytes,
                                    event.expires_at && *event.expires_at <= now_};
  bytes_ += event.bytes;
  if (!candidate.expired) shown_.push_back(std::move(event));
  return candidate;
}

std::optional<ledger::Candidate> LogScan::next() {
  if (at_end_ || scanned_ >= kScanBudget || bytes_ >= most_bytes_) return std::nullopt;
  if (!ahead_.events.empty()) {
    ScannedEvent event = std::move(ahead_.events.front());
    ahead_.events.pop_front();
    scanned_to_ = event.ordinal;
    return show(std::move(event));
  }
  if (ahead_.scanned_to > scanned_to_) {
    scanned_ += ahead_.scanned;
    scanned_to_ = ahead_.scanned_to;
    if (scanned_ >= kScanBudget) return std::nullopt;
  }
  if (!rows_) {
    if (scanned_to_ >= stream_.head()) return end();
    rows_.emplace(stream_.after.query(scanned_to_));
  }
  if (auto event = next_match(*rows_, *judgement_, kScanBudget, scanned_, scanned_to_)) return show(std::move(*event));
  if (scanned_ < kScanBudget) return end();
  return std::nullopt;
}

std::optional<ledger::Candidate> LogScan::end() {
  at_end_ = true;
  scanned_to_ = std::max(scanned_to_, stream_.head());
  return std::nullopt;
}

void LogScan::set_aside_front(Group& group) {
  ScannedEvent& event = shown_.front();
  group.set_aside.put(event.ordinal, std::move(event.event), event.bytes, group.state);
  shown_.pop_front();
}

Event LogScan::take(Ordinal ordinal, Group& group) {
  while (shown_.front().ordinal != ordinal) set_aside_front(group);
  Event event = std::move(shown_.front().event);
  shown_.pop_front();
  return event;
}

void LogScan::finish(Group& group) {
  while (!shown_.empty()) set_aside_front(group);
}

// ---- Set aside ----

void SetAside::put(Ordinal ordinal, Event event, std::size_t bytes, const ledger::GroupState& state) {
  if (!state.item(ordinal)) return;  // shown, but left for the next claim
  if (bytes_ + bytes > kMostBytes) {
    // What was settled without being handed out (skipped, sought away) still lies here.
    std::erase_if(events_, [&](const auto& entry) {
      if (state.item(entry.first)) return false;
      bytes_ -= entry.second.bytes;
      return true;
    });
    if (bytes_ + bytes > kMostBytes) return;
  }
  if (events_.try_emplace(ordinal, Entry{std::move(event), bytes}).second) bytes_ += bytes;
}

std::optional<Event> SetAside::take(Ordinal ordinal) {
  const auto it = events_.find(ordinal);
  if (it == events_.end()) return std::nullopt;
  bytes_ -= it->second.bytes;
  Event event = std::move(it->second.event);
  events_.erase(it);
  return event;
}

}  // namespace millrace::store::sqlite
