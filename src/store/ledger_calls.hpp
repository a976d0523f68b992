// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the calls of every Ledger have in common, whatever keeps its rows: who is refused, how an event counts, and
/// what a group and its events look like from outside. A store brings the group's state (`ledger::GroupState`) and what
/// only its rows know. All functions are pure, and position numbers are the core's own (`ledger::Ordinal`).

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/ledger.hpp"
#include "millrace/pattern.hpp"
#include "store/common.hpp"
#include "store/ledger/group_state.hpp"
#include "store/ledger/history.hpp"

namespace millrace::store {

using ledger::Ordinal;

// ---- Events, as the core counts them ----

ledger::GroupState::OpenEvent open_event(const OrderRule& order, const Event& event);
ledger::Candidate candidate(Ordinal ordinal, const OrderRule& order, const Event& event, Timestamp now);

// ---- Groups ----

/// A group that is not live any more is to be deleted.
bool is_live(const GroupSettings& settings, Timestamp last_seen, Timestamp now);

/// Everything up to here is settled.
Ordinal settled_to(const ledger::GroupState& state);

/// The cursor of a group that starts there. A position that no event has yet means "from now on".
struct StreamEnds {
  Ordinal trimmed_to = 0, last = 0;
  std::function<Ordinal(Position)> at;            ///< \throws Error{invalid_argument}: not a position of this store
  std::function<Ordinal(Timestamp)> last_before;  ///< the last event stored before that
};
Ordinal start_cursor(const Start& start, const StreamEnds& stream);

/// Everything that can refuse a change, before anything is changed. \param skip `change.skip`, counted
/// \throws Error{not_found}: there is nothing open to skip; {busy}: no other order while events are unsettled
void check_change(const GroupName& group, const GroupChange& change, std::optional<Ordinal> skip,
                  const GroupIdentity& recorded, const ledger::GroupState& state);

/// A group as others see it; `name` to `last_seen` as recorded.
struct GroupFacts {
  const GroupName& name;
  const GroupIdentity& identity;
  const ledger::GroupState& state;
  bool paused = false;
  Timestamp created_at = {}, last_seen = {};
  Position cursor = {};
  std::uint64_t ahead = 0;               ///< events after the cursor
  std::uint64_t dead = 0;                ///< dead letters, without those that are open again
  std::optional<Timestamp> oldest = {};  ///< when the oldest unsettled event was stored
  std::set<std::string> consumers = {};  ///< of sessions that have claimed from it; who holds something is added
  Timestamp now = {};
};
GroupInfo describe_group(const GroupFacts& facts);

// ---- Claims and answers ----

/// A claim names a session that is not there any more.
Error session_ended(const GroupName& group);

/// An event to hand out that was not just read from the log: nothing when it must not be delivered any more (it is
/// lost, or its `expirytime` has passed), which `state` settles here. Else with the id of the replay it is part of.
std::optional<Event> deliverable(ledger::GroupState& state, Ordinal ordinal, std::optional<Event> event, Timestamp now);

Delivery delivery(std::uint64_t claim, const ledger::GroupState::HandOut::Given& given, Position position,
                  Timestamp lease_until, Event event);

/// A lease as the core counts: nullopt when its position cannot be of this store.
using CountLease = std::function<std::optional<Lease>(const Lease&)>;
/// For positions that are the core's own.
std::optional<Lease> same_lease(const Lease& lease);

/// Indexes of the stale ones, ascending.
std::vector<std::size_t> settle_all(ledger::GroupState& state, std::span<const Settlement> settlements,
                                    const CountLease& counted, Timestamp now, const ledger::SessionEnd& session_end);
std::vector<std::size_t> extend_all(ledger::GroupState& state, std::span<const Lease> leases, Milliseconds by,
                                    const CountLease& counted, Timestamp now, const ledger::SessionEnd& session_end);

// ---- One event of a group ----

/// An open event; id, source, type and subject are left to who has the event.
PendingEvent describe_pending(const ledger::GroupState& state, Ordinal ordinal, const ledger::Item& item,
                              Position position, const ledger::SessionEnd& session_end);

/// What a store found of one event.
struct EventFacts {
  Ordinal ordinal = 0;
  Ordinal cursor = 0;            ///< the group's, or the stream's horizon if that is further on
  const Event* event = nullptr;  ///< from the log or the dead letters; null when it is gone
  const PatternList& types;      ///< the group's filter
  struct Death {
    std::string reason;
    Timestamp at;
  };
  std::optional<Death> dead = {};  ///< it lies in the dead letters

  // Asked for when it comes to that.
  std::function<PendingEvent(const ledger::Item&)> pending;
  std::function<Position(Ordinal)> position;
  std::function<std::uint64_t()> behind;  ///< events between the cursor and it
  std::function<ledger::SettledBy()> settled_by;
};
Whereabouts tell_where(const GroupIdentity& identity, const ledger::GroupState& state, const EventFacts& facts,
                       Timestamp now);

/// Why an event is not opened once more; nullopt when it can be. \param event of the log; null when it is gone
std::optional<ReplayStatus> replay_refusal(const ledger::GroupState& state, Ordinal ordinal, const Event* event,
                                           const PatternList& types);

// ---- Dead letters ----

/// Which of them a query asks for, `after` and `limit` apart.
class DeadLetterFilter {
 public:
  /// \param at counts a position, or throws Error{invalid_argument}. `query` must outlive this.
  DeadLetterFilter(const DeadLetterQuery& query, const std::function<Ordinal(Position)>& at);
  [[nodiscard]] bool names(Ordinal ordinal) const { return positions_.empty() || positions_.contains(ordinal); }
  [[nodiscard]] bool matches(std::string_view type, Timestamp died_at, std::string_view reason) const;

 private:
  const DeadLetterQuery& query_;
  PatternList types_;
  std::set<Ordinal> positions_;
};

/// What is left of a dead letter whose event was gone before it could be copied.
Event lost_event(Position position);

}  // namespace millrace::store
