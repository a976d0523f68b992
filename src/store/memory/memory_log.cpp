// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "store/ledger_calls.hpp"
#include "store/memory/memory_store.hpp"

namespace millrace::store::memory {
namespace {

/// Most events removed at a time, so that nobody waits long behind a trim.
constexpr std::uint64_t kTrimStep = 5'000;

}  // namespace

MemoryLog::MemoryLog(Shared& shared) : shared_(shared), schedule_(*this, [this] { return shared_.clock.now(); }) {
  schedule_.start();
}

void MemoryLog::create_stream(const StreamName& name, const Retention& retention) {
  retention.validate();
  {
    const std::lock_guard lock(shared_.mutex);
    const auto [stream, made] = shared_.streams.try_emplace(name, name, shared_.clock.now());
    if (!made) throw stream_exists(name);
    stream->second.set_retention(retention);
  }
  schedule_.wake();
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
  const ReadFilter wanted(query);
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
      if (!wanted.matches(stored->event)) continue;
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
  std::vector<Stream::Found> found;
  {
    const std::lock_guard lock(shared_.mutex);
    found = shared_.stream_at("find", name).find(id, source, shared_.clock.now(), kMostFound);
  }
  std::vector<FoundEvent> answer;
  answer.reserve(found.size());
  for (const Stream::Found& one : found) {
    FoundEvent event{.stored = {}, .trimmed_at = one.trimmed_at, .durability = Durability::memory};
    if (one.event) {
      event.stored = *one.event;
    } else {
      event.stored.position = Position{one.ordinal};
      event.stored.event.id = id;
      event.stored.event.source = one.source;
    }
    answer.push_back(std::move(event));
  }
  return answer;
}

StreamInfo MemoryLog::change_retention(const StreamName& name, const RetentionChange& change) {
  StreamInfo info{.name = name};
  {
    const std::lock_guard lock(shared_.mutex);
    Stream& stream = shared_.stream_at("set retention", name);
    const Retention retention = change(stream.retention().retention);
    retention.validate();
    stream.set_retention(retention);
    info = stream.info();
  }
  schedule_.wake();
  return info;
}

std::optional<Position> MemoryLog::erase(const StreamName& name, std::string_view source, std::string_view id) {
  const std::lock_guard lock(shared_.mutex);
  const Timestamp now = shared_.clock.now();
  Stream& stream = shared_.stream_at("erase", name);
  std::optional<Ordinal> position = stream.erase(source, id, now);
  for (auto& [group_name, group] : shared_.groups) {
    if (group.identity.stream != name) continue;
    for (auto& [ordinal, dead] : group.dead) {
      Event& event = dead.letter.event;
      if (event.id != id || event.source != source) continue;
      position = ordinal;  // it may be all that is left of the event
      if (!is_erased(event)) mark_erased(event, now);
      stream.note_erased(source, id);
    }
  }
  if (!position) return std::nullopt;
  return Position{*position};
}

Position MemoryLog::position_before(const StreamName& stream, Timestamp time) {
  const std::lock_guard lock(shared_.mutex);
  return Position{shared_.stream_at("position before", stream).before(time)};
}

Ordinal MemoryLog::horizon_of(const StreamName& name, const Stream& stream, Ordinal target, bool force,
                              TrimResult& result) {
  const Timestamp now = shared_.clock.now();
  shared_.drop_expired_groups(now);
  result.kept.clear();
  Ordinal horizon = target;
  for (const auto& [group_name, group] : shared_.groups) {
    if (force || group.identity.stream != name || !group.live(now)) continue;
    const Ordinal settled = settled_to(group.state);
    if (settled >= target) continue;
    result.kept.push_back({group_name, target - std::max(settled, stream.trimmed_to())});
    horizon = std::min(horizon, settled);
  }
  return std::max(horizon, stream.trimmed_to());
}

TrimResult MemoryLog::trim(const StreamName& name, const TrimRequest& request) {
  return trim(name, request, nullptr, {});
}

TrimResult MemoryLog::trim(const StreamName& name, const TrimRequest& request, const Retention* applied,
                           const std::stop_token& stop) {
  TrimResult result;
  std::optional<Ordinal> target;  // decided once, so that new events do not prolong the work
  for (bool more = true; more;) {
    if (stop.stop_requested()) throw Error(Errc::stopped, "trim", name.str(), "the store is being closed");
    const std::lock_guard lock(shared_.mutex);
    Stream& stream = shared_.stream_at("trim", name);
    const Timestamp now = shared_.clock.now();
    if (!target) target = stream.trim_target(request, now);
    const Ordinal horizon = horizon_of(name, stream, *target, request.force, result);
    if (request.dry_run) {
      result.removed = horizon - stream.trimmed_to();
      result.trimmed_to = Position{horizon};
      return result;
    }
    const Ordinal step = std::min(horizon, stream.trimmed_to() + kTrimStep);
    result.removed += stream.trim(step, now, shared_.options.dedup_keep);
    result.trimmed_to = Position{stream.trimmed_to()};
    for (auto& [group_name, group] : shared_.groups) {
      if (group.identity.stream != name) continue;
      group.state.forget_up_to(step);
      shared_.apply(group, shared_.clock.now());
    }
    more = step < horizon;
    if (!more) stream.note_trim(result, now, applied);
  }
  log_trim(name, result);
  return result;
}

std::vector<RetentionHost::Retained> MemoryLog::retained() {
  const std::lock_guard lock(shared_.mutex);
  std::vector<Retained> all;
  for (const auto& [name, stream] : shared_.streams) {
    if (!stream.retention().retention.keeps_all()) all.push_back({name, stream.retention()});
  }
  return all;
}

TrimResult MemoryLog::apply_retention(const StreamName& name, const std::stop_token& stop) {
  Retention retention;
  {
    const std::lock_guard lock(shared_.mutex);
    retention = shared_.stream_at("trim", name).retention().retention;
  }
  return trim(name, request_of(retention), &retention, stop);
}

std::unique_ptr<Watch> MemoryLog::watch(std::function<void()> changed) {
  return shared_.notifier.watch(std::move(changed));
}

}  // namespace millrace::store::memory
