// SPDX-License-Identifier: Apache-2.0
#include "store/memory/stream.hpp"

#include <algorithm>
#include <utility>

#include "store/common.hpp"

namespace millrace::store::memory {
namespace {

std::uint64_t fingerprint_of(const Event& event) {
  return content_fingerprint(event.type, event.data ? std::optional<std::string_view>(*event.data) : std::nullopt);
}

}  // namespace

AppendResult Stream::append(Event event, Timestamp now) {
  forget_old_ids(now);
  const std::uint64_t fingerprint = fingerprint_of(event);
  const auto [known, added] = known_.try_emplace({event.id, event.source}, Known{last() + 1, fingerprint});
  if (!added) {
    const SharedEvent there = at(known->second.ordinal);
    const bool same = known->second.fingerprint == kErasedFingerprint ||
                      (there ? there->event.type == event.type && there->event.data == event.data
                             : known->second.fingerprint == fingerprint);
    if (!same) return {AppendStatus::conflict, std::nullopt, Durability::memory};
    return {AppendStatus::duplicate, Position{known->second.ordinal}, Durability::memory};
  }
  last_stored_ = std::max(last_stored_, now);
  bytes_ += event_bytes(event);
  const Position position{last() + 1};
  events_.push_back(std::make_shared<const StoredEvent>(StoredEvent{position, last_stored_, std::move(event)}));
  return {AppendStatus::stored, position, Durability::memory};
}

SharedEvent Stream::at(Ordinal ordinal) const {
  if (ordinal <= trimmed_to_ || ordinal > last()) return nullptr;
  return events_[ordinal - trimmed_to_ - 1];
}

std::vector<Stream::Found> Stream::find(std::string_view id, std::optional<std::string_view> source, Timestamp now,
                                        std::size_t limit) {
  forget_old_ids(now);
  std::vector<Found> found;
  const Identity from{std::string(id), std::string(source.value_or(std::string_view{}))};
  for (auto it = known_.lower_bound(from); it != known_.end() && it->first.first == id; ++it) {
    if (found.size() == limit || (source && it->first.second != *source)) break;
    found.push_back({at(it->second.ordinal), it->second.ordinal, it->first.second, it->second.trimmed_at});
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.ordinal < b.ordinal; });
  return found;
}

std::optional<Ordinal> Stream::erase(std::string_view source, std::string_view id, Timestamp now) {
  const auto known = known_.find({std::string(id), std::string(source)});
  const SharedEvent there = known == known_.end() ? nullptr : at(known->second.ordinal);
  if (!there) return std::nullopt;
  const Ordinal ordinal = known->second.ordinal;
  if (is_erased(there->event)) return ordinal;
  StoredEvent bare = *there;
  mark_erased(bare.event, now);
  bytes_ = bytes_ - event_bytes(there->event) + event_bytes(bare.event);
  note_erased(source, id);
  events_[ordinal - trimmed_to_ - 1] = std::make_shared<const StoredEvent>(std::move(bare));
  return ordinal;
}

void Stream::note_erased(std::string_view source, std::string_view id) {
  const auto known = known_.find({std::string(id), std::string(source)});
  if (known != known_.end()) known->second.fingerprint = kErasedFingerprint;
}

void Stream::set_retention(const Retention& retention) {
  retention_ = {retention, std::nullopt};
}

void Stream::note_trim(const TrimResult& result, Timestamp now, const Retention* applied) {
  last_trim_at_ = now;
  last_trim_ = result;
  if (applied && *applied == retention_.retention) retention_.applied_at = now;
}

Ordinal Stream::before(Timestamp time) const {
  const auto it = std::lower_bound(events_.begin(), events_.end(), time,
                                   [](const SharedEvent& event, Timestamp t) { return event->stored_at < t; });
  return trimmed_to_ + static_cast<Ordinal>(it - events_.begin());
}

StreamInfo Stream::info() const {
  StreamInfo info{name_, created_at_, events_.size(), bytes_, {}, Position{last()}, Position{trimmed_to_}, {}};
  if (!events_.empty()) {
    info.first = events_.front()->position;
    info.oldest = events_.front()->stored_at;
  }
  info.retention = retention_.retention;
  info.last_trim_at = last_trim_at_;
  info.last_trim = last_trim_;
  return info;
}

Ordinal Stream::trim_target(const TrimRequest& request, Timestamp now) const {
  Ordinal target = trimmed_to_;
  if (request.up_to) target = std::max(target, std::min(ordinal_of(*request.up_to, "trim"), last()));
  if (request.max_events && *request.max_events < events_.size())
    target = std::max(target, last() - *request.max_events);
  if (request.max_age) target = std::max(target, before(now - *request.max_age));
  if (request.max_bytes) {
    std::uint64_t left = bytes_;
    Ordinal ordinal = trimmed_to_;
    for (auto it = events_.begin(); it != events_.end() && left > *request.max_bytes; ++it, ++ordinal) {
      left -= event_bytes((*it)->event);
    }
    target = std::max(target, ordinal);
  }
  return target;
}

std::uint64_t Stream::trim(Ordinal up_to, Timestamp now, std::chrono::seconds dedup_keep) {
  std::uint64_t removed = 0;
  while (trimmed_to_ < up_to && !events_.empty()) {
    const Event& event = events_.front()->event;
    bytes_ -= event_bytes(event);
    Identity identity{event.id, event.source};
    known_.at(identity).trimmed_at = now;
    forget_.push_back({now + dedup_keep, std::move(identity)});
    events_.pop_front();
    ++trimmed_to_;
    ++removed;
  }
  return removed;
}

void Stream::forget_old_ids(Timestamp now) {
  while (!forget_.empty() && forget_.front().at <= now) {
    known_.erase(forget_.front().identity);
    forget_.pop_front();
  }
}

}  // namespace millrace::store::memory
