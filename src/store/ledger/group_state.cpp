// SPDX-License-Identifier: Apache-2.0
#include "store/ledger/group_state.hpp"

#include <algorithm>
#include <utility>

namespace millrace::ledger {
namespace {

std::string holder(const std::string& consumer, SessionId session) {
  return session != 0 ? "session " + std::to_string(session) : "consumer " + consumer;
}

}  // namespace

KeyHash hash_key(const std::optional<std::string>& key) {
  if (!key) return 0;
  KeyHash hash = 0xCBF29CE484222325ULL;  // FNV-1a
  for (const char c : *key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash == 0 ? 1 : hash;
}

// ---- Places: what may be handed out next ----

void GroupState::unplace(Ordinal ordinal, Item& item) {
  switch (item.place) {
    case Item::Place::none:
      return;
    case Item::Place::ready:
      ready_.erase(ordinal);
      break;
    case Item::Place::due:
      due_.erase({item.due, ordinal});
      break;
    case Item::Place::suspect:
      suspects_.erase(ordinal);
      break;
    case Item::Place::parked:
      --parked_;
      break;
  }
  item.place = Item::Place::none;
}

void GroupState::place(Ordinal ordinal, Item& item) {
  unplace(ordinal, item);
  if (item.claim != 0) return;
  if (item.key != 0) {
    const Key& key = keys_.at(item.key);
    if (key.claimed != 0 || key.open.front() != ordinal) {
      item.place = Item::Place::parked;
      ++parked_;
      return;
    }
  }
  changes_.wake = true;
  if (item.due != Timestamp{}) {
    item.place = Item::Place::due;
    due_.emplace(item.due, ordinal);
  } else if (item.suspect) {
    item.place = Item::Place::suspect;
    suspects_.insert(ordinal);
  } else {
    item.place = Item::Place::ready;
    ready_.insert(ordinal);
  }
}

void GroupState::promote_due(Timestamp now) {
  while (!due_.empty() && due_.begin()->first <= now) {
    const Ordinal ordinal = due_.begin()->second;
    Item& item = items_.at(ordinal);
    unplace(ordinal, item);
    item.place = Item::Place::ready;
    ready_.insert(ordinal);
  }
}

// ---- Keys ----

void GroupState::add_to_key(Ordinal ordinal, KeyHash key) {
  if (key == 0) return;
  auto& open = keys_[key].open;
  open.insert(std::upper_bound(open.begin(), open.end(), ordinal), ordinal);
}

void GroupState::drop_from_key(Ordinal ordinal, const Item& item) {
  if (item.key == 0) return;
  const auto it = keys_.find(item.key);
  Key& key = it->second;
  if (item.claim != 0) --key.claimed;
  key.open.erase(std::lower_bound(key.open.begin(), key.open.end(), ordinal));
  if (key.open.empty()) {
    keys_.erase(it);
  } else {
    refresh_head(item.key);
  }
}

/// Puts the first open event of a key where it now belongs, and the one after it, which may have been first before.
void GroupState::refresh_head(KeyHash key_hash) {
  const Key& key = keys_.at(key_hash);
  for (std::size_t i = 0; i < std::min<std::size_t>(2, key.open.size()); ++i) {
    const Ordinal ordinal = key.open[i];
    place(ordinal, items_.at(ordinal));
  }
}

// ---- What the store is told ----

/// Called after every change of an item: keeps ranges, rows and counts in step with it.
void GroupState::note(Ordinal ordinal, Item& item) {
  const bool plain = item.plain();
  const bool in_ready = plain && item.claim == 0 && !item.suspect;
  const bool in_suspects = plain && item.claim == 0 && item.suspect;
  const auto keep = [&](RangeSet& ranges, bool wanted) {
    if (wanted == ranges.contains(ordinal)) return;
    wanted ? ranges.add(ordinal) : ranges.remove(ordinal);
    changes_.progress = true;
  };
  keep(progress_.ready, in_ready);
  keep(progress_.suspects, in_suspects);
  if (!plain || item.has_row) changes_.items.insert(ordinal);
  item.has_row = !plain;
}

void GroupState::close(Items::iterator it) {
  const Ordinal ordinal = it->first;
  Item& item = it->second;
  unplace(ordinal, item);
  progress_.ready.remove(ordinal);
  progress_.suspects.remove(ordinal);
  changes_.progress = true;
  if (item.has_row) changes_.items.insert(ordinal);
  if (item.redriven) changes_.redriven_done.push_back(ordinal);
  drop_from_key(ordinal, item);
  if (item.claim != 0) {
    --claimed_;
    const auto claim = claims_.find(item.claim);
    claim->second.open.remove(ordinal);
    changes_.claims.insert(item.claim);
    drop_claim_if_done(item.claim);
  } else if (item.suspect) {
    --suspect_count_;
  }
  items_.erase(it);
}

void GroupState::drop_claim_if_done(std::uint64_t claim_id) {
  const auto it = claims_.find(claim_id);
  if (it == claims_.end() || !it->second.open.empty()) return;
  const auto held = holders_.find(holder(it->second.consumer, it->second.session));
  held->second.erase(claim_id);
  if (held->second.empty()) holders_.erase(held);
  claims_.erase(it);
  changes_.wake = true;  // its consumer may have been waiting to hold nothing
}

// ---- Load ----

void GroupState::load(Snapshot snapshot, const std::function<OpenEvent(Ordinal, bool)>& event_of) {
  *this = GroupState(settings_);
  progress_ = std::move(snapshot.progress);
  claims_ = std::move(snapshot.claims);
  for (const auto& [first, last] : progress_.ready.ranges()) {
    for (Ordinal o = first; o <= last; ++o) items_[o];
  }
  for (const auto& [first, last] : progress_.suspects.ranges()) {
    for (Ordinal o = first; o <= last; ++o) {
      Item& item = items_[o];
      item.suspect = true;
      item.attempts = 1;
    }
  }
  for (auto& [ordinal, row] : snapshot.items) {
    row.claim = 0;  // the claims say who holds it
    row.has_row = true;
    items_[ordinal] = std::move(row);
  }
  for (const auto& [id, claim] : claims_) {
    holders_[holder(claim.consumer, claim.session)].insert(id);
    for (const auto& [first, last] : claim.open.ranges()) {
      for (Ordinal o = first; o <= last; ++o) {
        Item& item = items_[o];
        item.claim = id;
        if (!item.has_row) item.attempts = 1;
        ++claimed_;
      }
    }
  }
  for (auto& [ordinal, item] : items_) {
    const OpenEvent event = event_of(ordinal, item.redriven);
    item.key = event.key;
    item.bytes = event.bytes;
    if (item.claim == 0 && item.suspect) ++suspect_count_;
    if (item.key == 0) continue;
    Key& key = keys_[item.key];
    key.open.push_back(ordinal);
    if (item.claim != 0) {
      ++key.claimed;
      key.claim = item.claim;
    }
  }
  for (auto& [ordinal, item] : items_) place(ordinal, item);
  next_expiry_ = claims_.empty() ? Timestamp::max() : Timestamp{};
  changes_ = {};
}

// ---- Claim ----

void GroupState::give(Ordinal ordinal, Item& item, std::uint64_t claim_id, Claim& claim, HandOut& out, bool fresh) {
  unplace(ordinal, item);
  if (item.suspect) --suspect_count_;
  item.claim = claim_id;
  item.due = {};
  ++item.attempts;
  ++claimed_;
  if (item.key != 0) {
    Key& key = keys_.at(item.key);
    ++key.claimed;
    key.claim = claim_id;
  }
  claim.open.add(ordinal);
  out.events.push_back({ordinal, item.attempts, item.failures, item.crashes, fresh, item.redriven});
  note(ordinal, item);
}

/// Events of the same key that were parked behind the one just given may go along in the same claim.
void GroupState::give_parked_followers(KeyHash key_hash, Timestamp now, std::uint64_t claim_id, Claim& claim,
                                       const ClaimRequest& request, std::size_t& bytes, HandOut& out) {
  if (key_hash == 0) return;
  const Key& key = keys_.at(key_hash);
  for (std::size_t i = 1; i < key.open.size() && out.events.size() < request.max && bytes < request.max_bytes; ++i) {
    Item& item = items_.at(key.open[i]);
    if (item.claim != 0 || item.suspect || item.due > now) return;
    bytes += item.bytes;
    give(key.open[i], item, claim_id, claim, out, false);
  }
}

void GroupState::take_fresh(std::uint64_t claim_id, Claim& claim, const ClaimRequest& request, FreshEvents& fresh,
                            std::size_t bytes, HandOut& out) {
  Ordinal cursor = progress_.cursor;
  while (out.events.size() < request.max && bytes < request.max_bytes) {
    const std::optional<Candidate> candidate = fresh.next();
    if (!candidate) {
      cursor = std::max(cursor, fresh.scanned_to());
      break;
    }
    const Ordinal ordinal = candidate->ordinal;
    if (items_.contains(ordinal)) {  // redriven, and met again after a seek back
      cursor = ordinal;
      continue;
    }
    if (candidate->expired) {
      ++progress_.counters.expired;
      changes_.progress = true;
      cursor = ordinal;
      continue;
    }
    const auto busy = candidate->key == 0 ? keys_.end() : keys_.find(candidate->key);
    // What this very claim holds of the key goes before it, unless a redriven event stands after it.
    const bool park =
        busy != keys_.end() && !(busy->second.claim == claim_id && busy->second.claimed == busy->second.open.size() &&
                                 busy->second.open.back() < ordinal);
    if (park && parked_ >= settings_.max_parked) break;  // the cursor stays before it
    cursor = ordinal;
    Item& item = items_.emplace_hint(items_.end(), ordinal, Item{})->second;
    item.key = candidate->key;
    item.bytes = candidate->bytes;
    add_to_key(ordinal, item.key);
    if (park) {
      place(ordinal, item);
      refresh_head(item.key);  // a redriven event that stood first stands behind it now
      note(ordinal, item);
    } else {
      bytes += candidate->bytes;
      give(ordinal, item, claim_id, claim, out, true);
    }
  }
  if (cursor != progress_.cursor) {
    progress_.cursor = cursor;
    changes_.progress = true;
  }
}

void GroupState::open_claim(std::uint64_t claim_id, Claim claim) {
  auto& held = holders_[holder(claim.consumer, claim.session)];
  if (!held.empty()) {
    claim.alone = false;
    for (const std::uint64_t other : held) {
      Claim& c = claims_.at(other);
      if (c.alone) {
        c.alone = false;
        changes_.claims.insert(other);
      }
    }
  }
  held.insert(claim_id);
  // A session's end is only known by asking; looking again soon is cheap.
  next_expiry_ = claim.session != 0 ? Timestamp{} : std::min(next_expiry_, claim.lease_until);
  changes_.claims.insert(claim_id);
  claims_.emplace(claim_id, std::move(claim));
}

GroupState::HandOut GroupState::claim(Timestamp now, std::uint64_t claim_id, const ClaimRequest& request,
                                      FreshEvents& fresh, const SessionEnd& session_end) {
  expire(now, session_end);
  promote_due(now);
  HandOut out;
  Claim claim;
  claim.consumer = request.consumer;
  claim.claimed_at = now;
  if (const auto* session = std::get_if<SessionId>(&request.hold)) {
    claim.session = *session;
  } else {
    claim.lease = std::get<Milliseconds>(request.hold);
    claim.lease_until = now + claim.lease;
  }

  const auto held = holders_.find(holder(claim.consumer, claim.session));
  const bool holds_something = held != holders_.end();
  const bool holds_suspect = holds_something && std::any_of(held->second.begin(), held->second.end(), [&](auto id) {
                               return items_.at(claims_.at(id).open.front()).suspect;
                             });
  if (!suspects_.empty() || holds_suspect) {
    if (!holds_something) {
      const Ordinal ordinal = *suspects_.begin();
      give(ordinal, items_.at(ordinal), claim_id, claim, out, false);
    }
  } else {
    std::size_t bytes = 0;
    while (!ready_.empty() && out.events.size() < request.max && bytes < request.max_bytes) {
      const Ordinal ordinal = *ready_.begin();
      Item& item = items_.at(ordinal);
      bytes += item.bytes;
      give(ordinal, item, claim_id, claim, out, false);
      give_parked_followers(item.key, now, claim_id, claim, request, bytes, out);
    }
    take_fresh(claim_id, claim, request, fresh, bytes, out);
  }

  if (out.events.empty()) {
    out.next_due = next_due(now);
    return out;
  }
  out.claim = claim_id;
  claim.alone = out.events.size() == 1;
  open_claim(claim_id, std::move(claim));
  return out;
}

std::optional<Milliseconds> GroupState::next_due(Timestamp now) const {
  Timestamp next = Timestamp::max();
  if (!due_.empty()) next = due_.begin()->first;
  for (const auto& [id, claim] : claims_) {
    // A session may end at any time; a second is soon enough to look.
    next = std::min(next, claim.session != 0 ? now + std::chrono::seconds{1} : claim.lease_until);
  }
  if (next == Timestamp::max()) return std::nullopt;
  return std::max(std::chrono::ceil<Milliseconds>(next - now), Milliseconds{1});
}

// ---- Settle ----

bool GroupState::later_than_open_one(Ordinal ordinal, const Item& item) const {
  if (item.key == 0) return false;
  for (const Ordinal other : keys_.at(item.key).open) {
    if (other >= ordinal) return false;
    if (items_.at(other).claim == item.claim) return true;
  }
  return false;
}

/// Takes an event out of its claim, to wait.
void GroupState::unclaim(Ordinal ordinal, Item& item) {
  const std::uint64_t claim_id = item.claim;
  claims_.at(claim_id).open.remove(ordinal);
  changes_.claims.insert(claim_id);
  item.claim = 0;
  --claimed_;
  if (item.suspect) ++suspect_count_;
  if (item.key != 0) --keys_.at(item.key).claimed;
  place(ordinal, item);
  if (item.key != 0) refresh_head(item.key);
  note(ordinal, item);
  drop_claim_if_done(claim_id);
}

void GroupState::give_back(Ordinal ordinal, Item& item) {
  --item.attempts;
  unclaim(ordinal, item);
}

/// Later events of the key in the same claim must wait for the earlier one: uncharged.
void GroupState::withdraw_later(Ordinal ordinal, KeyHash key_hash, std::uint64_t claim_id) {
  if (key_hash == 0) return;
  const std::vector<Ordinal> open = keys_.at(key_hash).open;
  for (const Ordinal other : open) {
    if (other <= ordinal) continue;
    Item& item = items_.at(other);
    if (item.claim == claim_id) give_back(other, item);
  }
}

bool GroupState::settle(Timestamp now, const Lease& lease, const Outcome& outcome, double random,
                        const SessionEnd& session_end) {
  expire(now, session_end);
  const auto it = items_.find(lease.position.low);
  if (lease.position.high != 0 || lease.claim == 0 || it == items_.end() || it->second.claim != lease.claim)
    return false;
  const Ordinal ordinal = it->first;
  Item& item = it->second;
  if (later_than_open_one(ordinal, item)) return false;

  switch (outcome.kind) {
    case Outcome::Kind::ack:
      ++progress_.counters.processed;
      close(it);
      return true;
    case Outcome::Kind::reject:
      return bury(ordinal, "rejected: " + outcome.reason);
    case Outcome::Kind::release:
      give_back(ordinal, item);
      withdraw_later(ordinal, item.key, lease.claim);
      return true;
    case Outcome::Kind::retry:
      break;
  }
  ++item.failures;
  if (outcome.failure == FailureClass::handler) ++item.handler_failures;
  if (!item.first_failure_at) item.first_failure_at = now;
  item.last_error = outcome.reason;
  ++progress_.counters.failures;
  changes_.progress = true;
  const RetryDecision decision =
      decide_retry(settings_.retry, outcome,
                   {item.failures, item.handler_failures, item.crashes, item.first_failure_at}, now, random);
  if (decision.dead) return bury(ordinal, decision.reason);
  item.suspect = false;  // it answered
  item.due = now + decision.wait;
  unclaim(ordinal, item);
  withdraw_later(ordinal, item.key, lease.claim);
  return true;
}

bool GroupState::extend(Timestamp now, const Lease& lease, Milliseconds by, const SessionEnd& session_end) {
  expire(now, session_end);
  const auto it = items_.find(lease.position.low);
  if (lease.position.high != 0 || lease.claim == 0 || it == items_.end() || it->second.claim != lease.claim)
    return false;
  Claim& claim = claims_.at(lease.claim);
  if (claim.session == 0) {
    claim.lease = by;
    claim.lease_until = now + by;
    next_expiry_ = std::min(next_expiry_, claim.lease_until);
    changes_.claims.insert(lease.claim);
  }
  return true;
}

bool GroupState::bury(Ordinal ordinal, const std::string& reason) {
  const auto it = items_.find(ordinal);
  if (it == items_.end()) return false;
  changes_.dead.push_back({ordinal, it->second, reason});
  it->second.redriven = false;  // its row is a dead letter again, not done with
  ++progress_.counters.rejected;
  close(it);
  return true;
}

bool GroupState::settle_expired(Ordinal ordinal) {
  const auto it = items_.find(ordinal);
  if (it == items_.end()) return false;
  ++progress_.counters.expired;
  close(it);
  return true;
}

bool GroupState::skip(Ordinal ordinal) {
  const auto it = items_.find(ordinal);
  if (it == items_.end()) return false;
  ++progress_.counters.skipped;
  close(it);
  return true;
}

bool GroupState::redrive(Ordinal ordinal, OpenEvent event) {
  const auto [it, added] = items_.try_emplace(ordinal);
  if (!added) return false;
  Item& item = it->second;
  item.key = event.key;
  item.bytes = event.bytes;
  item.redriven = true;
  add_to_key(ordinal, item.key);
  place(ordinal, item);
  if (item.key != 0) refresh_head(item.key);
  note(ordinal, item);
  return true;
}

// ---- Leases that end ----

void GroupState::expire(Timestamp now, const SessionEnd& session_end) {
  if (now < next_expiry_) return;
  std::vector<std::uint64_t> ended;
  next_expiry_ = Timestamp::max();
  for (const auto& [id, claim] : claims_) {
    const Timestamp end = claim.session == 0 ? claim.lease_until : session_end(claim.session).value_or(Timestamp{});
    if (end <= now) {
      ended.push_back(id);
    } else {
      next_expiry_ = std::min(next_expiry_, end);
    }
  }
  for (const std::uint64_t id : ended) expire_claim(now, id);
}

void GroupState::expire_claim(Timestamp now, std::uint64_t claim_id) {
  const Claim claim = claims_.at(claim_id);
  const bool charge = claim.alone && claim.open.count() == 1;
  for (const auto& [first, last] : claim.open.ranges()) {
    for (Ordinal o = first; o <= last; ++o) {
      Item& item = items_.at(o);
      if (charge) {
        ++item.crashes;
        ++progress_.counters.crashes;
        changes_.progress = true;
        if (!item.first_failure_at) item.first_failure_at = now;
        item.last_error = "the lease of consumer " + claim.consumer + " ran out";
        if (item.crashes >= settings_.retry.max_crashes) {
          bury(o, "crashed its consumer " + std::to_string(item.crashes) + " times");
          continue;
        }
      }
      if (!item.suspect) {
        item.suspect = true;  // unclaim() counts it
      }
      unclaim(o, item);
    }
  }
}

void GroupState::release_session(SessionId session) {
  std::vector<std::uint64_t> held;
  for (const auto& [id, claim] : claims_) {
    if (claim.session == session) held.push_back(id);
  }
  for (const std::uint64_t id : held) {
    const RangeSet open = claims_.at(id).open;
    for (const auto& [first, last] : open.ranges()) {
      for (Ordinal o = first; o <= last; ++o) give_back(o, items_.at(o));
    }
  }
}

void GroupState::renew_leases(Timestamp now) {
  for (auto& [id, claim] : claims_) {
    if (claim.session != 0 || claim.lease_until >= now + claim.lease) continue;
    claim.lease_until = now + claim.lease;
    changes_.claims.insert(id);
  }
}

// ---- Moves ----

void GroupState::seek(Ordinal cursor, std::uint64_t passed) {
  std::vector<Ordinal> open;
  open.reserve(items_.size());
  for (const auto& [ordinal, item] : items_) open.push_back(ordinal);
  for (const Ordinal ordinal : open) {
    const auto it = items_.find(ordinal);
    if (it->second.redriven) {
      if (it->second.claim != 0) give_back(ordinal, it->second);
      continue;
    }
    if (ordinal <= cursor) ++progress_.counters.skipped;
    close(it);
  }
  progress_.cursor = cursor;
  progress_.counters.skipped += passed;
  changes_.progress = true;
  changes_.wake = true;
}

void GroupState::forget_up_to(Ordinal horizon) {
  std::vector<Ordinal> lost;
  for (const auto& [ordinal, item] : items_) {
    if (ordinal > horizon) break;
    if (!item.redriven) lost.push_back(ordinal);
  }
  for (const Ordinal ordinal : lost) skip(ordinal);
  if (progress_.cursor < horizon) {
    progress_.cursor = horizon;
    changes_.progress = true;
  }
}

// ---- Answers ----

const Claim* GroupState::claim(std::uint64_t id) const {
  const auto it = claims_.find(id);
  return it == claims_.end() ? nullptr : &it->second;
}

const Item* GroupState::item(Ordinal ordinal) const {
  const auto it = items_.find(ordinal);
  return it == items_.end() ? nullptr : &it->second;
}

PendingEvent::State GroupState::state_of(Ordinal ordinal) const {
  const Item& item = items_.at(ordinal);
  if (item.claim != 0) return PendingEvent::State::claimed;
  if (item.place == Item::Place::parked) return PendingEvent::State::parked;
  return item.suspect ? PendingEvent::State::suspect : PendingEvent::State::waiting;
}

Ordinal GroupState::oldest_open() const {
  for (const auto& [ordinal, item] : items_) {
    if (!item.redriven) return ordinal;
  }
  return 0;
}

std::string GroupState::stalled() const {
  if (parked_ < settings_.max_parked) return {};
  return "max_parked: " + std::to_string(parked_) + " events wait behind busy keys";
}

Changes GroupState::take_changes() {
  return std::exchange(changes_, {});
}

}  // namespace millrace::ledger
