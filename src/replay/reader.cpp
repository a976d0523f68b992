// SPDX-License-Identifier: Apache-2.0
#include "replay/reader.hpp"

#include <algorithm>

namespace millrace::replay {
namespace {

constexpr std::uint64_t kPageEvents = 500;

}  // namespace

Reader::Reader(Ports& ports, const ReplayQuery& query, Position next, Position end)
    : ports_(ports), stream_(query.stream), next_(next), end_(end) {
  read_.types = query.types;
  read_.sources = query.sources;
  read_.keys = query.keys;
  read_.since = query.since;
  read_.until = query.until;
}

std::vector<StoredEvent> Reader::page(std::uint64_t most) {
  read_.after = next_;
  read_.limit = static_cast<std::size_t>(std::min(most, kPageEvents));
  Page page = ports_.read(stream_, read_);
  if (page.gap && !gap_) gap_ = page.gap;
  const bool beyond = !page.events.empty() && page.events.back().position > end_;
  std::erase_if(page.events, [this](const StoredEvent& stored) { return stored.position > end_; });
  next_ = page.at_end || beyond ? end_ : std::min(page.next, end_);
  return std::move(page.events);
}

Position end_of(Ports& ports, const ReplayQuery& query) {
  const Position last = ports.end_of(query.stream);
  return query.up_to ? std::min(*query.up_to, last) : last;
}

}  // namespace millrace::replay
