// SPDX-License-Identifier: Apache-2.0
#include "replay/store_ports.hpp"

#include "millrace/error.hpp"
#include "replay/records.hpp"

namespace millrace::replay {
namespace {

ReplayStatus would_replay_one(Ledger& ledger, const GroupName& group, Position position) {
  try {
    switch (ledger.where(group, position).state) {
      case Whereabouts::State::filtered_out:
        return ReplayStatus::filtered_out;
      case Whereabouts::State::ahead:
        return ReplayStatus::ahead;
      case Whereabouts::State::open:
        return ReplayStatus::open;
      case Whereabouts::State::settled:
      case Whereabouts::State::dead:
        return ReplayStatus::accepted;
    }
    return ReplayStatus::gone;
  } catch (const Error& error) {
    if (error.code() == Errc::not_found) return ReplayStatus::gone;
    throw;
  }
}

}  // namespace

std::vector<ReplayStatus> would_replay(Ledger& ledger, const GroupName& group, std::span<const Position> positions) {
  std::vector<ReplayStatus> statuses;
  statuses.reserve(positions.size());
  for (const Position& position : positions) statuses.push_back(would_replay_one(ledger, group, position));
  return statuses;
}

Ports::GroupNow StorePorts::group(const GroupName& name) {
  const GroupInfo info = store_.ledger().group(name);
  return {info.stream, info.paused, !info.consumers.empty()};
}

std::vector<Position> StorePorts::open_between(const GroupName& group, Position after, Position last) {
  constexpr std::size_t kPage = 1'000;
  std::vector<Position> open;
  while (after < last) {
    const auto page = store_.ledger().pending(group, after, kPage);
    for (const PendingEvent& event : page) {
      if (event.position <= last) open.push_back(event.position);
    }
    if (page.size() < kPage) break;
    after = page.back().position;
  }
  return open;
}

std::uint64_t StorePorts::save(const ReplayRecord& record) {
  return save_record(store_.kv(), record);
}

void StorePorts::wait(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  stopped_.wait_for(lock, stop_, time, [] { return false; });
}

}  // namespace millrace::replay
