// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "millrace/error.hpp"
#include "millrace/pattern.hpp"
#include "replay/engine.hpp"
#include "replay/records.hpp"

namespace millrace::replay {

/// A world of one stream `events`, another one `copies`, one group `mail`, and a clock that only moves when it is
/// waited.
class FakePorts : public Ports {
 public:
  /// Events 1 … count, stored one second apart, of types a and b in turn.
  explicit FakePorts(std::uint64_t count) {
    for (std::uint64_t i = 1; i <= count; ++i) add(i);
  }

  void add(std::uint64_t ordinal) {
    Event event;
    event.id = std::to_string(ordinal);
    event.source = "/test";
    event.type = ordinal % 2 == 1 ? "a" : "b";
    event.data = "data " + event.id;
    stream.push_back({Position{ordinal}, Timestamp{std::chrono::seconds{ordinal}}, event});
  }

  Position end_of(const StreamName& name) override {
    if (name != StreamName("events") && name != StreamName("copies")) {
      throw Error(Errc::unknown_stream, "replay", name.str(), "no such stream");
    }
    return stream.empty() ? Position{} : stream.back().position;
  }

  Page read(const StreamName&, const ReadQuery& query) override {
    ++reads;
    if (fail_read == reads) throw Error(Errc::unavailable, "read", "events", "gone away");
    const PatternList types(query.types);
    Page page;
    page.next = query.after;
    page.at_end = true;
    if (query.after != Position{} && !stream.empty() && query.after < before_first())
      page.gap = stream.front().position;
    for (const StoredEvent& stored : stream) {
      if (stored.position <= query.after) continue;
      if (page.events.size() == query.limit) {
        page.at_end = false;
        break;
      }
      page.next = stored.position;
      if (types.matches(stored.event.type)) page.events.push_back(stored);
    }
    return page;
  }

  std::vector<AppendResult> append(const StreamName&, std::span<const Event> events) override {
    for (const Event& event : events) {
      if (too_large.contains(event.id)) throw Error(Errc::too_large, "append", event.id, "exceeds max_event_bytes");
    }
    std::vector<AppendResult> results;
    for (const Event& event : events) {
      if (conflicts.contains(event.id)) {
        results.push_back({AppendStatus::conflict, {}, Durability::durable});
        continue;
      }
      const bool fresh = ids.insert(event.id).second;
      if (fresh) copies.push_back(event);
      results.push_back({fresh ? AppendStatus::stored : AppendStatus::duplicate, Position{1}, Durability::durable});
    }
    return results;
  }

  GroupNow group(const GroupName&) override { return {StreamName("events"), paused, !paused}; }
  std::vector<ReplayStatus> hand_in(const GroupName&, std::string_view, std::span<const Position> positions) override {
    std::vector<ReplayStatus> statuses;
    for (const Position& position : positions) {
      handed.push_back(position);
      if (position > cursor) {
        statuses.push_back(ReplayStatus::ahead);
      } else {
        statuses.push_back(open.insert(position).second ? ReplayStatus::accepted : ReplayStatus::open);
      }
    }
    most_open = std::max(most_open, open.size());
    return statuses;
  }
  std::vector<ReplayStatus> would_hand_in(const GroupName&, std::span<const Position> positions) override {
    std::vector<ReplayStatus> statuses;
    for (const Position& position : positions) {
      statuses.push_back(position > cursor ? ReplayStatus::ahead : ReplayStatus::accepted);
    }
    return statuses;
  }
  std::vector<Position> open_between(const GroupName&, Position after, Position last) override {
    std::vector<Position> found;
    for (const Position& position : open) {
      if (position > after && position <= last) found.push_back(position);
    }
    return found;
  }

  std::uint64_t save(const ReplayRecord& record) override {
    if (stolen && record.version > 0) throw Error(Errc::busy, "record replay", "", "somebody else");
    saved = record;
    saves.push_back(clock);
    return saved.version = ++version;
  }

  SteadyTime now() override { return clock; }
  void wait(std::chrono::milliseconds time) override {
    clock += time;
    waited += time;
    if (on_wait) on_wait();
  }
  bool stop_requested() override { return stop; }

  std::vector<StoredEvent> stream;
  std::uint64_t reads = 0, fail_read = 0;

  std::set<std::string> ids, conflicts, too_large;
  std::vector<Event> copies;

  bool paused = false;
  Position cursor{1'000'000};
  std::vector<Position> handed;
  std::set<Position> open;
  std::size_t most_open = 0;

  ReplayRecord saved;
  std::vector<SteadyTime> saves;
  std::uint64_t version = 0;
  bool stolen = false;

  SteadyTime clock{};
  std::chrono::milliseconds waited{0};
  std::function<void()> on_wait;
  bool stop = false;

 private:
  [[nodiscard]] Position before_first() const { return Position{stream.front().position.low - 1}; }
};

}  // namespace millrace::replay
