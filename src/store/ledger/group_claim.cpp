// SPDX-License-Identifier: Apache-2.0
// GroupState: what a claim hands out.
#include "store/ledger/group_state.hpp"

#include <algorithm>

namespace millrace::ledger {

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
  std::vector<Ordinal> between;  // met since the last one that counts as taken
  const auto take = [&](Ordinal ordinal) {
    if (claim.fresh_first == 0) claim.fresh_first = ordinal;
    if (claim.fresh_first != ordinal) {
      for (const Ordinal other : between) claim.apart.add(other);
    }
    between.clear();
    claim.fresh_last = ordinal;
  };
  while (out.events.size() < request.max && bytes < request.max_bytes) {
    const std::optional<Candidate> candidate = fresh.next();
    if (!candidate) {
      cursor = std::max(cursor, fresh.scanned_to());
      break;
    }
    const Ordinal ordinal = candidate->ordinal;
    if (items_.contains(ordinal)) {  // redriven, and met again after a seek back
      between.push_back(ordinal);
      cursor = ordinal;
      continue;
    }
    if (candidate->expired) {
      ++progress_.counters.expired;
      take(ordinal);
      claim.apart.add(ordinal);
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
      between.push_back(ordinal);
      place(ordinal, item);
      refresh_head(item.key);  // a redriven event that stood first stands behind it now
      note(ordinal, item);
    } else {
      bytes += candidate->bytes;
      take(ordinal);
      give(ordinal, item, claim_id, claim, out, true);
    }
  }
  if (cursor != progress_.cursor) {
    progress_.cursor = cursor;
    changes_.progress = true;
  }
}

void GroupState::open_claim(std::uint64_t claim_id, Claim claim) {
  auto& held = holders_[holder_of(claim)];
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

  const auto held = holders_.find(holder_of(claim));
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
    if (claim.fresh_first != 0) {  // all that was met had expired
      changes_.settled.push_back({.fresh = true,
                                  .pass = progress_.pass,
                                  .first = claim.fresh_first,
                                  .last = claim.fresh_last,
                                  .apart = claim.apart});
    }
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

}  // namespace millrace::ledger
