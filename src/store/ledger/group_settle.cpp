// SPDX-License-Identifier: Apache-2.0
// GroupState: how open events end or come back: settling, leases that run out, redriving.
#include "store/ledger/group_state.hpp"

#include <algorithm>

namespace millrace::ledger {

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
  Claim& claim = claims_.at(claim_id);
  claim.open.remove(ordinal);
  if (claim.settles_as_fresh(ordinal)) claim.apart.add(ordinal);
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
      close(it, true);
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
  note_settled_alone(ordinal);
  return true;
}

bool GroupState::skip(Ordinal ordinal) {
  const auto it = items_.find(ordinal);
  if (it == items_.end()) return false;
  ++progress_.counters.skipped;
  close(it);
  note_settled_alone(ordinal);
  return true;
}

void GroupState::note_settled_alone(Ordinal ordinal) {
  Changes::Settled& alone = changes_.settled.emplace_back();
  alone.first = alone.last = ordinal;
  alone.apart.add(ordinal);
}

bool GroupState::redrive(Ordinal ordinal, OpenEvent event) {
  return open_again(ordinal, event, {}, true);
}

bool GroupState::replay(Ordinal ordinal, OpenEvent event, std::string_view replayid, bool dead_letter) {
  return open_again(ordinal, event, replayid, dead_letter);
}

bool GroupState::open_again(Ordinal ordinal, OpenEvent event, std::string_view replayid, bool redriven) {
  const auto [it, added] = items_.try_emplace(ordinal);
  if (!added) return false;
  Item& item = it->second;
  item.key = event.key;
  item.bytes = event.bytes;
  item.redriven = redriven;
  item.replayid = replayid;
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
  for (const std::uint64_t id : held) release_claim(id);
}

void GroupState::release_claim(std::uint64_t claim_id) {
  const auto claim = claims_.find(claim_id);
  if (claim == claims_.end()) return;
  const RangeSet open = claim->second.open;
  for (const auto& [first, last] : open.ranges()) {
    for (Ordinal o = first; o <= last; ++o) give_back(o, items_.at(o));
  }
}

void GroupState::renew_leases(Timestamp now) {
  for (auto& [id, claim] : claims_) {
    if (claim.session != 0 || claim.lease_until >= now + claim.lease) continue;
    claim.lease_until = now + claim.lease;
    changes_.claims.insert(id);
  }
}

}  // namespace millrace::ledger
