// SPDX-License-Identifier: Apache-2.0
#include "store/memory/history.hpp"

#include <algorithm>
#include <iterator>

namespace millrace::store::memory {
namespace {

constexpr std::size_t kMostRows = 100'000;  ///< of a group, about 20 MB
constexpr std::size_t kAtOnce = 1'000;      ///< forgotten by one call, which is some other call's extra work

}  // namespace

void History::add(const ledger::Changes::Settled& settled, std::uint64_t id, Timestamp now) {
  ledger::HistoryRow row{id, settled.apart, settled.consumer, settled.claim == 0 ? now : settled.claimed_at, now};
  if (settled.fresh) {
    taken_[settled.pass].insert_or_assign(settled.first, Range{settled.last, std::move(row)});
  } else {
    exact_.insert_or_assign({settled.first, id}, std::move(row));
  }
  written_.push_back({now, settled.fresh, settled.pass, settled.first, id});
}

void History::prune(Timestamp older_than) {
  for (std::size_t n = 0; n < kAtOnce && !written_.empty(); ++n) {
    const Written& oldest = written_.front();
    if (oldest.at >= older_than && written_.size() <= kMostRows) return;
    if (oldest.fresh) {
      const auto pass = taken_.find(oldest.pass);
      const auto range = pass->second.find(oldest.first);
      if (range != pass->second.end() && range->second.row.id == oldest.id) pass->second.erase(range);
      if (pass->second.empty()) taken_.erase(pass);
    } else {
      exact_.erase({oldest.first, oldest.id});
    }
    forgotten_to_ = std::max(forgotten_to_, oldest.at);
    written_.pop_front();
  }
}

std::optional<ledger::HistoryRow> History::exact(Ordinal ordinal) const {
  // No row spans two blocks, so those of its own block are all that can hold it.
  const Ordinal block = ordinal - ordinal % ledger::Changes::Settled::kBlock;
  const ledger::HistoryRow* newest = nullptr;
  const auto end = exact_.lower_bound({ordinal + 1, 0});
  for (auto it = exact_.lower_bound({block, 0}); it != end; ++it) {
    const ledger::HistoryRow& row = it->second;
    if ((!newest || newest->id < row.id) && row.apart.contains(ordinal)) newest = &row;
  }
  return newest ? std::optional(*newest) : std::nullopt;
}

std::optional<ledger::HistoryRow> History::taken(Ordinal ordinal) const {
  for (const auto& [pass, ranges] : taken_) {
    const auto after = ranges.upper_bound(ordinal);
    if (after == ranges.begin()) continue;
    const Range& range = std::prev(after)->second;
    if (range.last >= ordinal) return range.row;
  }
  return std::nullopt;
}

}  // namespace millrace::store::memory
