// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The log of a store: named streams of events, append-only and totally ordered.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "millrace/error.hpp"
#include "millrace/event.hpp"
#include "millrace/types.hpp"

namespace millrace {

/// What became of one event of an append.
enum class AppendStatus {
  stored,     ///< new, at `position`
  duplicate,  ///< an equal (source, id) is already there, at `position`; nothing was written
  conflict,   ///< (source, id) is already there with another type or other data; nothing was written, no position
};
std::string_view to_string(AppendStatus status) noexcept;

struct AppendResult {
  AppendStatus status = AppendStatus::stored;
  std::optional<Position> position = {};        ///< absent for a conflict
  Durability durability = Durability::durable;  ///< the level reached, for a duplicate too
};

/// The answer of append_async: results in input order, or why there are none.
using AppendAnswer = std::variant<std::vector<AppendResult>, Error>;
using AppendCompletion = std::function<void(AppendAnswer)>;

struct StoredEvent {
  Position position = {};
  Timestamp stored_at = {};  ///< the store's clock; never decreases along a stream
  Event event = {};
};

struct ReadQuery {
  Position after = {};                    ///< exclusive; Position{} = from the oldest
  std::size_t limit = 100;                ///< most events to return
  std::size_t max_bytes = 8 << 20;        ///< stop after this much data (at least one event is returned)
  std::size_t max_scan = 10'000;          ///< most events to look at; a page may be empty while `next` moves
  std::vector<std::string> types = {};    ///< patterns over `type`; empty = all
  std::vector<std::string> sources = {};  ///< patterns over `source`; empty = all
  std::vector<std::string> keys = {};     ///< exact order keys (`partitionkey`, else `subject`); empty = all
  std::optional<Timestamp> since = {};    ///< stored at or after
  std::optional<Timestamp> until = {};    ///< stored before
};

struct Page {
  std::vector<StoredEvent> events = {};
  Position next = {};   ///< hand it back as `after`
  bool at_end = false;  ///< nothing (that could match) was beyond `next` when this was read
  /// Set when events between `after` (given, not Position{}) and the oldest kept one were trimmed: the oldest kept.
  std::optional<Position> gap = {};
};

/// How long a stream keeps its events; recorded with the stream. Several limits: whatever any of them asks. What a live
/// group has not settled is kept in any case. The default keeps everything.
struct Retention {
  std::optional<std::uint64_t> max_events = {};
  std::optional<std::uint64_t> max_bytes = {};
  std::optional<std::chrono::seconds> max_age = {};
  std::chrono::seconds interval{24 * 3600};  ///< whoever owns the store trims so often

  [[nodiscard]] bool keeps_all() const { return !max_events && !max_bytes && !max_age; }
  void validate() const;  ///< \throws Error{invalid_argument} naming field and value
  bool operator==(const Retention&) const = default;
};

/// From what is recorded to what is to be. Pure: it may be asked again when somebody else was faster.
using RetentionChange = std::function<Retention(const Retention&)>;

/// What to remove. Several limits: whatever any of them asks.
struct TrimRequest {
  std::optional<Position> up_to = {};                ///< inclusive
  std::optional<std::uint64_t> max_events = {};      ///< keep at most
  std::optional<std::uint64_t> max_bytes = {};       ///< keep at most
  std::optional<std::chrono::seconds> max_age = {};  ///< remove what was stored longer ago
  bool force = false;                                ///< also what live groups have not settled
  bool dry_run = false;                              ///< answer what would be removed and kept; change nothing
};

struct TrimResult {
  std::uint64_t removed = 0;
  Position trimmed_to = {};
  struct Kept {
    GroupName group;
    std::uint64_t events;  ///< that the request would have removed, kept because this group has not settled them
  };
  std::vector<Kept> kept = {};
};

struct StreamInfo {
  StreamName name;
  Timestamp created_at = {};
  std::uint64_t events = 0;  ///< in the log now
  std::uint64_t bytes = 0;   ///< of event data and attributes, approximately
  Position first = {};       ///< oldest kept; Position{} when empty
  Position last = {};        ///< newest ever stored, even if trimmed since; Position{} when there never was one
  Position trimmed_to = {};  ///< everything up to here was trimmed
  std::optional<Timestamp> oldest = {};  ///< stored_at of `first`
  Position durable_to = {};  ///< everything up to here is on disk; what stands behind it a power cut may take
  Retention retention = {};
  std::optional<Timestamp> last_trim_at = {};  ///< asked for or scheduled, whatever it removed
  TrimResult last_trim = {};                   ///< what it answered
};

/// Where an event stands.
struct FoundEvent {
  StoredEvent stored = {};                      ///< of one that was trimmed: position, id and source only
  std::optional<Timestamp> trimmed_at = {};     ///< it is no longer in the log; its id is known for `dedup_keep`
  Durability durability = Durability::durable;  ///< the level reached by now
};

/// Keeps a callback registered; destroying it unregisters and waits for a running call to return.
class Watch {
 public:
  virtual ~Watch() = default;
};

/// Thread-safe. Calls block until done unless said otherwise, and throw `Error`. `append` wakes watchers.
class EventLog {
 public:
  virtual ~EventLog() = default;

