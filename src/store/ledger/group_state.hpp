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
#include <string_view>
#include <unordered_map>
#include <utility>
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
  std::uint64_t claim = 0;     ///< 0 = not claimed
  Timestamp due{};             ///< when unclaimed: not before
  bool suspect = false;        ///< its last claim's lease ran out: handed out alone
  bool redriven = false;       ///< its bytes stand in the dead letters, maybe no longer in the log
  std::uint32_t attempts = 0;  ///< hand-outs not released
  std::uint32_t handler_failures = 0;
  std::uint32_t failures = 0;
  std::uint32_t crashes = 0;
  std::size_t bytes = 0;  ///< of the event, for the byte limit of a claim
  std::optional<Timestamp> first_failure_at;
  std::string last_error;
  std::string replayid;  ///< it is open because of this replay; its deliveries say so

  /// Nothing to remember beyond "claimed" or "given back": stands in a range instead of a row of its own.
  [[nodiscard]] bool plain() const {
    return failures == 0 && crashes == 0 && !redriven && last_error.empty() && replayid.empty() && due == Timestamp{} &&
           !(claim != 0 && suspect);
  }

  /// Where an unclaimed item stands; derived, not stored.
  enum class Place { none, ready, due, suspect, parked };
  Place place = Place::none;
  bool has_row = false;  ///< the store was told to keep a row for it
};

struct Claim {
  std::string consumer;
  SessionId session = 0;    ///< 0 = has a lease of its own
  Timestamp lease_until{};  ///< of a lease of its own
  Milliseconds lease{0};    ///< of a lease of its own
  Timestamp claimed_at{};
  bool alone = false;  ///< one event, to a consumer that held and got nothing else meanwhile
  RangeSet open;       ///< events of it that are not settled

  // What becomes of it in the history (docs/adr/0006-history-of-settled-events.md).
  Ordinal fresh_first = 0, fresh_last = 0;  ///< from the first to the last event it took from the cursor; 0 = none
  RangeSet apart;                           ///< between those: what it did not take, or did not settle
  RangeSet again;                           ///< settled by it, but not taken from the cursor

  [[nodiscard]] bool settles_as_fresh(Ordinal ordinal) const {
    return fresh_first != 0 && fresh_first <= ordinal && ordinal <= fresh_last && !apart.contains(ordinal);
  }
};

struct Counters {
  std::uint64_t processed = 0, failures = 0, crashes = 0, rejected = 0, expired = 0, skipped = 0;
  bool operator==(const Counters&) const = default;
};

/// What a store keeps of a group's progress. The rest (claims, items) has rows of its own.
struct Progress {
  Ordinal cursor = 0;
  RangeSet ready;          ///< plain, unclaimed, never handed out or released (attempts = 0)
  RangeSet suspects;       ///< plain, unclaimed, suspect (attempts = 1)
  std::uint64_t pass = 0;  ///< seeks so far: within one pass the cursor goes forward only
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
  std::vector<Dead> dead;  ///< copy the event into the dead letters (or refresh the row, when redriven)
  /// For the history: what was settled, and by which claim.
  struct Settled {
    static constexpr Ordinal kBlock = 1024;  ///< what is not fresh never spans two of these
    std::uint64_t claim = 0;                 ///< 0 = nobody's: skipped or expired
    bool fresh = false;      ///< the range it took from the cursor; else `apart`, handed out again, of one block
    std::uint64_t pass = 0;  ///< of fresh
    Ordinal first = 0, last = 0;
    RangeSet apart = {};  ///< between them: of fresh, what it did not settle; else, what it did
    std::string consumer = {};
    Timestamp claimed_at = {};
  };
  std::vector<Settled> settled;
  std::vector<Ordinal> redriven_done;  ///< redriven events that were settled: drop their hidden dead-letter row
  bool wake = false;                   ///< something became claimable that was not

  [[nodiscard]] bool empty() const {
    return !progress && claims.empty() && items.empty() && dead.empty() && redriven_done.empty() && settled.empty();
  }
};

/// For the history: no claim settled these (purged from the dead letters, for one).
std::vector<Changes::Settled> settled_by_nobody(const RangeSet& ordinals);

/// Tells when a session ends: nullopt = it is gone (closed or unknown), a past time = expired.
using SessionEnd = std::function<std::optional<Timestamp>(SessionId)>;

class GroupState {
 public:
  explicit GroupState(const GroupSettings& settings) : settings_(settings) {}

  /// \param event_of gives the order key and size of an open event (ranges and rows do not carry them).
  struct OpenEvent {
    KeyHash key = 0;
    std::size_t bytes = 0;
  };
  void load(Snapshot snapshot, const std::function<OpenEvent(Ordinal, bool redriven)>& event_of);

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
  /// Gives back, uncharged, what a claim holds, if there is one.
  void release_claim(std::uint64_t claim_id);
  /// Gives every claim with a lease of its own a fresh one: the store was away, nobody could renew.
  void renew_leases(Timestamp now);

