// SPDX-License-Identifier: Apache-2.0
#include "store/ledger_calls.hpp"

#include <algorithm>
#include <utility>

#include "base/random.hpp"
#include "millrace/error.hpp"
#include "millrace/replay.hpp"

namespace millrace::store {

using ledger::GroupState;

GroupState::OpenEvent open_event(const OrderRule& order, const Event& event) {
  return {ledger::hash_key(order.key_of(event)), event_bytes(event)};
}

ledger::Candidate candidate(Ordinal ordinal, const OrderRule& order, const Event& event, Timestamp now) {
  const auto expiry = expires_at(event);
  const auto [key, bytes] = open_event(order, event);
  return {ordinal, key, bytes, expiry && *expiry <= now};
}

// ---- Groups ----

bool is_live(const GroupSettings& settings, Timestamp last_seen, Timestamp now) {
  return !settings.expires || last_seen + *settings.expires > now;
}

Ordinal settled_to(const GroupState& state) {
  const Ordinal open = state.oldest_open();
  const Ordinal cursor = state.progress().cursor;
  return open == 0 ? cursor : std::min(cursor, open - 1);
}

Ordinal start_cursor(const Start& start, const StreamEnds& stream) {
  Ordinal cursor = 0;
  switch (start.kind) {
    case Start::Kind::beginning:
      break;
    case Start::Kind::end:
      cursor = stream.last;
      break;
    case Start::Kind::position:
      cursor = stream.at(start.position);
      break;
    case Start::Kind::time:
      cursor = stream.last_before(start.time);
      break;
  }
  return std::clamp(cursor, stream.trimmed_to, stream.last);
}

void check_change(const GroupName& group, const GroupChange& change, std::optional<Ordinal> skip,
                  const GroupIdentity& recorded, const GroupState& state) {
  if (skip && !state.item(*skip)) {
    throw Error(Errc::not_found, "skip", change.skip->to_string(),
                "group " + group.str() + " has no unsettled event at this position");
  }
  if (change.order && *change.order != recorded.order && !state.items().empty()) {
    throw Error(Errc::busy, "alter group", group.str(),
                std::to_string(state.items().size()) +
                    " events are unsettled; pause the group and let them be settled before changing its order");
  }
}

GroupInfo describe_group(const GroupFacts& facts) {
  const GroupState& state = facts.state;
  const ledger::Counters& counters = state.progress().counters;
  GroupInfo info{.name = facts.name,
                 .stream = facts.identity.stream,
                 .types = facts.identity.types,
                 .start = facts.identity.start,
                 .order = facts.identity.order,
                 .settings = facts.identity.settings,
                 .paused = facts.paused,
                 .created_at = facts.created_at,
                 .last_seen = facts.last_seen,
                 .cursor = facts.cursor,
                 .lag = {facts.ahead, state.in_flight(), state.waiting(), 0},
                 .parked = state.parked(),
                 .suspects = state.suspects(),
                 .dead = facts.dead,
                 .processed = counters.processed,
                 .failures = counters.failures,
                 .crashes = counters.crashes,
                 .rejected = counters.rejected,
                 .expired = counters.expired,
                 .skipped = counters.skipped,
                 .stalled = state.stalled(),
                 .consumers = {}};
  if (facts.oldest && facts.now > *facts.oldest) {
    info.lag.oldest_seconds = std::chrono::duration<double>(facts.now - *facts.oldest).count();
  }
  std::set<std::string> consumers = facts.consumers;
  for (const auto& [id, claim] : state.claims()) consumers.insert(claim.consumer);
  info.consumers.assign(consumers.begin(), consumers.end());
  return info;
}

// ---- Claims and answers ----

Error session_ended(const GroupName& group) {
  return {Errc::timed_out, "claim", group.str(), "the session has ended; open a new one"};
}

std::optional<Event> deliverable(GroupState& state, Ordinal ordinal, std::optional<Event> event, Timestamp now) {
  if (!event) {
    state.bury(ordinal, "event_lost: removed from the log before it was settled");
    return std::nullopt;
  }
  const auto end = expires_at(*event);
  if (end && *end <= now) {
    state.settle_expired(ordinal);
    return std::nullopt;
  }
  if (const ledger::Item* item = state.item(ordinal); item && !item->replayid.empty()) {
    event->set_extension(kReplayId, item->replayid);
  }
  return event;
}

Delivery delivery(std::uint64_t claim, const GroupState::HandOut::Given& given, Position position,
                  Timestamp lease_until, Event event) {
  return {.lease = {claim, position},
          .position = position,
          .attempt = given.attempt,
          .failures = given.failures,
          .crashes = given.crashes,
          .lease_until = lease_until,
          .event = std::move(event)};
}

std::optional<Lease> same_lease(const Lease& lease) {
  return lease;
}

std::vector<std::size_t> settle_all(GroupState& state, std::span<const Settlement> settlements,
                                    const CountLease& counted, Timestamp now, const ledger::SessionEnd& session_end) {
  std::vector<std::size_t> stale;
  for (const std::size_t i : settling_order(settlements)) {
    const auto lease = counted(settlements[i].lease);
    if (!lease || !state.settle(now, *lease, settlements[i].outcome, random_unit(), session_end)) stale.push_back(i);
  }
  std::sort(stale.begin(), stale.end());
  return stale;
}

std::vector<std::size_t> extend_all(GroupState& state, std::span<const Lease> leases, Milliseconds by,
                                    const CountLease& counted, Timestamp now, const ledger::SessionEnd& session_end) {
  std::vector<std::size_t> stale;
  for (std::size_t i = 0; i < leases.size(); ++i) {
    const auto lease = counted(leases[i]);
    if (!lease || !state.extend(now, *lease, by, session_end)) stale.push_back(i);
  }
  return stale;
}

// ---- One event of a group ----

PendingEvent describe_pending(const GroupState& state, Ordinal ordinal, const ledger::Item& item, Position position,
                              const ledger::SessionEnd& session_end) {
  PendingEvent event;
  event.position = position;
  event.state = state.state_of(ordinal);
  if (const ledger::Claim* claim = state.claim(item.claim)) {
    event.consumer = claim->consumer;
    event.lease = Lease{item.claim, position};
    event.lease_until = claim->session != 0 ? session_end(claim->session) : std::optional(claim->lease_until);
  }
  if (event.state == PendingEvent::State::waiting && item.due != Timestamp{}) event.next_try = item.due;
  event.attempt = item.attempts;
  event.failures = item.failures;
  event.crashes = item.crashes;
  event.last_error = item.last_error;
  return event;
}

Whereabouts tell_where(const GroupIdentity& identity, const GroupState& state, const EventFacts& facts, Timestamp now) {
  Whereabouts where;
  const Ordinal ordinal = facts.ordinal;
  if (facts.event) where.key = identity.order.key_of(*facts.event);
  if (const ledger::Item* item = state.item(ordinal)) {
    where.state = Whereabouts::State::open;
    where.pending = facts.pending(*item);
    if (const auto first = state.parked_behind(ordinal)) where.parked_behind = facts.position(*first);
  } else if (ordinal <= facts.cursor && facts.dead) {
    where.state = Whereabouts::State::dead;
    where.reason = facts.dead->reason;
    where.died_at = facts.dead->at;
  } else if (facts.event && !facts.types.matches(facts.event->type)) {
    where.state = Whereabouts::State::filtered_out;
  } else if (ordinal > facts.cursor) {
    where.state = Whereabouts::State::ahead;
    where.behind = facts.behind();
  } else {
    where.state = Whereabouts::State::settled;
    ledger::SettledBy found = facts.settled_by();
    ledger::add_open_claims(found, state, ordinal, now);
    ledger::tell_settled(where, ordinal, found);
  }
  return where;
}

std::optional<ReplayStatus> replay_refusal(const GroupState& state, Ordinal ordinal, const Event* event,
                                           const PatternList& types) {
  if (state.item(ordinal)) return ReplayStatus::open;
  if (!event) return ReplayStatus::gone;
  if (!types.matches(event->type)) return ReplayStatus::filtered_out;
  if (ordinal > state.progress().cursor) return ReplayStatus::ahead;
  return std::nullopt;
}

// ---- Dead letters ----

DeadLetterFilter::DeadLetterFilter(const DeadLetterQuery& query, const std::function<Ordinal(Position)>& at)
    : query_(query), types_(query.types) {
  for (const Position position : query.positions) positions_.insert(at(position));
}

bool DeadLetterFilter::matches(std::string_view type, Timestamp died_at, std::string_view reason) const {
  return types_.matches(type) && (!query_.since || died_at >= *query_.since) &&
         (!query_.until || died_at < *query_.until) &&
         (!query_.reason_contains || reason.find(*query_.reason_contains) != std::string_view::npos);
}

Event lost_event(Position position) {
  Event event;
  event.id = "position-" + position.to_string();
  event.source = "/millrace/lost";
  event.type = "millrace.event.lost";
  return event;
}

}  // namespace millrace::store