  /// Makes the stream, with its retention, in one step. \throws Error{already_exists | invalid_argument}
  virtual void create_stream(const StreamName& name, const Retention& retention) = 0;
  void create_stream(const StreamName& name) { create_stream(name, {}); }
  virtual std::vector<StreamInfo> streams() = 0;
  /// \throws Error{unknown_stream}
  virtual StreamInfo stream(const StreamName& name) = 0;

  /// Appends all events in order in one atomic step, except duplicates and conflicts, which are answered as such.
  /// Within a stream (source, id) is unique for as long as the event is in the log and `dedup_keep` (24 h) after.
  /// Events must have passed `validate`. Returns when `durability` is reached.
  /// \throws Error{unknown_stream | store_full | unavailable}: nothing was written.
  /// \throws Error{outcome_unknown}: may have been written; repeat with the same ids to find out.
  virtual std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events,
                                           Durability durability = Durability::durable) = 0;

  /// The same without blocking: thousands of publishers can wait for one commit without a thread each. `done` is called
  /// exactly once, in commit order, on a thread of the store; it may call append_async but must not block.
  /// Blocks only while the store's queue is full. Throws nothing: failures arrive in the answer.
  virtual void append_async(const StreamName& stream, std::vector<Event> events, Durability durability,
                            AppendCompletion done) = 0;

  /// Reads onward. \throws Error{unknown_stream | invalid_argument}
  virtual Page read(const StreamName& stream, const ReadQuery& query) = 0;

  /// The events stored under `id`, by any source or the given one (then at most one), and those that were trimmed but
  /// are still known. At most 100. Costs the same however long the log is.
  virtual std::vector<FoundEvent> find(const StreamName& stream, std::string_view id,
                                       std::optional<std::string_view> source = {}) = 0;

  /// Position after which events stored at or after `time` stand (for "start at a time").
  virtual Position position_before(const StreamName& stream, Timestamp time) = 0;

  /// Decides and removes in one transaction. Unless forced, keeps what a live group has not settled and says for whom.
  virtual TrimResult trim(const StreamName& stream, const TrimRequest& request) = 0;

  /// From now on the owner of the store trims by what `change` answers, at once and then every `interval`. Reading and
  /// writing are one step: of two changes at the same time, one sees the other's.
  /// \throws Error{unknown_stream | invalid_argument}, and whatever `change` throws; then nothing is changed
  virtual StreamInfo change_retention(const StreamName& stream, const RetentionChange& change) = 0;
  /// By exactly this, whatever was recorded.
  StreamInfo set_retention(const StreamName& stream, const Retention& retention) {
    return change_retention(stream, [&retention](const Retention&) { return retention; });
  }

  /// Overwrites the data of one event for good, in the log and in every copy among dead letters; durable, and out of
  /// the store's files, when it returns. Position, id and the other attributes stay; from now on the event has no data
  /// and carries `erasedtime`, and whoever appends it again is answered `duplicate`. The position, or nullopt when
  /// neither the log nor a dead letter has it. Erasing twice is as once. \throws Error{busy} when a reader kept the old
  /// bytes in the files for too long: for readers it is erased already, erasing again finishes.
  virtual std::optional<Position> erase(const StreamName& stream, std::string_view source, std::string_view id) = 0;

  /// `changed` is called soon after events were appended or a group's events became claimable again, by whichever
  /// process. It says "look", not what: it may come late, early or once for many. Must not block nor throw.
  virtual std::unique_ptr<Watch> watch(std::function<void()> changed) = 0;
};

}  // namespace millrace
