// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The ledger of a store: consumer groups, and what has become of every event in each of them.
///
/// How an event goes through a group:
///
///     waiting ──claim──▶ claimed ──ack──▶ settled
///        ▲                  ├── retry ──▶ waiting until due, failures + 1 (or dead, by the retry policy)
///        │                  ├── release ▶ waiting, uncharged
///        └──redrive── dead ◀┼── reject
///                           └── lease ran out: every event of the claim becomes *suspect* and is handed out alone,
///                               one per claim, to a consumer that holds nothing else. A claim over one event, held by
///                               a consumer that held nothing else, charges that event a crash; any other charges
///                               nobody.
///
/// Order: with an order rule other than `none`, an event is handed out only when no earlier event of its key is
/// claimed, waiting or parked in the group, whichever process asks. A claim may hold several events of one key, in
/// position order; settling a later one in an earlier call than an earlier one of the same claim is stale.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "millrace/event.hpp"
#include "millrace/retry.hpp"
#include "millrace/types.hpp"

namespace millrace {

/// Where a new group begins.
struct Start {
  enum class Kind { beginning, end, position, time };
  Kind kind = Kind::end;
  Position position = {};  ///< of Kind::position: the first event handed out is the one after it
  Timestamp time = {};     ///< of Kind::time: stored at or after

  static Start beginning() { return {Kind::beginning, {}, {}}; }
  static Start end() { return {}; }
  static Start after(Position p) { return {Kind::position, p, {}}; }
  static Start at(Timestamp t) { return {Kind::time, {}, t}; }

  /// "beginning", "end", a position, or an RFC 3339 time. \throws Error{invalid_argument}
  static Start parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  bool operator==(const Start&) const = default;
};

/// What keeps events in order within a group.
struct OrderRule {
  enum class Kind {
    by_key,        ///< `partitionkey`, else `subject`; an event with neither has no key and no order (the default)
    by_attribute,  ///< the named attribute; absent = no order
    none,
  };
  Kind kind = Kind::by_key;
  std::string attribute = {};

  /// "key", "none" or "attribute:<name>". \throws Error{invalid_argument}
  static OrderRule parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  /// The event's key under this rule; nullopt = unordered.
  [[nodiscard]] std::optional<std::string> key_of(const Event& event) const;
  bool operator==(const OrderRule&) const = default;
};

/// What may change during a group's life.
struct GroupSettings {
  RetryPolicy retry = {};
  std::uint64_t max_parked = 10'000;  ///< events waiting behind busy keys before claiming stops
  /// Unseen for so long = no longer live, may be removed; absent = never.
  std::optional<std::chrono::seconds> expires = {};
  /// The newest schema version its handlers know: events are upcast no further. Absent = the newest registered one.
  std::optional<std::int32_t> max_dataversion = {};
  void validate() const;
  bool operator==(const GroupSettings&) const = default;
};

/// Identity of a group, or the part of it a caller names. Recorded at creation, changed only by `alter_group`.
struct GroupSpec {
  std::optional<StreamName> stream = {};               ///< required to create
  std::optional<Start> start = {};                     ///< required to create
  std::optional<std::vector<std::string>> types = {};  ///< patterns; absent at creation = all
  std::optional<OrderRule> order = {};                 ///< absent at creation = by_key
  std::optional<GroupSettings> settings = {};          ///< absent at creation = defaults; given later = replaces
};

struct Lag {
  std::uint64_t ahead = 0;      ///< after the cursor, before the filter
  std::uint64_t in_flight = 0;  ///< claimed
  std::uint64_t waiting = 0;    ///< given back, waiting for a retry, suspect or parked behind a busy key
  double oldest_seconds = 0;    ///< since the oldest unsettled event was stored; 0 when there is none
};

struct GroupInfo {
  GroupName name;
  StreamName stream;
  std::vector<std::string> types = {};
  Start start = {};  ///< as given at creation
  OrderRule order = {};
  GroupSettings settings = {};
  bool paused = false;
  Timestamp created_at = {};
  Timestamp last_seen = {};  ///< a claim, settle or session of it
  Position cursor = {};      ///< everything up to here has been handed out, filtered out or set aside
  Lag lag = {};
  std::uint64_t parked = 0;     ///< part of lag.waiting: behind busy keys
  std::uint64_t suspects = 0;   ///< part of lag.waiting
  std::uint64_t dead = 0;       ///< dead letters now
  std::uint64_t processed = 0;  ///< acks ever
  std::uint64_t failures = 0;   ///< retries ever charged
  std::uint64_t crashes = 0;    ///< crashes ever charged
  std::uint64_t rejected = 0;   ///< ever moved to the dead letters
  std::uint64_t expired = 0;    ///< settled because `expirytime` had passed
  std::uint64_t skipped = 0;    ///< settled by `skip` or passed over by `seek`
  std::string stalled = {};     ///< why nothing is handed out though events wait ("max_parked …"); empty = it is not
  std::vector<std::string> consumers = {};  ///< that hold a claim or session now
};

/// Names one hand-out of one event: `"<claim>-<position>"`. A token from an earlier hand-out is *stale* for ever.
struct Lease {
  std::uint64_t claim = 0;  ///< unique in the store's life
  Position position = {};

