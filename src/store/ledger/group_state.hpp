// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The decisions of one consumer group, without clock, without I/O: what is handed out, in which order, who is charged
/// and who dies. A store feeds it events and time, and writes down what it says has changed.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "millrace/ledger.hpp"
#include "store/ledger/range_set.hpp"

namespace millrace::ledger {

/// An order key, hashed; 0 = no key. Two keys that collide are merely kept in order with each other.
using KeyHash = std::uint64_t;
KeyHash hash_key(const std::optional<std::string>& key);

/// One event of the log that passes the group's filter.
struct Candidate {
  Ordinal ordinal = 0;
  KeyHash key = 0;
  std::size_t bytes = 0;
  bool expired = false;  ///< its `expirytime` has passed: settle it, hand it to nobody
};

/// The log after the group's cursor, filtered. The store keeps the events it read, to hand them out.
class FreshEvents {
 public:
  virtual ~FreshEvents() = default;
  /// The next matching event; nullopt at the end of the log or of the scan budget.
  virtual std::optional<Candidate> next() = 0;
  /// The last ordinal looked at, matching or not; the cursor may move here.
  [[nodiscard]] virtual Ordinal scanned_to() const = 0;
};

/// An open event: handed out or set aside, not settled.
struct Item {
  KeyHash key = 0;
  std::uint64_t claim = 0;       ///< 0 = not claimed
  Timestamp due{};               ///< when unclaimed: not before
  bool suspect = false;          ///< its last claim's lease ran out: handed out alone
  bool redriven = false;         ///< its bytes stand in the dead letters, maybe no longer in the log
  std::uint32_t attempts = 0;    ///< hand-outs not released
  std::uint32_t handler_failures = 0;
  std::uint32_t failures = 0;
  std::uint32_t crashes = 0;
  std::optional<Timestamp> first_failure_at;
  std::string last_error;

  /// Nothing to remember beyond "claimed" or "given back": stands in a range instead of a row of its own.
  [[nodiscard]] bool plain() const {
    return failures == 0 && crashes == 0 && !redriven && last_error.empty() && due == Timestamp{};
  }
};

struct Claim {
  std::string consumer;
  SessionId session = 0;         ///< 0 = has a lease of its own
  Timestamp lease_until{};       ///< of a lease of its own
  Milliseconds lease{0};         ///< of a lease of its own
  Timestamp claimed_at{};
  bool alone = false;            ///< one event, to a consumer that held and got nothing else meanwhile
  RangeSet open;                 ///< events of it that are not settled
};

struct Counters {
  std::uint64_t processed = 0, failures = 0, crashes = 0, rejected = 0, expired = 0, skipped = 0;
  bool operator==(const Counters&) const = default;
};

/// What a store keeps of a group's progress. The rest (claims, items) has rows of its own.
struct Progress {
  Ordinal cursor = 0;
  RangeSet ready;     ///< plain, unclaimed, never handed out or released (attempts = 0)
  RangeSet suspects;  ///< plain, unclaimed, suspect (attempts = 1)
  Counters counters;
};

/// Everything at once, as loaded from or written to rows.
struct Snapshot {
  Progress progress;
  std::map<std::uint64_t, Claim> claims;
  std::map<Ordinal, Item> items;  ///< only those that are not plain; may be claimed (attempts as of this hand-out)
};

/// What changed since the last take_changes(), to be written in the same transaction.
struct Changes {
  bool progress = false;
  std::set<std::uint64_t> claims;  ///< ids: write the claim, or delete its row when claim(id) is nullptr
  std::set<Ordinal> items;         ///< write the item, or delete its row when it is gone or plain
  struct Dead {
    Ordinal ordinal;
    Item item;  ///< as it was when it died
    std::string reason;
  };
  std::vector<Dead> dead;             ///< copy the event into the dead letters (or refresh the row, when redriven)
  std::vector<Ordinal> redriven_done;  ///< redriven events that were settled: drop their hidden dead-letter row
  bool wake = false;                  ///< something became claimable that was not

