// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "store/memory/memory_store.hpp"

namespace millrace::store::memory {

void MemoryLog::create_stream(const StreamName& name) {
  const std::lock_guard lock(shared_.mutex);
  if (!shared_.streams.try_emplace(name, name, shared_.clock.now()).second) {
    throw Error(Errc::already_exists, "create stream", name.str(), "there is a stream of that name");
  }
}

std::vector<StreamInfo> MemoryLog::streams() {
  const std::lock_guard lock(shared_.mutex);
  std::vector<StreamInfo> all;
  for (const auto& [name, stream] : shared_.streams) all.push_back(stream.info());
  return all;
}

StreamInfo MemoryLog::stream(const StreamName& name) {
  const std::lock_guard lock(shared_.mutex);
  return shared_.stream_at("stream", name).info();
}

std::vector<AppendResult> MemoryLog::append_locked(const StreamName& name, std::vector<Event> events) {
  Stream& stream = shared_.stream_at("append", name);
  const Timestamp now = shared_.clock.now();
  std::vector<AppendResult> results;
  results.reserve(events.size());
  bool stored = false;
  for (Event& event : events) {
    results.push_back(stream.append(std::move(event), now));
    if (results.back().status != AppendStatus::stored) continue;
    stored = true;
    ++shared_.stored_total;
  }
  if (stored) shared_.notifier.changed();
  return results;
}

std::vector<AppendResult> MemoryLog::append(const StreamName& stream, std::span<const Event> events, Durability) {
  std::vector<Event> copies(events.begin(), events.end());
  const std::lock_guard lock(shared_.mutex);
  return append_locked(stream, std::move(copies));
}

void MemoryLog::append_async(const StreamName& stream, std::vector<Event> events, Durability, AppendCompletion done) {
  shared_.notifier.wait_for_room();
  const std::lock_guard lock(shared_.mutex);
  AppendAnswer answer;
  try {
    answer = append_locked(stream, std::move(events));
  } catch (const Error& error) {
    answer = error;
  }
  // Under the lock, so that completions come in commit order.
  shared_.notifier.post([done = std::move(done), answer = std::move(answer)]() mutable { done(std::move(answer)); });
}

Page MemoryLog::read(const StreamName& name, const ReadQuery& query) {
  const PatternList types(query.types);
  const PatternList sources(query.sources);
  const Ordinal after = ordinal_of(query.after, "read");
  std::vector<SharedEvent> found;
  Page page;
  {
    const std::lock_guard lock(shared_.mutex);
    const Stream& stream = shared_.stream_at("read", name);
    if (after != 0 && after < stream.trimmed_to()) page.gap = Position{stream.trimmed_to() + 1};
    Ordinal at = std::max(after, stream.trimmed_to());
    if (query.since) at = std::max(at, stream.before(*query.since));
    const Ordinal end = query.until ? stream.before(*query.until) : stream.last();
    std::size_t bytes = 0;
    std::size_t scanned = 0;
    while (at < end && found.size() < query.limit && (found.empty() || bytes < query.max_bytes) &&
           scanned < query.max_scan) {
      const SharedEvent stored = stream.at(++at);
      ++scanned;
      if (!types.matches(stored->event.type) || !sources.matches(stored->event.source)) continue;
      bytes += event_bytes(stored->event);
      found.push_back(stored);
    }
    page.at_end = at >= end;
    page.next = Position{at};
  }
  page.events.reserve(found.size());
  for (const SharedEvent& event : found) page.events.push_back(*event);
  return page;
}

std::vector<FoundEvent> MemoryLog::find(const StreamName& name, std::string_view id,
                                        std::optional<std::string_view> source) {
  SharedEvent event;
  {
    const std::lock_guard lock(shared_.mutex);
    if (!source) throw Error(Errc::internal, "find", name.str(), "not built yet: by id alone");
    event = shared_.stream_at("find", name).find(*source, id);
  }
  if (!event) return {};
  return {FoundEvent{*event, {}, Durability::memory}};
}

StreamInfo MemoryLog::set_retention(const StreamName& name, const Retention&) {
  throw Error(Errc::internal, "set retention", name.str(), "not built yet");
}

std::optional<Position> MemoryLog::erase(const StreamName& name, std::string_view, std::string_view) {
  throw Error(Errc::internal, "erase", name.str(), "not built yet");
}

Position MemoryLog::position_before(const StreamName& stream, Timestamp time) {
  const std::lock_guard lock(shared_.mutex);
  return Position{shared_.stream_at("position before", stream).before(time)};
}

TrimResult MemoryLog::trim(const StreamName& name, const TrimRequest& request) {
  const std::lock_guard lock(shared_.mutex);
  Stream& stream = shared_.stream_at("trim", name);
  const Timestamp now = shared_.clock.now();
  shared_.drop_expired_groups(now);
  const Ordinal target = stream.trim_target(request, now);
  Ordinal horizon = target;
  TrimResult result;
  for (const auto& [group_name, group] : shared_.groups) {
    if (request.force || group.identity.stream != name || !group.live(now)) continue;
    const Ordinal oldest = group.state.oldest_open();
    const Ordinal settled = std::min(group.state.progress().cursor, oldest == 0 ? target : oldest - 1);
    if (settled >= target) continue;
    result.kept.push_back({group_name, target - std::max(settled, stream.trimmed_to())});
    horizon = std::min(horizon, settled);
  }
  horizon = std::max(horizon, stream.trimmed_to());
  result.removed = stream.trim(horizon, now, shared_.options.dedup_keep);
  result.trimmed_to = Position{stream.trimmed_to()};
  for (auto& [group_name, group] : shared_.groups) {
    if (group.identity.stream != name) continue;
    group.state.forget_up_to(horizon);
    if (group.state.take_changes().wake) shared_.notifier.changed();
  }
  return result;
}

std::unique_ptr<Watch> MemoryLog::watch(std::function<void()> changed) {
  return shared_.notifier.watch(std::move(changed));
}

}  // namespace millrace::store::memory
