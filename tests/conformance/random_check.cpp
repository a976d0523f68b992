// SPDX-License-Identifier: Apache-2.0

// Seeded random operations, one after the other, each answer compared with the model.

#include <algorithm>
#include <deque>
#include <random>
#include <thread>

#include "model.hpp"
#include "subject.hpp"

namespace millrace::conformance {
namespace {

constexpr Milliseconds kShortLease{25};
constexpr Milliseconds kPastShortLease{40};

class Walk {
 public:
  Walk(Subject& subject, std::uint64_t seed) : subject_(subject), random_(seed) {
    GroupSettings settings;
    settings.retry.max_attempts = 3;
    settings.retry.max_crashes = 2;
    const auto add = [&](const char* name, const char* prefix, const OrderRule& order) {
      const std::string types = prefix;
      subject_.ledger().ensure_group(
          name, from_beginning(order, types.empty() ? std::vector<std::string>{} : std::vector{types + "*"}, settings));
      groups_.emplace_back(name, log_, types, order.kind != OrderRule::Kind::none, settings.retry);
    };
    add("ordered", "", {});
    add("orders", "order.", OrderRule::parse("attribute:subject"));
    add("unordered", "", OrderRule::parse("none"));
  }

  void run(std::size_t steps) {
    for (std::size_t i = 0; i < steps; ++i) {
      const std::string operation = step();
      try {
        check_all();
      } catch (const Violation& violation) {
        throw Violation(std::string(violation.what()) + "; after step " + std::to_string(i) + ", " + operation);
      }
    }
    log_.check_log(subject_.log(), 7);
    for (GroupModel& group : groups_) drain(group);
  }

 private:
  std::size_t below(std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_); }
  bool chance(double p) { return std::bernoulli_distribution(p)(random_); }
  GroupModel& any_group() { return groups_[below(groups_.size())]; }

  std::string step() {
    const std::size_t dice = below(100);
    if (dice < 20) return append(), "append";
    if (dice < 45) return claim(), "claim";
    if (dice < 73) return settle(), "settle";
    if (dice < 75) return replay(), "replay";
    if (dice < 79) return session(), "session";
    if (dice < 82) return crash(), "lease ran out";
    if (dice < 85) return extend(), "extend";
    if (dice < 87) return skip(), "skip";
    if (dice < 88) return seek(), "seek";
    if (dice < 90) return pause(), "pause";
    if (dice < 93) return redrive(), "redrive";
    if (dice < 94) return purge(), "purge";
    if (dice < 97) return trim(), "trim";
    if (dice < 98 && subject_.about().persistent) return reopen(), "reopen";
    return read(), "read";
  }

  void append() {
    static const char* const kTypes[] = {"order.placed", "order.paid", "user.seen"};
    static const char* const kKeys[] = {"", "a", "b", "c"};
    std::vector<Event> events;
    for (std::size_t n = 1 + below(8); n > 0; --n) {
      if (!made_.empty() && chance(0.15)) {
        events.push_back(made_[below(made_.size())]);
        if (chance(0.3)) events.back().data = "other " + std::to_string(below(3));
        continue;
      }
      events.push_back(make_event("e" + std::to_string(made_.size()), kTypes[below(3)], kKeys[below(4)],
                                  std::string(below(50), 'x')));
      made_.push_back(events.back());
    }
    const auto answers = subject_.append(events);
    log_.appended(events, answers);
    for (std::size_t i = 0; i < events.size(); ++i) {
      if (answers[i].status != AppendStatus::stored) continue;
      stored_.push_back(*answers[i].position);
      for (GroupModel& group : groups_) group.appended(*answers[i].position, events[i]);
    }
  }

  ClaimAnswer claim_as(GroupModel& group, const std::string& holder, const ClaimRequest& request) {
    ClaimAnswer answer = subject_.ledger().claim(group.name(), request);
    group.claimed(holder, request.max, answer);
    group.cursor_moved(subject_.ledger().group(group.name()).cursor);
    for (const Delivery& delivery : answer.deliveries) {
      leases_.emplace_back(&group, delivery.lease);
      if (leases_.size() > 200) leases_.pop_front();
    }
    return answer;
  }

  void claim() {
    const std::string consumer = "consumer-" + std::to_string(below(3));
    claim_as(any_group(), consumer, claim_by(consumer, chance(0.3) ? 1 : 1 + below(12)));
  }

  Outcome outcome() {
    const std::size_t dice = below(10);
    if (dice < 5) return Outcome::ack();
    if (dice < 7) return Outcome::release();
    if (dice < 8) return Outcome::reject("not wanted");
    const auto failure = chance(0.5) ? FailureClass::handler : FailureClass::transient;
    return Outcome::retry("no luck", failure, chance(0.8) ? Milliseconds{0} : Milliseconds{3'600'000});
  }

