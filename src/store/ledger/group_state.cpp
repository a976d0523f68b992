// SPDX-License-Identifier: Apache-2.0
// GroupState: its parts, kept in step; loading, moving, answering. Claiming and settling have files of their own.
#include "store/ledger/group_state.hpp"

#include <algorithm>
#include <utility>

namespace millrace::ledger {
KeyHash hash_key(const std::optional<std::string>& key) {
  if (!key) return 0;
  KeyHash hash = 0xCBF29CE484222325ULL;  // FNV-1a
  for (const char c : *key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash == 0 ? 1 : hash;
}

std::vector<Changes::Settled> settled_by_nobody(const RangeSet& ordinals) {
  std::vector<Changes::Settled> settled;
  for (RangeSet& block : ordinals.split(Changes::Settled::kBlock)) {
    const Ordinal first = block.front();
    const Ordinal last = block.back();
    settled.push_back({.first = first, .last = last, .apart = std::move(block)});
  }
  return settled;
}

std::string GroupState::holder_of(const Claim& claim) {
  return claim.session != 0 ? "session " + std::to_string(claim.session) : "consumer " + claim.consumer;
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

/// \param by_its_claim its holder acknowledged it; anything else is no deed of that claim.
void GroupState::close(Items::iterator it, bool by_its_claim) {
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
    const bool fresh = claim->second.settles_as_fresh(ordinal);
    if (by_its_claim && !fresh) claim->second.again.add(ordinal);
    if (!by_its_claim && fresh) claim->second.apart.add(ordinal);
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
  const Claim& claim = it->second;
  if (claim.fresh_first != 0) {
    changes_.settled.push_back({claim_id, true, progress_.pass, claim.fresh_first, claim.fresh_last, claim.apart,
                                claim.consumer, claim.claimed_at});
  }
  for (RangeSet& block : claim.again.split(Changes::Settled::kBlock)) {
    const Ordinal first = block.front();
    const Ordinal last = block.back();
    changes_.settled.push_back({claim_id, false, 0, first, last, std::move(block), claim.consumer, claim.claimed_at});
  }
  const auto held = holders_.find(holder_of(it->second));
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
    row.place = Item::Place::none;  // derived anew below
    items_[ordinal] = std::move(row);
  }
  for (const auto& [id, claim] : claims_) {
    holders_[holder_of(claim)].insert(id);
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
  ++progress_.pass;
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

std::optional<Ordinal> GroupState::parked_behind(Ordinal ordinal) const {
  const Item& item = items_.at(ordinal);
  if (item.place != Item::Place::parked) return std::nullopt;
  const std::vector<Ordinal>& open = keys_.at(item.key).open;
  if (open.front() != ordinal) return open.front();
  // Opened again while a later one of its key is claimed: that one is what it waits for.
  const auto claimed = std::find_if(open.begin(), open.end(), [&](Ordinal o) { return items_.at(o).claim != 0; });
  return claimed == open.end() ? std::nullopt : std::optional(*claimed);
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