  [[nodiscard]] std::string to_string() const;
  /// \throws Error{invalid_argument}
  static Lease parse(std::string_view text);
  bool operator==(const Lease&) const = default;
};

struct Delivery {
  Lease lease = {};
  Position position = {};
  std::uint32_t attempt = 1;  ///< 1 + earlier hand-outs that were neither released nor settled
  std::uint32_t failures = 0;
  std::uint32_t crashes = 0;
  Timestamp lease_until = {};  ///< on the store's clock, when handed out
  Event event = {};
};

/// A consumer's presence. Its claims live as long as it is renewed.
using SessionId = std::uint64_t;

struct ClaimRequest {
  std::string consumer = {};        ///< who asks; shown by `pending`; not empty, at most 256 bytes
  std::size_t max = 100;            ///< most deliveries
  std::size_t max_bytes = 8 << 20;  ///< most event data (at least one event)
  /// What keeps the claim: a session, or a lease of its own.
  std::variant<SessionId, Milliseconds> hold = Milliseconds{30'000};
};

struct ClaimAnswer {
  std::vector<Delivery> deliveries = {};
  /// When empty: nothing can become claimable before this much time has passed, unless a watch says so.
  std::optional<Milliseconds> next_due = {};
  std::optional<std::int32_t> max_dataversion = {};  ///< of the group's settings; whoever hands them on upcasts so far
};

struct Settlement {
  Lease lease = {};
  Outcome outcome = {};
};

/// Events of a group that are not settled.
struct PendingEvent {
  enum class State { claimed, waiting, parked, suspect };
  Position position = {};
  std::string id = {}, source = {}, type = {}, subject = {};
  State state = State::claimed;
  std::string consumer = {};                  ///< of claimed
  std::optional<Lease> lease = {};            ///< of claimed
  std::optional<Timestamp> lease_until = {};  ///< of claimed
  std::optional<Timestamp> next_try = {};     ///< of waiting after a failure; absent: whenever somebody claims
  std::uint32_t attempt = 0;                  ///< hand-outs so far that were not released
  std::uint32_t failures = 0;
  std::uint32_t crashes = 0;
  std::string last_error = {};
};
std::string_view to_string(PendingEvent::State state) noexcept;

struct DeadLetter {
  Position position = {};
  Event event = {};  ///< a copy: it outlives trimming
  Timestamp stored_at = {};
  Timestamp died_at = {};
  std::string reason =
      {};  ///< why it died: "rejected: …", "gave up after 5 attempts: …", "crashed its consumer 3 times"
  std::uint32_t attempts = 0;
  std::uint32_t failures = 0;
  std::uint32_t crashes = 0;
};

/// All a group knows of one event.
struct Whereabouts {
  enum class State {
    filtered_out,  ///< its type is not one of the group's; computed from the filter as it is now, recorded nowhere
    ahead,         ///< the cursor has not reached it
    open,          ///< `pending` says more
    settled,
    dead,
  };
  State state = State::ahead;
  std::uint64_t behind = 0;                    ///< of ahead: positions between the cursor and it
  std::optional<PendingEvent> pending = {};    ///< of open
  std::optional<std::string> key = {};         ///< its order key in this group
  std::optional<Position> parked_behind = {};  ///< of parked: the event of its key that goes first
  /// Of settled: it was handed out last in this claim, to this consumer, at `settled_after`, and the claim was through
  /// at `settled_before`. Of an event settled longer ago than the store's `history`, or passed over by a start, seek or
  /// skip, only `settled_before` is known, and absent when not even that is.
  std::optional<Timestamp> settled_after = {};
  std::optional<Timestamp> settled_before = {};
  std::optional<std::uint64_t> claim = {};
  std::string consumer = {};
  std::string reason = {};                ///< of dead
  std::optional<Timestamp> died_at = {};  ///< of dead
};
std::string_view to_string(Whereabouts::State state) noexcept;

/// What became of one position of a replay into a group.
enum class ReplayStatus {
  accepted,      ///< will be delivered again, its `replayid` set
  open,          ///< is open in the group: it is delivered anyway
  ahead,         ///< the cursor has not reached it: it is delivered anyway
  filtered_out,  ///< its type is not one of the group's
  gone,          ///< the log does not have it
};
std::string_view to_string(ReplayStatus status) noexcept;

/// Which dead letters.
struct DeadLetterQuery {
  Position after = {};
  std::size_t limit = 100;               ///< of a listing; redrive and purge take all that match
  std::vector<Position> positions = {};  ///< empty = any
  std::vector<std::string> types = {};   ///< patterns; empty = any
  std::optional<std::string> reason_contains = {};
  std::optional<Timestamp> since = {};  ///< died at or after
  std::optional<Timestamp> until = {};  ///< died before
  bool dry_run = false;                 ///< of redrive and purge: count, change nothing
};

/// A purposeful change of a group.
struct GroupChange {
  std::optional<bool> paused = {};    ///< claims answer nothing while paused; settling goes on
  std::optional<Start> seek = {};     ///< cursor there; every lease is stale, everything unsettled is forgotten
                                      ///< except redriven events: somebody asked for those by name, they stay open
  std::optional<Position> skip = {};  ///< settles this one unsettled event, counted as skipped; its lease is stale
  std::optional<GroupSettings> settings = {};
  std::optional<std::vector<std::string>> types = {};
  std::optional<OrderRule> order = {};  ///< only while nothing is unsettled: else Error{busy}
};

/// Thread-safe. All calls block until done and throw `Error`.
class Ledger {
 public:
  virtual ~Ledger() = default;

