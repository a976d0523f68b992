// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a store ought to do, said as plainly as possible: the whole history of every event in every group, searched
/// from end to end for every question. Shares no code with the stores.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "millrace/store.hpp"

namespace millrace::conformance {

class LogModel {
 public:
  void appended(const std::vector<Event>& events, const std::vector<AppendResult>& answers);
  void trimmed(Position to);
  /// The store's whole log, page by page.
  void check_log(EventLog& log, std::size_t page) const;

  [[nodiscard]] const std::map<Position, Event>& events() const { return events_; }
  [[nodiscard]] Position last() const { return last_; }
  [[nodiscard]] Position trimmed_to() const { return trimmed_to_; }
  [[nodiscard]] std::uint64_t after(Position position) const;

 private:
  std::map<Position, Event> events_;
  std::map<std::pair<std::string, std::string>, std::pair<Position, Event>> ever_;
  Position last_;
  Position trimmed_to_;
};

class GroupModel {
 public:
  GroupModel(GroupName name, const LogModel& log, std::string type_prefix, bool ordered, RetryPolicy policy)
      : name_(std::move(name)), log_(log), type_prefix_(std::move(type_prefix)), ordered_(ordered), policy_(policy) {}

  void appended(Position position, const Event& event);
  void claimed(const std::string& holder, std::size_t max, const ClaimAnswer& answer);
  /// Whether the store must call it stale; otherwise it has happened.
  bool settled(const Lease& lease, const Outcome& outcome);
  void holder_released(const std::string& holder);
  void holder_expired(const std::string& holder);
  void claim_expired(std::uint64_t claim);
  void skipped(Position position);
  void sought(Position cursor);
  /// How many the store must have handed back.
  std::uint64_t redriven();
  std::uint64_t purged();
  /// What each position must have been answered.
  std::vector<ReplayStatus> replayed(const std::string& replayid, const std::vector<Position>& positions);
  void paused(bool value) { paused_ = value; }
  void forced_trim(Position to);
  /// Nothing at or before this may be missing; how far a trim may go.
  [[nodiscard]] Position settled_up_to(Position target) const;

  /// Where the cursor is after a claim is the store's to say, forward only.
  void cursor_moved(Position cursor);
  /// Takes the cursor from the store, and compares all numbers.
  void check_info(const GroupInfo& info);
  void check_pending(const std::vector<PendingEvent>& pending) const;
  void check_dead(const std::vector<DeadLetter>& dead) const;
  /// \param position of an event that stands in the log; after check_info.
  void check_where(Position position, const Whereabouts& where) const;

  [[nodiscard]] const GroupName& name() const { return name_; }
  [[nodiscard]] bool current(const Lease& lease) const;
  [[nodiscard]] std::vector<Position> open() const;  ///< handed out once or set aside, not settled
  [[nodiscard]] bool all_settled() const;

 private:
  struct Fate {
    std::string key;
    bool settled = false;
    bool open = false;  ///< at or before the cursor, or redriven
    bool redriven = false;
    bool due = true;
    bool suspect = false;
    std::uint64_t claim = 0;
    std::uint64_t settled_in = 0;  ///< the claim in which it was acknowledged
    std::string replayid = {};
    std::uint32_t attempts = 0, failures = 0, handler_failures = 0, crashes = 0;
  };
  struct Claim {
    std::string holder;
    bool alone = false;
  };

  [[nodiscard]] bool matches(const Event& event) const { return event.type.starts_with(type_prefix_); }
  [[nodiscard]] bool same_key(const Fate& a, const Fate& b) const {
    return ordered_ && !a.key.empty() && a.key == b.key;
  }
  [[nodiscard]] bool earlier_unsettled(Position position, std::uint64_t but_in_claim) const;
  [[nodiscard]] bool key_claimed(Position position) const;
  [[nodiscard]] bool holds(const std::string& holder, bool suspects_only) const;
  void give_back(Position position);
  void withdraw_later(Position position, std::uint64_t claim);
  void settle(Position position);
  void die(Position position);
  [[noreturn]] void fail(const std::string& what, Position position = {}) const;
  void require(bool kept, const std::string& promise, Position position = {}) const {
    if (!kept) fail(promise, position);
  }

  GroupName name_;
  const LogModel& log_;
  std::string type_prefix_;
  bool ordered_;
  RetryPolicy policy_;
  bool paused_ = false;
  Position cursor_;
  std::map<Position, Fate> fates_;
  std::map<std::uint64_t, Claim> claims_;
  std::set<std::uint64_t> used_claims_;
  std::set<Position> dead_;  ///< shown
  std::uint64_t processed_ = 0, failures_ = 0, crashes_ = 0, rejected_ = 0;
};

}  // namespace millrace::conformance
