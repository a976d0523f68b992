// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/append.hpp"

#include <algorithm>

#include "store/records.hpp"
#include "store/sqlite/rows.hpp"

namespace millrace::store::sqlite {
namespace {

/// Its weight as trimming will count it, by its columns.
std::size_t row_bytes(const Event& event, std::string_view extensions) {
  return event.id.size() + event.source.size() + event.type.size() + event.subject.size() + event.time.size() +
         event.datacontenttype.size() + event.dataschema.size() + extensions.size() +
         (event.data ? event.data->size() : 0);
}

Blob data_of(const Event& event) {
  return {event.data ? std::optional<std::string_view>(*event.data) : std::nullopt};
}

}  // namespace

Append::Append(Writer& writer, const StreamName& name, std::span<const Event> events, Durability durability)
    : writer_(writer), name_(name), events_(events) {
  durable = durability == Durability::durable;
  appends = true;
  for (const Event& event : events) bytes += event_bytes(event);
  if (!durable) {
    stream = &name_;
    relaxed_events = events.size();
  }
  if (std::any_of(events.begin(), events.end(), [](const Event& e) { return !e.extensions.empty(); })) {
    extensions_.reserve(events.size());
    for (const Event& event : events) extensions_.push_back(encode_extensions(event.extensions));
  }
  results_.reserve(events.size());
}

void Append::run(State& state) {
  results_.clear();
  StreamState& target = state.stream(name_, "append");
  writer_.check_space(bytes);
  target.last_stored_at = std::max(target.last_stored_at, state.now());
  std::uint64_t stored = 0;
  for (std::size_t i = 0; i < events_.size(); ++i) {
    results_.push_back(append(state, target, i));
    if (results_.back().status == AppendStatus::stored) {
      ++stored;
      target.bytes += row_bytes(events_[i], extensions_.empty() ? std::string_view{} : extensions_[i]);
    }
  }
  if (stored == 0) return;
  target.events += stored;
  target.dirty = true;
  state.count_appended(stored);
}

/// Of events that were trimmed less than `dedup_keep` ago, the ids are still known.
bool Append::seen_before_trim(State& state, StreamState& target, const Event& event, AppendResult& result) {
  auto row = target.trimmed_id.query(event.id, event.source);
  if (!row.next() || row.time(2) + writer_.dedup_keep() < state.now()) return false;
  const auto data = event.data ? std::optional<std::string_view>(*event.data) : std::nullopt;
  if (row.number(1) == kErasedFingerprint || row.number(1) == content_fingerprint(event.type, data)) {
    result.status = AppendStatus::duplicate;
    result.position = Position(row.number(0));
  } else {
    result.status = AppendStatus::conflict;
  }
  return true;
}

AppendResult Append::append(State& state, StreamState& target, std::size_t index) {
  const Event& event = events_[index];
  AppendResult result;
  if (target.has_trimmed_ids && seen_before_trim(state, target, event, result)) return result;
  const OptionalText extensions{extensions_.empty() ? std::string_view{} : std::string_view(extensions_[index])};
  target.insert.run(target.next_position, event.id, event.source, event.type, OptionalText{event.subject},
                    OptionalText{event.time}, OptionalText{event.datacontenttype}, OptionalText{event.dataschema},
                    extensions, data_of(event), target.last_stored_at);
  if (state.connection().changes() != 0) {
    result.position = Position(target.next_position++);
    return result;
  }
  auto row = target.by_id.query(event.id, event.source);
  if (!row.next())
    throw Error(Errc::corrupt, "append", name_.str(),
                "the index of ids disagrees with its table; run PRAGMA integrity_check");
  constexpr int kFirst = 1;
  const bool same = row_is_erased(row, kFirst) || (row.text(kFirst + kTypeColumn) == event.type &&
                                                   row.blob(kFirst + kDataColumn) == data_of(event).bytes);
  result.status = same ? AppendStatus::duplicate : AppendStatus::conflict;
  if (same) result.position = Position(row.number(0));
  return result;
}

std::vector<AppendResult> Append::take_results(Durability reached) {
  for (AppendResult& result : results_) result.durability = reached;
  return std::move(results_);
}

}  // namespace millrace::store::sqlite