  /// Settles an open event for another reason. False when it is not open.
  bool settle_expired(Ordinal ordinal);  ///< `expirytime` passed while it waited
  bool skip(Ordinal ordinal);
  bool bury(Ordinal ordinal, const std::string& reason);  ///< dead, though nobody failed it ("event_lost: …")
  /// A dead letter is open again, with fresh counters, due at once. False when that event is open already.
  bool redrive(Ordinal ordinal, OpenEvent event);
  /// A settled event at or before the cursor is open again, with fresh counters, due at once. False when it is open
  /// already. \param dead_letter it lies there: the replay takes it out as a redrive does, so it outlives trim and
  /// seek.
  bool replay(Ordinal ordinal, OpenEvent event, std::string_view replayid, bool dead_letter);
  /// Moves the cursor and forgets everything open but redriven events; every lease is stale.
  /// \param passed events after the old cursor that were jumped over, counted as skipped.
  void seek(Ordinal cursor, std::uint64_t passed);
  /// The log lost everything up to here by force. Open events there (but redriven ones) are skipped.
  void forget_up_to(Ordinal horizon);
  void set_settings(const GroupSettings& settings) { settings_ = settings; }

  [[nodiscard]] const Progress& progress() const { return progress_; }
  [[nodiscard]] const Claim* claim(std::uint64_t id) const;
  [[nodiscard]] const Item* item(Ordinal ordinal) const;
  [[nodiscard]] const std::map<Ordinal, Item>& items() const { return items_; }
  [[nodiscard]] const std::map<std::uint64_t, Claim>& claims() const { return claims_; }
  [[nodiscard]] PendingEvent::State state_of(Ordinal ordinal) const;
  /// Of a parked event: the one of its key that goes before it.
  [[nodiscard]] std::optional<Ordinal> parked_behind(Ordinal ordinal) const;
  [[nodiscard]] std::uint64_t in_flight() const { return claimed_; }
  [[nodiscard]] std::uint64_t waiting() const { return items_.size() - claimed_; }
  [[nodiscard]] std::uint64_t parked() const { return parked_; }
  [[nodiscard]] std::uint64_t suspects() const { return suspect_count_; }  ///< not handed out
  /// Oldest open event that stands in the log, or 0: trimming stops before it (and before the cursor).
  [[nodiscard]] Ordinal oldest_open() const;
  /// Why events wait though consumers ask; empty when they do not.
  [[nodiscard]] std::string stalled() const;

  Changes take_changes();

 private:
  // Invariants
  //  - items_ holds exactly the open events; every claimed one stands in its claim's `open`.
  //  - Of a key's open events, only the first may be claimable, and only while none of them is claimed. All others that
  //    are not claimed are parked. The claimed ones belong to one claim.
  //  - An unclaimed item stands in exactly one place (ready_, due_, suspects_ or parked); a claimed one in none.
  struct Key {
    std::vector<Ordinal> open;  ///< ascending
    std::size_t claimed = 0;
    std::uint64_t claim = 0;  ///< that holds the claimed ones
  };
  using Items = std::map<Ordinal, Item>;

  static std::string holder_of(const Claim& claim);
  void add_to_key(Ordinal ordinal, KeyHash key);
  void drop_from_key(Ordinal ordinal, const Item& item);
  void refresh_head(KeyHash key);
  void place(Ordinal ordinal, Item& item);
  void unplace(Ordinal ordinal, Item& item);
  void note(Ordinal ordinal, Item& item);
  void give(Ordinal ordinal, Item& item, std::uint64_t claim_id, Claim& claim, HandOut& out, bool fresh);
  void give_parked_followers(KeyHash key, Timestamp now, std::uint64_t claim_id, Claim& claim,
                             const ClaimRequest& request, std::size_t& bytes, HandOut& out);
  void take_fresh(std::uint64_t claim_id, Claim& claim, const ClaimRequest& request, FreshEvents& fresh,
                  std::size_t bytes, HandOut& out);
  void open_claim(std::uint64_t claim_id, Claim claim);
  void unclaim(Ordinal ordinal, Item& item);
  void give_back(Ordinal ordinal, Item& item);
  bool open_again(Ordinal ordinal, OpenEvent event, std::string_view replayid, bool redriven);
  void withdraw_later(Ordinal ordinal, KeyHash key, std::uint64_t claim_id);
  void close(Items::iterator it, bool by_its_claim = false);
  void note_settled_alone(Ordinal ordinal);
  void drop_claim_if_done(std::uint64_t claim_id);
  void expire_claim(Timestamp now, std::uint64_t claim_id);
  void promote_due(Timestamp now);
  [[nodiscard]] bool later_than_open_one(Ordinal ordinal, const Item& item) const;
  [[nodiscard]] std::optional<Milliseconds> next_due(Timestamp now) const;

  GroupSettings settings_;
  Progress progress_;
  Items items_;
  std::map<std::uint64_t, Claim> claims_;
  std::unordered_map<std::string, std::set<std::uint64_t>> holders_;  ///< who holds which claims
  std::unordered_map<KeyHash, Key> keys_;
  std::set<Ordinal> ready_;
  std::set<std::pair<Timestamp, Ordinal>> due_;
  std::set<Ordinal> suspects_;
  std::uint64_t claimed_ = 0;
  std::uint64_t parked_ = 0;
  std::uint64_t suspect_count_ = 0;
  Timestamp next_expiry_ = Timestamp::max();  ///< no claim ends before this
  Changes changes_;
};

}  // namespace millrace::ledger
