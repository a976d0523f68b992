// SPDX-License-Identifier: Apache-2.0
#include "replay/engine.hpp"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/utf8.hpp"
#include "base/uuid.hpp"
#include "millrace/error.hpp"
#include "replay/reader.hpp"
#include "replay/records.hpp"
#include "replay/targets.hpp"

namespace millrace::replay {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kRecordEvery{1};
constexpr milliseconds kLookAgain{100};   ///< while a target has no room
constexpr milliseconds kLongestNap{200};  ///< between two looks at a stop, a record and whoever watches
constexpr milliseconds kShowEvery{100};
constexpr std::size_t kLongestError = 1'000;

/// The kind and the name of a target, into a record.
void name_target(ReplayRecord& record, const ReplayTarget& target) {
  if (const auto* stream = std::get_if<IntoStream>(&target)) {
    record.target = ReplayRecord::Target::stream;
    record.target_name = stream->stream.str();
  } else if (const auto* group = std::get_if<ToGroup>(&target)) {
    record.target = ReplayRecord::Target::group;
    record.target_name = group->group.str();
  } else if (std::get<ReplayHandler>(target) == nullptr) {
    throw Error(Errc::invalid_argument, "replay", "handler", "a handler must be callable");
  }
}

class Run {
 public:
  Run(Ports& ports, ReplayRecord& record, const ReplayTarget& target, const RunOptions& options)
      : ports_(ports), record_(record), target_(target), options_(options) {}

  void run() {
    if (report().finished()) return;
    begin();
    try {
      go();
    } catch (const std::exception& error) {
      // The record must not say "running"; and whatever is wrong may be wrong with it, too.
      try {
        note_error(error.what());
        end(ReplayState::failed);
      } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): the first error is the one to tell
      }
      throw;
    }
    show({});
  }

 private:
  ReplayReport& report() { return record_.report; }

  void begin() {
    taker_ = make_target(ports_, record_, target_, options_.schemas, options_.window);
    if (record_.version == 0) {
      report().next = record_.query.after;
      report().end = end_of(ports_, record_.query);
    } else if (record_.on_error == ReplayOnError::stop) {
      // The event it stopped at is tried again, and counted then.
      report().read -= std::min(report().read, report().failed);
      report().failed = 0;
    }
    // What ended an earlier run is over; what was wrong with an event that was counted is not.
    if (report().failed == 0) report().first_error.clear();
    report().state = ReplayState::running;
    save();
  }

  void go() {
    Reader reader(ports_, record_.query, report().next, report().end);
    while (!reader.done() && left() > 0) {
      if (ports_.stop_requested()) return end(ReplayState::interrupted);
      const std::vector<StoredEvent> events = reader.page(left());
      if (reader.gap() && !report().gap) report().gap = reader.gap();
      if (!give_all(events)) return;
      report().next = std::max(report().next, left() > 0 ? reader.next() : report().next);
      save_sometimes();
      show_sometimes({});
    }
    end(ReplayState::finished);
  }

  /// False when the replay ended within them.
  bool give_all(std::span<const StoredEvent> events) {
    while (!events.empty()) {
      if (ports_.stop_requested()) {
        end(ReplayState::interrupted);
        return false;
      }
      std::size_t due = due_now(events);
      if (due > 0) due = std::min(due, room());
      if (due == 0) continue;  // it waited
      if (!take(events.first(due), taker_->give(events.first(due)))) return false;
      events = events.subspan(due);
      if (taker_->record_each()) save();
      save_sometimes();
      show_sometimes({});
    }
    return true;
  }

  /// How many at the front are due; waits a while when none is.
  std::size_t due_now(std::span<const StoredEvent> events) {
    const std::size_t most = std::min(events.size(), taker_->batch());
    if (record_.pace.factor == 0) return most;
    const SteadyTime now = ports_.now();
    if (!origin_) origin_ = PaceOrigin{events.front().stored_at, now};
    std::size_t due = 0;
    while (due < most && due_in(record_.pace, *origin_, events[due].stored_at, now).count() == 0) ++due;
    if (due == 0) {
      const auto time = due_in(record_.pace, *origin_, events.front().stored_at, now);
      nap(std::min(kLongestNap, std::chrono::ceil<milliseconds>(time)), {});
    }
    return due;
  }

  /// How many the target takes; waits a while when none.
  std::size_t room() {
    const std::size_t room = taker_->room();
    if (room == 0) nap(kLookAgain, taker_->waiting());
    return room;
  }

  void nap(milliseconds time, const std::string& why) {
    save_sometimes();
    show_sometimes(why);
    ports_.wait(time);
  }

  /// Counts them. False when one failed and the replay was to stop there.
  bool take(std::span<const StoredEvent> events, std::span<const Verdict> verdicts) {
    for (std::size_t i = 0; i < events.size(); ++i) {
      const Verdict& verdict = verdicts[i];
      at_ = events[i].stored_at;
      ++report().read;
      if (verdict.kind == Verdict::Kind::delivered) ++report().delivered;
      if (verdict.kind == Verdict::Kind::erased) ++report().erased;
      if (verdict.kind == Verdict::Kind::passed) ++report().passed;
      if (verdict.kind == Verdict::Kind::failed) {
        ++report().failed;
        note_error("position " + events[i].position.to_string() + ": " + verdict.error);
        if (record_.on_error == ReplayOnError::stop) {
          end(ReplayState::failed);
          return false;
        }
      }
      report().next = events[i].position;
    }
    return true;
  }

  void note_error(const std::string& text) {
    if (report().first_error.empty()) report().first_error = printable(text.substr(0, kLongestError));
  }

  [[nodiscard]] std::uint64_t left() {
    if (record_.query.limit == 0) return UINT64_MAX;
    return record_.query.limit - std::min(record_.query.limit, report().read);
  }

  void end(ReplayState state) {
    report().state = state;
    save();
  }

  void save() {
    record_.open_from = taker_->open_from();
    record_.version = ports_.save(record_);
    saved_at_ = ports_.now();
  }
  void save_sometimes() {
    if (ports_.now() - saved_at_ >= kRecordEvery) save();
  }

  void show(const std::string& why) {
    if (options_.progress) options_.progress({report(), at_, why});
  }
  void show_sometimes(const std::string& why) {
    const SteadyTime now = ports_.now();
    if (shown_at_ && now - *shown_at_ < kShowEvery) return;
    shown_at_ = now;
    show(why);
  }

  Ports& ports_;
  ReplayRecord& record_;
  const ReplayTarget& target_;
  const RunOptions& options_;
  std::unique_ptr<Target> taker_;
  std::optional<PaceOrigin> origin_;
  std::optional<Timestamp> at_;
  SteadyTime saved_at_{};
  std::optional<SteadyTime> shown_at_;
};

}  // namespace

