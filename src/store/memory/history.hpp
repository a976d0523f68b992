// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "store/ledger/history.hpp"

namespace millrace::store::memory {

using ledger::Ordinal;

/// Who settled what in one group. Not thread-safe.
class History {
 public:
  /// \param id of its claim, or a new number of the same counter.
  void add(const ledger::Changes::Settled& settled, std::uint64_t id, Timestamp now);
  /// Forgets what is older, a bounded number of rows at a time, and what is too much to keep in memory.
  void prune(Timestamp older_than);
  /// Up to here rows were forgotten.
  [[nodiscard]] Timestamp forgotten_to() const { return forgotten_to_; }
  [[nodiscard]] std::optional<ledger::HistoryRow> exact(Ordinal ordinal) const;
  [[nodiscard]] std::optional<ledger::HistoryRow> taken(Ordinal ordinal) const;

 private:
  struct Range {
    Ordinal last;
    ledger::HistoryRow row;
  };
  struct Written {
    Timestamp at;
    bool fresh;
    std::uint64_t pass;
    Ordinal first;
    std::uint64_t id;
  };
  std::map<std::pair<Ordinal, std::uint64_t>, ledger::HistoryRow> exact_;    ///< by first event and number
  std::map<std::uint64_t, std::map<Ordinal, Range>, std::greater<>> taken_;  ///< by pass, newest first
  std::deque<Written> written_;                                              ///< oldest first
  Timestamp forgotten_to_{};
};

}  // namespace millrace::store::memory