  [[nodiscard]] bool empty() const { return !progress && claims.empty() && items.empty() && dead.empty() && redriven_done.empty(); }
};

/// Tells when a session ends: nullopt = it is gone (closed or unknown), a past time = expired.
using SessionEnd = std::function<std::optional<Timestamp>(SessionId)>;

class GroupState {
 public:
  explicit GroupState(GroupSettings settings) : settings_(std::move(settings)) {}

  /// \param key_of gives the order key of an open event (plain items carry none in their range).
  void load(Snapshot snapshot, const std::function<KeyHash(Ordinal)>& key_of);

  struct HandOut {
    std::uint64_t claim = 0;
    struct Given {
      Ordinal ordinal;
      std::uint32_t attempt, failures, crashes;
      bool fresh;     ///< came from `fresh` in this call (in order), else the store loads it
      bool redriven;  ///< load it from the dead letters
    };
    std::vector<Given> events;
    std::optional<Milliseconds> next_due;  ///< when empty
  };
  /// \param claim_id unique in the store's life; used only when something is handed out.
  HandOut claim(Timestamp now, std::uint64_t claim_id, const ClaimRequest& request, FreshEvents& fresh,
                const SessionEnd& session_end);

  /// True when done, false when stale.
  bool settle(Timestamp now, const Lease& lease, const Outcome& outcome, double random, const SessionEnd& session_end);
  bool extend(Timestamp now, const Lease& lease, Milliseconds by, const SessionEnd& session_end);

  /// Turns claims whose lease ran out into suspects and crashes. (claim, settle and extend do it first.)
  void expire(Timestamp now, const SessionEnd& session_end);
  /// Gives back, uncharged, what a closed session holds.
  void release_session(SessionId session);
  /// Gives every claim with a lease of its own a fresh one: the store was away, nobody could renew.
  void renew_leases(Timestamp now);

  /// Settles an open event for another reason. False when it is not open.
  bool settle_expired(Ordinal ordinal);                  ///< `expirytime` passed while it waited
  bool skip(Ordinal ordinal);
  bool bury(Ordinal ordinal, const std::string& reason);  ///< dead, though nobody failed it ("event_lost: …")
  void redrive(Ordinal ordinal, KeyHash key);             ///< a dead letter is open again, fresh counters, due at once
  /// Forgets everything open and moves the cursor. \param passed events jumped over, counted as skipped.
  void seek(Ordinal cursor, std::uint64_t passed);
  /// The log lost everything up to here by force. Open events there (but redriven ones) are skipped.
  void forget_up_to(Ordinal horizon);
  void set_settings(GroupSettings settings) { settings_ = std::move(settings); }

  [[nodiscard]] const Progress& progress() const;  ///< ranges up to date
  [[nodiscard]] const Claim* claim(std::uint64_t id) const;
  [[nodiscard]] const Item* item(Ordinal ordinal) const;
  [[nodiscard]] const std::map<Ordinal, Item>& items() const { return items_; }
  [[nodiscard]] const std::map<std::uint64_t, Claim>& claims() const { return claims_; }
  [[nodiscard]] PendingEvent::State state_of(Ordinal ordinal, Timestamp now) const;
  [[nodiscard]] std::uint64_t in_flight() const { return claimed_; }
  [[nodiscard]] std::uint64_t waiting() const { return items_.size() - claimed_; }
  [[nodiscard]] std::uint64_t parked() const { return parked_; }
  [[nodiscard]] std::uint64_t suspects() const;
  /// Oldest open event that stands in the log, or 0: trimming stops before it (and before the cursor).
  [[nodiscard]] Ordinal oldest_open() const;
  /// Why events wait though consumers ask; empty when they do not.
  [[nodiscard]] std::string stalled() const;

  Changes take_changes();

 private:
  // Written with the implementation; see group_state.cpp for the invariants.
  struct Key {
    std::vector<Ordinal> open;   ///< ascending
    std::size_t claimed = 0;
    std::uint64_t claim = 0;     ///< that holds the claimed ones
  };

  GroupSettings settings_;
  Progress progress_;
  std::map<Ordinal, Item> items_;
  std::map<std::uint64_t, Claim> claims_;
  std::unordered_map<KeyHash, Key> keys_;
  std::uint64_t claimed_ = 0;
  std::uint64_t parked_ = 0;
  Changes changes_;
};

}  // namespace millrace::ledger
