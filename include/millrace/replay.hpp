// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Replay: a new pass over old positions of a stream, into a handler, another stream, or one named group.
///
/// What is delivered carries the extension `replayid`, so that whoever must not act twice can tell. A replay ends where
/// its stream ended when it began: it chases neither new events nor its own copies. How far it is stands in the store,
/// so that an interrupted one goes on where it was.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "millrace/event_log.hpp"
#include "millrace/key_value.hpp"
#include "millrace/types.hpp"

namespace millrace {

class SchemaRegistry;

/// The extension that says of a delivered event which replay it belongs to.
inline constexpr std::string_view kReplayId = "replayid";

/// Which events. Every condition must hold.
struct ReplayQuery {
  StreamName stream = kDefaultStream;
  Position after = {};                    ///< exclusive; Position{} = from the oldest
  std::optional<Position> up_to = {};     ///< inclusive; absent, or beyond it = the stream's end when the replay begins
  std::vector<std::string> types = {};    ///< patterns over `type`; empty = all
  std::vector<std::string> sources = {};  ///< patterns over `source`; empty = all
  std::vector<std::string> keys = {};     ///< exact order keys (`partitionkey`, else `subject`); empty = all
  std::optional<Timestamp> since = {};    ///< stored at or after
  std::optional<Timestamp> until = {};    ///< stored before
  std::uint64_t limit = 0;                ///< most events; 0 = no limit
  void validate() const;                  ///< \throws Error{invalid_argument} naming field and value
  bool operator==(const ReplayQuery&) const = default;
};

/// Gets each event as it was stored, or upcast when the options hold a registry, with `replayid` set, in the order of
/// positions, one at a time, on the caller's thread. An erased event comes as it is (no data, `erasedtime`). Throwing
/// is how it says that it failed.
using ReplayHandler = std::function<void(const StoredEvent&)>;

/// Copies with the id `<replayid>:<id>`, as written, never upcast. Repeating one stores nothing, so a resumed replay
/// leaves no copy twice. Erased events are skipped and counted. May be the stream that is read: the copies stand behind
/// the end at which the replay stops.
struct IntoStream {
  StreamName stream;
  bool operator==(const IntoStream&) const = default;
};

/// Opens the events once more in this group and in no other; it must be a group of the stream that is read. At most
/// `ReplayOptions::window` are open at once: while the group is paused or slow, the replay waits and says so.
struct ToGroup {
  GroupName group;
  bool operator==(const ToGroup&) const = default;
};

using ReplayTarget = std::variant<ReplayHandler, IntoStream, ToGroup>;

/// How fast: `factor` 0 = as fast as possible, 1 = at the distances at which the events were stored, 2 = twice as fast.
struct ReplayPace {
  double factor = 0;

  static ReplayPace fast() { return {0}; }
  static ReplayPace original(double times = 1) { return {times}; }
  /// "fast", "original" or a factor from 0.001 to 1000000. \throws Error{invalid_argument}
  static ReplayPace parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  bool operator==(const ReplayPace&) const = default;
};

/// What happens after an event that the target did not take.
enum class ReplayOnError {
  stop,   ///< the replay ends before it; resuming tries it again
  count,  ///< it is counted, and the replay goes on
};
std::string_view to_string(ReplayOnError on_error) noexcept;

enum class ReplayState {
  running,      ///< or its process died: nobody can tell from here
  interrupted,  ///< told to stop
  failed,       ///< ended by an error
  finished,
};
std::string_view to_string(ReplayState state) noexcept;

/// What came of a replay, over all its runs.
struct ReplayReport {
  std::string replayid = {};
  ReplayState state = ReplayState::running;
  std::uint64_t read = 0;       ///< events that were asked for and tried; the sum of the four below
  std::uint64_t delivered = 0;  ///< the handler returned, the copy is stored, the group opened it
  std::uint64_t failed = 0;     ///< the handler threw, or the stream refused the copy
  std::uint64_t erased = 0;     ///< left out, because a copy would have no data (only into a stream)
  std::uint64_t passed = 0;     ///< not opened, because the group has it ahead or open, does not take its type, or the
                                ///< log lost it (only to a group)
  Position next = {};           ///< everything asked for up to here is through
  Position end = {};            ///< where it ends; Position{} when there was nothing
  /// Set when events the replay still had to read were trimmed: the oldest that was left.
  std::optional<Position> gap = {};
  std::string first_error = {};  ///< "position 42: …"; empty = there was none
  [[nodiscard]] bool finished() const { return state == ReplayState::finished; }
  bool operator==(const ReplayReport&) const = default;
};

/// What a replay tells while it runs.
struct ReplayProgress {
  const ReplayReport& report;
  std::optional<Timestamp> at = {};  ///< when the last event it looked at was stored
  std::string waiting = {};          ///< why nothing moves: "group mail is paused, 1000 open"; empty = it moves
};

struct ReplayOptions {
  std::string replayid = {};  ///< as a group's name; empty = a new one
  ReplayOnError on_error = ReplayOnError::stop;
  ReplayPace pace = {};
  std::size_t window = 1'000;  ///< most events open in a group at once, 1 … 10'000
  /// Called on the replaying thread, after each batch and about five times a second while waiting.
  std::function<void(const ReplayProgress&)> progress = {};
  std::stop_token stop = {};                           ///< ends it soon and cleanly; it can be resumed
  std::shared_ptr<const SchemaRegistry> schemas = {};  ///< for a handler: events are brought up to date; a failing
                                                       ///< upcast is a failed event
  void validate() const;                               ///< \throws Error{invalid_argument} naming field and value
};

/// What is recorded of a replay: enough to go on with it.
struct ReplayRecord {
  enum class Target { handler, stream, group };

  ReplayQuery query = {};
  Target target = Target::handler;
  std::string target_name = {};  ///< the stream's or the group's
  ReplayOnError on_error = ReplayOnError::stop;
  ReplayPace pace = {};
  ReplayReport report = {};
  std::optional<Position> open_from = {};  ///< to a group: the oldest it was handed and may still have open
  std::uint64_t version = 0;               ///< of the record; 0 = not recorded yet
  bool operator==(const ReplayRecord&) const = default;
};

/// The records of a store, under `millrace/replay/<id>`. A finished one expires after 7 days, another one is kept until
/// it is forgotten. Functions of KeyValue, so that they work on any store.
std::vector<ReplayRecord> replay_records(KeyValue& kv);
/// \throws Error{not_found}
ReplayRecord replay_record(KeyValue& kv, std::string_view replayid);
/// Forgetting one that runs ends it with Error{busy}. \throws Error{not_found}
void forget_replay(KeyValue& kv, std::string_view replayid);

}  // namespace millrace
