// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "replay/ports.hpp"

namespace millrace::replay {

/// The pages of a replay: from a position to its end, no event behind it, no more than asked for.
class Reader {
 public:
  Reader(Ports& ports, const ReplayQuery& query, Position next, Position end);

  [[nodiscard]] bool done() const { return next_ >= end_; }
  [[nodiscard]] Position next() const { return next_; }
  /// The next page, at most `most` events; maybe none though it is not done. Moves `next` behind it.
  std::vector<StoredEvent> page(std::uint64_t most);
  /// Set when events that should have been read were trimmed: the oldest that was left.
  [[nodiscard]] const std::optional<Position>& gap() const { return gap_; }

 private:
  Ports& ports_;
  const StreamName stream_;
  ReadQuery read_;
  Position next_, end_;
  std::optional<Position> gap_;
};

/// Where a replay of this query ends: as far as asked, but no farther than the stream is now.
Position end_of(Ports& ports, const ReplayQuery& query);

}  // namespace millrace::replay
