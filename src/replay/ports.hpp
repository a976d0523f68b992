// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a replay needs of the world: a stream to read, a target, a place for its record, a clock. A library hands in a
/// store, the command line a daemon, a test a script.

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/ledger.hpp"
#include "millrace/replay.hpp"
#include "replay/pace.hpp"

namespace millrace::replay {

/// Not thread-safe. What it throws ends the replay.
class Ports {
 public:
  virtual ~Ports() = default;

  /// The newest position of a stream. \throws Error{unknown_stream}
  virtual Position end_of(const StreamName& stream) = 0;
  /// Events as they were stored.
  virtual Page read(const StreamName& stream, const ReadQuery& query) = 0;

  virtual std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> copies) = 0;

  struct GroupNow {
    StreamName stream;
    bool paused = false;
    bool consumers = false;  ///< somebody holds a claim or a session
  };
  virtual GroupNow group(const GroupName& group) = 0;
  virtual std::vector<ReplayStatus> hand_in(const GroupName& group, std::string_view replayid,
                                            std::span<const Position> positions) = 0;
  /// What `hand_in` would answer now.
  virtual std::vector<ReplayStatus> would_hand_in(const GroupName& group, std::span<const Position> positions) = 0;
  /// Positions after `after`, up to `last`, that are open in the group.
  virtual std::vector<Position> open_between(const GroupName& group, Position after, Position last) = 0;

  /// As save_record. A handler's effects must be out (flushed) when this is called.
  virtual std::uint64_t save(const ReplayRecord& record) = 0;

  virtual SteadyTime now() = 0;
  /// Waits so long, or until the replay is told to stop.
  virtual void wait(std::chrono::milliseconds time) = 0;
  virtual bool stop_requested() = 0;
};

}  // namespace millrace::replay
