// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Trimming on a schedule: what is due when, and the thread that does it, one stream at a time. Shared by every store;
/// whoever owns a store runs one.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "millrace/error.hpp"
#include "millrace/event_log.hpp"

namespace millrace::store {

/// A stream's retention as a store records it.
struct RetentionRecord {
  Retention retention = {};
  /// When the schedule last trimmed by exactly this retention; absent after set_retention, which makes it due at once.
  /// Trims that somebody asked for do not count: they may have removed much less.
  std::optional<Timestamp> applied_at = {};
};

/// What the retention asks a trim to remove.
TrimRequest request_of(const Retention& retention);

/// When its next trim is due; nullopt when it keeps everything.
std::optional<Timestamp> due_at(const RetentionRecord& record);

/// Says what a trim did, for people: what was removed, what was kept and for whom. Silent when it did nothing.
void log_trim(const StreamName& stream, const TrimResult& result);

/// What the schedule needs of a store.
class RetentionHost {
 public:
  virtual ~RetentionHost() = default;
  struct Retained {
    StreamName stream;
    RetentionRecord record;
  };
  /// The streams that do not keep everything.
  virtual std::vector<Retained> retained() = 0;
  /// Trims by what is recorded now, in short steps, and records when. \throws Error{stopped} when `stop` comes first;
  /// what was trimmed by then stays trimmed, and nothing is recorded.
  virtual TrimResult apply_retention(const StreamName& stream, const std::stop_token& stop) = 0;
};

class RetentionSchedule {
 public:
  /// How long the thread sleeps at most: another process may have set a retention.
  static constexpr std::chrono::seconds kLookAgain{5};
  /// After a trim that failed.
  static constexpr std::chrono::seconds kRetryAfter{60};

  RetentionSchedule(RetentionHost& host, std::function<Timestamp()> now) : host_(host), now_(std::move(now)) {}
  ~RetentionSchedule();  ///< stop()
  void start();
  /// Ends a trim between two of its steps. Idempotent; after it nothing is called any more.
  void stop();
  /// A retention was set: look at once. Thread-safe.
  void wake();

  struct Figures {
    std::uint64_t trims = 0;
    std::uint64_t removed_events = 0;
    std::uint64_t failures = 0;
  };
  [[nodiscard]] Figures figures() const;

  /// Trims the stream that is longest due, if one is, and says how long nothing else will be. The thread does nothing
  /// but this and waiting.
  std::chrono::milliseconds step(const std::stop_token& stop);

 private:
  void run(const std::stop_token& stop);
  /// Counts and tells it; how long nothing else is due.
  std::chrono::milliseconds failed(const std::optional<StreamName>& stream, const Error& error);

  RetentionHost& host_;
  std::function<Timestamp()> now_;
  std::map<StreamName, Timestamp> not_before_;            ///< streams whose last trim failed; the thread's
  std::map<StreamName, std::vector<GroupName>> held_by_;  ///< whom people were warned of; the thread's
  std::atomic<std::uint64_t> trims_{0};
  std::atomic<std::uint64_t> removed_{0};
  std::atomic<std::uint64_t> failures_{0};
  std::mutex mutex_;
  std::condition_variable_any wake_;
  bool woken_ = false;
  std::jthread thread_;
};

}  // namespace millrace::store