  void settle() {
    if (leases_.empty()) return;
    GroupModel& group = any_group();
    std::vector<Settlement> settlements;
    for (std::size_t n = 1 + below(6); n > 0; --n) {
      const auto& [of, lease] = leases_[below(leases_.size())];
      if (of == &group) settlements.push_back({lease, outcome()});
      if (chance(0.05)) settlements.push_back({Lease{lease.claim + 1'000'000, lease.position}, Outcome::ack()});
    }
    std::vector<std::size_t> order(settlements.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return settlements[a].lease.position < settlements[b].lease.position;
    });
    std::vector<std::size_t> expected;
    for (const std::size_t i : order) {
      if (group.settled(settlements[i].lease, settlements[i].outcome)) expected.push_back(i);
    }
    std::sort(expected.begin(), expected.end());
    const auto stale = subject_.ledger().settle(group.name(), settlements);
    require(stale == expected, "group " + group.name().str() + ": settle tells exactly the stale leases: " +
                                   std::to_string(stale.size()) + " instead of " + std::to_string(expected.size()));
  }

  void extend() {
    if (leases_.empty()) return;
    const auto& [group, lease] = leases_[below(leases_.size())];
    const auto stale = subject_.ledger().extend(group->name(), std::vector{lease}, Milliseconds{600'000});
    require_equal(stale.size(), group->current(lease) ? 0U : 1U, "extend tells stale leases");
  }

  void session() {
    Ledger& ledger = subject_.ledger();
    const bool expire = chance(0.4);
    const SessionId id = ledger.open_session("session", expire ? kShortLease : Milliseconds{600'000});
    const std::string holder = "session " + std::to_string(id);
    ClaimRequest request = claim_by("session", 1 + below(5));
    request.hold = id;
    GroupModel& group = any_group();
    try {
      claim_as(group, holder, request);
      if (chance(0.3)) claim_as(group, holder, request);
    } catch (const Error& error) {
      if (!expire || error.code() != Errc::timed_out) throw;  // on a slow machine it may be over already
    }
    if (expire) {
      std::this_thread::sleep_for(kPastShortLease);
      require(!ledger.renew_session(id), "an expired session cannot be renewed");
      group.holder_expired(holder);
      settle_nonsense(group);
    } else {
      require(ledger.renew_session(id), "a living session can be renewed");
      ledger.close_session(id);
      group.holder_released(holder);
    }
  }

  void crash() {
    GroupModel& group = any_group();
    const std::string consumer = "crasher-" + std::to_string(below(2));
    const auto answer = claim_as(group, consumer, claim_by(consumer, 1 + below(4), kShortLease));
    if (answer.deliveries.empty()) return;
    std::this_thread::sleep_for(kPastShortLease);
    group.claim_expired(answer.deliveries.front().lease.claim);
    const auto stale = subject_.ledger().settle(
        group.name(), std::vector{Settlement{answer.deliveries.front().lease, Outcome::ack()}});
    require_equal(stale.size(), 1U, "a lease that ran out is stale");
  }

  /// Lets a store that looks at leases only when it writes do so.
  void settle_nonsense(GroupModel& group) {
    (void)subject_.ledger().settle(group.name(),
                                   std::vector{Settlement{Lease{~0ULL >> 1, Position{1}}, Outcome::ack()}});
  }

  void skip() {
    GroupModel& group = any_group();
    const auto open = group.open();
    if (open.empty()) return;
    const Position position = open[below(open.size())];
    subject_.ledger().alter_group(group.name(), {.skip = position});
    group.skipped(position);
  }

  void seek() {
    if (log_.events().empty()) return;
    GroupModel& group = any_group();
    const Position position = std::next(log_.events().begin(), static_cast<long>(below(log_.events().size())))->first;
    subject_.ledger().alter_group(group.name(), {.seek = Start::after(position)});
    group.sought(position);
  }

  void pause() {
    GroupModel& group = any_group();
    const bool value = chance(0.3);
    subject_.ledger().alter_group(group.name(), {.paused = value});
    group.paused(value);
  }

  void redrive() {
    GroupModel& group = any_group();
    const std::uint64_t expected = group.redriven();
    require_equal(subject_.ledger().redrive(group.name(), {}), expected, "events handed back by redrive");
  }

  void replay() {
    if (stored_.empty()) return;
    GroupModel& group = any_group();
    std::vector<Position> positions;
    for (std::size_t n = 1 + below(5); n > 0; --n) positions.push_back(stored_[below(stored_.size())]);
    const std::string id = "replay-" + std::to_string(below(10));
    const auto expected = group.replayed(id, positions);
    require(subject_.ledger().replay(group.name(), id, positions) == expected, "what a replay answers");
  }

  void purge() {
    GroupModel& group = any_group();
    const std::uint64_t expected = group.purged();
    require_equal(subject_.ledger().purge(group.name(), {}), expected, "dead letters purged");
  }

  void trim() {
    if (log_.events().empty()) return;
    TrimRequest request;
    const std::size_t count = below(log_.events().size());
    Position target = log_.trimmed_to();
    if (count > 0) target = std::next(log_.events().begin(), static_cast<long>(count) - 1)->first;
    if (chance(0.5)) {
      request.up_to = target;
    } else {
      request.max_events = log_.events().size() - count;
    }
    request.force = chance(0.1);
    Position expected = target;
    if (!request.force) {
      for (const GroupModel& group : groups_) expected = std::min(expected, group.settled_up_to(target));
    }
    expected = std::max(expected, log_.trimmed_to());
    const std::uint64_t before = log_.events().size();
    const TrimResult result = subject_.log().trim(kDefaultStream, request);
    require(result.trimmed_to == expected,
            "trimmed to " + result.trimmed_to.to_string() + " instead of " + expected.to_string());
    require(result.kept.empty() == (expected == std::max(target, log_.trimmed_to())),
            "trim tells for whom it kept something");
    log_.trimmed(expected);
    require_equal(result.removed, before - log_.events().size(), "trimmed events");
    if (request.force) {
      for (GroupModel& group : groups_) group.forced_trim(expected);
    }
  }

  void reopen() { subject_.reopen(); }
  void read() { log_.check_log(subject_.log(), 1 + below(20)); }

  void check_all() {
    for (GroupModel& group : groups_) {
      group.check_info(subject_.ledger().group(group.name()));
      group.check_pending(subject_.ledger().pending(group.name(), {}, 100'000));
      group.check_dead(subject_.ledger().dead_letters(group.name(), {.limit = 100'000}));
      if (log_.events().empty()) continue;
      const Position any = std::next(log_.events().begin(), static_cast<long>(below(log_.events().size())))->first;
      group.check_where(any, subject_.ledger().where(group.name(), any));
    }
  }

  /// Everything must come to an end: what waits for later is skipped, all else is claimed and acknowledged.
  void drain(GroupModel& group) {
    Ledger& ledger = subject_.ledger();
    ledger.alter_group(group.name(), {.paused = false});
    group.paused(false);
    for (const auto& [of, lease] : leases_) {
      if (of != &group) continue;
      const bool stale = group.settled(lease, Outcome::release());
      require_equal(ledger.settle(group.name(), std::vector{Settlement{lease, Outcome::release()}}).size(),
                    stale ? 1U : 0U, "stale leases while draining");
    }
    for (std::size_t turns = 0; !group.all_settled(); ++turns) {
      require(turns < 10'000, "a group can be drained");
      const auto answer = claim_as(group, "drain", claim_by("drain", 100));
      if (answer.deliveries.empty()) {  // retries that are not due, and what waits behind them
        const auto open = group.open();
        require(!open.empty(), "what was appended reaches the group");
        ledger.alter_group(group.name(), {.skip = open.front()});
        group.skipped(open.front());
      }
      for (const Delivery& delivery : answer.deliveries) {
        require(!group.settled(delivery.lease, Outcome::ack()), "a fresh lease is current");
      }
      require_equal(settle_all(subject_, group.name(), answer.deliveries, Outcome::ack()), 0U,
                    "stale leases while draining");
      group.check_info(ledger.group(group.name()));
    }
    const GroupInfo info = ledger.group(group.name());
    require(info.lag.in_flight == 0 && info.lag.waiting == 0, "a drained group holds nothing");
  }

  Subject& subject_;
  std::mt19937_64 random_;
  LogModel log_;
  std::deque<GroupModel> groups_;
  std::deque<std::pair<GroupModel*, Lease>> leases_;
  std::vector<Event> made_;
  std::vector<Position> stored_;  ///< of every event there ever was, trimmed or not
};

}  // namespace

void check_random_operations(Subject& subject) {
  const std::size_t walks = scaled(12);
  for (std::size_t i = 0; i < walks; ++i) {
    Subject fresh(subject.about(), subject.wrap());
    try {
      Walk(fresh, subject.seed() + i).run(250);
    } catch (const Violation& violation) {
      throw Violation(std::string(violation.what()) + "; walk with seed " + std::to_string(subject.seed() + i));
    }
  }
}

}  // namespace millrace::conformance
