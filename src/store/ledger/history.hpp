// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Who settled an event: what the rows of a store's history say of it. Why they are as they are:
/// docs/adr/0006-history-of-settled-events.md.

#include <optional>
#include <string>

#include "millrace/ledger.hpp"
#include "store/ledger/group_state.hpp"

namespace millrace::ledger {

/// One row: what `Changes::Settled` told, with the claim's number (or, of what was settled without one, a number from
/// the same counter, and no consumer) and when it was written.
struct HistoryRow {
  std::uint64_t id = 0;
  RangeSet apart = {};  ///< as told
  std::string consumer = {};
  Timestamp claimed_at = {};
  Timestamp settled_at = {};
};

/// What a store found of one settled event.
struct SettledBy {
  std::optional<HistoryRow> exact = {};  ///< the newest row of what was handed out again with it
  std::optional<HistoryRow> taken = {};  ///< the newest row whose range covers it
  Timestamp types_changed = {};          ///< ranges from before hold events by another filter
  Timestamp unrecorded_to = {};          ///< up to here events may have been settled without a row; 0 = unknown
};

/// A claim that is not through has no row yet, but is known.
void add_open_claims(SettledBy& found, const GroupState& state, Ordinal ordinal, Timestamp now);

/// Fills in what is known and nothing else.
void tell_settled(Whereabouts& where, Ordinal ordinal, const SettledBy& found);

}  // namespace millrace::ledger