  /// Creates the group, or checks what the caller names against what is recorded.
  /// \throws Error{group_mismatch}, object = the field; {unknown_stream}; {unknown_group} when it is not there and
  /// `spec` names no stream or start to create it with.
  virtual GroupInfo ensure_group(const GroupName& group, const GroupSpec& spec) = 0;
  virtual std::vector<GroupInfo> groups() = 0;
  virtual GroupInfo group(const GroupName& group) = 0;  ///< \throws Error{unknown_group}
  virtual GroupInfo alter_group(const GroupName& group, const GroupChange& change) = 0;
  virtual void delete_group(const GroupName& group) = 0;

  /// A presence over all groups. It ends by close_session, or `lease` after its last renewal; a closed session's claims
  /// are released uncharged, an expired one's are crashes.
  virtual SessionId open_session(const std::string& consumer, Milliseconds lease) = 0;
  /// False when it had already expired: its claims are gone; open a new one.
  virtual bool renew_session(SessionId session) = 0;
  virtual void close_session(SessionId session) = 0;

  /// Hands out events, never blocking for new ones. First retries, suspects and unparked events, then new ones.
  /// \throws Error{unknown_group | timed_out (session expired)}
  virtual ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) = 0;

  /// Settles each lease, durably. One call is one step: the settlements are taken in the order of their positions,
  /// however they are listed, so that several events of a key can be settled in one call. Returns the indexes,
  /// ascending and as listed, that were stale (not held any more, or out of order): for those nothing was changed.
  virtual std::vector<std::size_t> settle(const GroupName& group, std::span<const Settlement> settlements) = 0;

  /// Moves the end of claims with a lease of their own to now + `lease`. One lease extends its whole claim.
  /// Returns the indexes that were stale.
  virtual std::vector<std::size_t> extend(const GroupName& group, std::span<const Lease> leases,
                                          Milliseconds lease) = 0;

  virtual std::vector<PendingEvent> pending(const GroupName& group, Position after, std::size_t limit) = 0;

  virtual std::vector<DeadLetter> dead_letters(const GroupName& group, const DeadLetterQuery& query) = 0;
  /// Hands them to their own group again with fresh counters. Two at once deliver once. Returns how many. One whose
  /// `expirytime` has passed is settled as expired when its turn comes.
  virtual std::uint64_t redrive(const GroupName& group, const DeadLetterQuery& query) = 0;
  virtual std::uint64_t purge(const GroupName& group, const DeadLetterQuery& query) = 0;

  /// Opens settled (or dead) events in this group once more, with fresh counters; their deliveries carry `replayid`.
  /// Each is an open event with a row of its own: hand in some thousands, wait until they are through, go on.
  /// The answers are in the order of `positions`. \throws Error{unknown_group | invalid_argument (replay id)}
  virtual std::vector<ReplayStatus> replay(const GroupName& group, std::string_view replayid,
                                           std::span<const Position> positions) = 0;

  /// Where the event at `position` is in this group. Costs the same however long the log is.
  /// \throws Error{unknown_group}; {not_found} when the log never had such a position
  virtual Whereabouts where(const GroupName& group, Position position) = 0;
};

}  // namespace millrace