ReplayRecord new_record(const ReplayQuery& query, const ReplayTarget& target, const ReplayOptions& options) {
  query.validate();
  options.validate();
  ReplayRecord record;
  record.query = query;
  record.on_error = options.on_error;
  record.pace = options.pace;
  record.report.replayid = options.replayid.empty() ? new_uuid_v7() : options.replayid;
  name_target(record, target);
  return record;
}

void run(Ports& ports, ReplayRecord& record, const ReplayTarget& target, const RunOptions& options) {
  ReplayRecord given;
  name_target(given, target);
  if (given.target != record.target || given.target_name != record.target_name) {
    throw Error(Errc::invalid_argument, "resume replay", record.report.replayid,
                "began with another target; a resumed replay goes on into the same one");
  }
  Run(ports, record, target, options).run();
}

Preview preview(Ports& ports, const ReplayRecord& record) {
  Preview out;
  out.end = end_of(ports, record.query);
  Reader reader(ports, record.query, record.query.after, out.end);
  while (!reader.done() && (record.query.limit == 0 || out.events < record.query.limit)) {
    std::vector<StoredEvent> events =
        reader.page(record.query.limit == 0 ? UINT64_MAX : record.query.limit - out.events);
    if (ports.stop_requested()) throw Error(Errc::stopped, "preview replay", "", "told to stop");
    if (events.empty()) continue;
    std::vector<Position> positions;
    for (const StoredEvent& stored : events) {
      ++out.events;
      ++out.types[stored.event.type];
      if (is_erased(stored.event)) ++out.erased;
      positions.push_back(stored.position);
    }
    if (record.target == ReplayRecord::Target::group) {
      for (const ReplayStatus status : ports.would_hand_in(record.target_name, positions)) ++out.statuses[status];
    }
    if (!out.first) out.first = events.front();
    out.last = std::move(events.back());
  }
  out.gap = reader.gap();
  return out;
}

}  // namespace millrace::replay
