// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a replay gives its events to.

#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "replay/ports.hpp"

namespace millrace::replay {

/// What became of one event.
struct Verdict {
  enum class Kind { delivered, failed, erased, passed };
  Kind kind = Kind::delivered;
  std::string error = {};  ///< of failed
};

class Target {
 public:
  virtual ~Target() = default;

  /// The most events of one `give`.
  [[nodiscard]] virtual std::size_t batch() const = 0;
  /// How many it takes now; 0 = wait.
  virtual std::size_t room() { return batch(); }
  /// Why there is no room, after `room` answered 0.
  virtual std::string waiting() { return {}; }
  /// One verdict for each event. What is wrong with an event is a verdict; what it throws is wrong with the world.
  virtual std::vector<Verdict> give(std::span<const StoredEvent> events) = 0;
  /// True: a crash after `give` and before the record would deliver twice, so that each is recorded at once.
  [[nodiscard]] virtual bool record_each() const { return false; }
  /// The oldest event given that may still be open.
  [[nodiscard]] virtual std::optional<Position> open_from() const { return std::nullopt; }
};

/// The target of a record. \throws Error{invalid_argument}: a group of another stream
std::unique_ptr<Target> make_target(Ports& ports, const ReplayRecord& record, const ReplayTarget& target,
                                    const std::shared_ptr<const SchemaRegistry>& schemas, std::size_t window);

/// The event as `replayid` delivers it into a stream.
Event copy_of(const Event& event, std::string_view replayid);
bool is_erased(const Event& event);

}  // namespace millrace::replay
