// SPDX-License-Identifier: Apache-2.0
#include "store/ledger/history.hpp"

#include <algorithm>

namespace millrace::ledger {

void add_open_claims(SettledBy& found, const GroupState& state, Ordinal ordinal, Timestamp now) {
  for (const auto& [id, claim] : state.claims()) {
    const bool again = claim.again.contains(ordinal);
    if (!again && !claim.settles_as_fresh(ordinal)) continue;
    std::optional<HistoryRow>& newest = again ? found.exact : found.taken;
    if (!newest || newest->id < id) newest = HistoryRow{id, {}, claim.consumer, claim.claimed_at, now};
  }
}

void tell_settled(Whereabouts& where, Ordinal ordinal, const SettledBy& found) {
  // Numbers are given in the order of the hand-outs, whenever their rows were written: the greatest was the last. A
  // range that met the event while an older claim held it (redriven, before a seek back) did not settle it; that claim
  // did.
  const bool apart = found.taken && found.taken->apart.contains(ordinal);
  const bool newest = found.exact && (!found.taken || found.exact->id > found.taken->id);
  const bool exactly = found.exact && (newest || apart);
  const HistoryRow* row = exactly ? &*found.exact : found.taken ? &*found.taken : nullptr;
  if (!row) {
    if (found.unrecorded_to != Timestamp{}) where.settled_before = found.unrecorded_to;
    return;
  }
  const bool in_claim = !row->consumer.empty() && (exactly || (!apart && row->claimed_at > found.types_changed));
  const bool last = newest || (in_claim && !exactly);
  where.settled_before = last ? row->settled_at : std::max(row->settled_at, found.unrecorded_to);
  if (!in_claim) return;
  where.settled_after = row->claimed_at;
  where.claim = row->id;
  where.consumer = row->consumer;
}

}  // namespace millrace::ledger
