// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Upkeep that comes in slices: ids of trimmed events that need not be known any more, and giving free pages back to
/// the file system. Each slice is short, so that no publisher waits long; the next one follows soon while there is
/// more.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "store/sqlite/state.hpp"

namespace millrace::store::sqlite {

/// How many free pages nobody seems to need: those that were free all through the last while, beyond a reserve. A
/// stream that is trimmed as fast as it grows uses its pages again, and giving them back would be work for nothing.
class FreePages {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kSettled{5};
  /// 16 MiB, or a tenth of the file.
  static constexpr std::int64_t kReserve = 4'096;

  /// \param free, all pages of the file as of `now`.
  std::int64_t surplus(std::int64_t free, std::int64_t all, Clock::time_point now);

 private:
  Clock::time_point since_{};    ///< of the current while
  std::int64_t least_ = 0;       ///< free pages in the current while
  std::int64_t least_then_ = 0;  ///< and in the one before it
};

/// In the writer's turn only.
class House {
 public:
  enum class Next {
    later,  ///< nothing is left to do now
    soon,   ///< there is more
    moved,  ///< pages were given back and that is all: the file ends earlier once the log is moved into it
  };
  Next keep(State& state, std::chrono::seconds dedup_keep, bool owner);

 private:
  bool forget_ids(State& state, StreamState& stream, Timestamp before);
  std::optional<std::int64_t> forget_some(State& state, StreamState& stream, Timestamp before);
  Next give_back(State& state);

  FreePages free_pages_;
  bool giving_back_ = false;
  /// Where forgetting ids goes on, by stream id. By key, because an index by age would cost every trim.
  std::unordered_map<std::int64_t, std::pair<std::string, std::string>> forgot_to_;
};

}  // namespace millrace::store::sqlite
