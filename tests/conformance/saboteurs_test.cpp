// SPDX-License-Identifier: Apache-2.0

// The suite is tested: each of these stores breaks one promise, and the checks must notice.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "millrace/replay.hpp"
#include "subject.hpp"

namespace millrace::conformance {
namespace {

/// Passes everything on; a saboteur overrides the one call it spoils.
class PassingLog : public EventLog {
 public:
  explicit PassingLog(EventLog& inner) : inner_(inner) {}
  void create_stream(const StreamName& n, const Retention& r) override { inner_.create_stream(n, r); }
  std::vector<StreamInfo> streams() override { return inner_.streams(); }
  StreamInfo stream(const StreamName& n) override { return inner_.stream(n); }
  std::vector<AppendResult> append(const StreamName& s, std::span<const Event> e, Durability d) override {
    return inner_.append(s, e, d);
  }
  void append_async(const StreamName& s, std::vector<Event> e, Durability d, AppendCompletion done) override {
    inner_.append_async(s, std::move(e), d, std::move(done));
  }
  Page read(const StreamName& s, const ReadQuery& q) override { return inner_.read(s, q); }
  std::vector<FoundEvent> find(const StreamName& s, std::string_view id,
                               std::optional<std::string_view> source) override {
    return inner_.find(s, id, source);
  }
  Position position_before(const StreamName& s, Timestamp t) override { return inner_.position_before(s, t); }
  TrimResult trim(const StreamName& s, const TrimRequest& r) override { return inner_.trim(s, r); }
  StreamInfo change_retention(const StreamName& s, const RetentionChange& c) override {
    return inner_.change_retention(s, c);
  }
  std::optional<Position> erase(const StreamName& s, std::string_view source, std::string_view id) override {
    return inner_.erase(s, source, id);
  }
  std::unique_ptr<Watch> watch(std::function<void()> changed) override { return inner_.watch(std::move(changed)); }

 protected:
  EventLog& inner_;
};

class PassingLedger : public Ledger {
 public:
  explicit PassingLedger(Ledger& inner) : inner_(inner) {}
  GroupInfo ensure_group(const GroupName& g, const GroupSpec& s) override { return inner_.ensure_group(g, s); }
  std::vector<GroupInfo> groups() override { return inner_.groups(); }
  GroupInfo group(const GroupName& g) override { return inner_.group(g); }
  GroupInfo alter_group(const GroupName& g, const GroupChange& c) override { return inner_.alter_group(g, c); }
  void delete_group(const GroupName& g) override { inner_.delete_group(g); }
  SessionId open_session(const std::string& c, Milliseconds l) override { return inner_.open_session(c, l); }
  bool renew_session(SessionId s) override { return inner_.renew_session(s); }
  void close_session(SessionId s) override { inner_.close_session(s); }
  ClaimAnswer claim(const GroupName& g, const ClaimRequest& r) override { return inner_.claim(g, r); }
  std::vector<std::size_t> settle(const GroupName& g, std::span<const Settlement> s) override {
    return inner_.settle(g, s);
  }
  std::vector<std::size_t> extend(const GroupName& g, std::span<const Lease> l, Milliseconds by) override {
    return inner_.extend(g, l, by);
  }
  std::vector<PendingEvent> pending(const GroupName& g, Position a, std::size_t n) override {
    return inner_.pending(g, a, n);
  }
  std::vector<DeadLetter> dead_letters(const GroupName& g, const DeadLetterQuery& q) override {
    return inner_.dead_letters(g, q);
  }
  std::uint64_t redrive(const GroupName& g, const DeadLetterQuery& q) override { return inner_.redrive(g, q); }
  std::uint64_t purge(const GroupName& g, const DeadLetterQuery& q) override { return inner_.purge(g, q); }
  std::vector<ReplayStatus> replay(const GroupName& g, std::string_view id, std::span<const Position> p) override {
    return inner_.replay(g, id, p);
  }
  Whereabouts where(const GroupName& g, Position p) override { return inner_.where(g, p); }

 protected:
  Ledger& inner_;
};

template <class Log, class SpoiledLedger>
class SpoiledStore : public Store {
 public:
  explicit SpoiledStore(std::unique_ptr<Store> inner)
      : inner_(std::move(inner)), log_(inner_->log()), ledger_(inner_->ledger()) {}
  EventLog& log() override { return log_; }
  Ledger& ledger() override { return ledger_; }
  KeyValue& kv() override { return inner_->kv(); }
  [[nodiscard]] Capabilities capabilities() const override { return inner_->capabilities(); }
  [[nodiscard]] std::string describe() const override { return inner_->describe(); }
  [[nodiscard]] std::vector<Figure> figures() const override { return inner_->figures(); }
  void backup(const std::string& to) override { inner_->backup(to); }

 private:
  std::unique_ptr<Store> inner_;
  Log log_;
  SpoiledLedger ledger_;
};

template <class Log, class SpoiledLedger>
Wrap spoiled_by() {
  return [](std::unique_ptr<Store> inner) -> std::unique_ptr<Store> {
    return std::make_unique<SpoiledStore<Log, SpoiledLedger>>(std::move(inner));
  };
}

/// Now and then, one event of a batch is answered and never written.
class LosingLog : public PassingLog {
 public:
  using PassingLog::PassingLog;
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events, Durability d) override {
    if (events.size() < 5) return inner_.append(stream, events, d);
    auto answers = inner_.append(stream, events.first(events.size() - 1), d);
    AppendResult made_up = answers.back();
    if (made_up.position) made_up.position->low += 1;
    answers.push_back(made_up);
    return answers;
  }
};

/// An event disappears on its way to the consumer.
class LosingLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) override {
    ClaimAnswer answer = inner_.claim(group, request);
    if (answer.deliveries.size() < 4) return answer;
    const std::vector<Settlement> quietly{{answer.deliveries.front().lease, Outcome::ack()}};
    (void)inner_.settle(group, quietly);
    answer.deliveries.erase(answer.deliveries.begin());
    return answer;
  }
};

class ReorderingLog : public PassingLog {
 public:
  using PassingLog::PassingLog;
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events, Durability d) override {
    const std::vector<Event> backwards(events.rbegin(), events.rend());
    auto answers = inner_.append(stream, backwards, d);
    std::reverse(answers.begin(), answers.end());
    return answers;
  }
};

/// Hands the events of a claim out in the wrong order.
class ReorderingLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) override {
    ClaimAnswer answer = inner_.claim(group, request);
    std::reverse(answer.deliveries.begin(), answer.deliveries.end());
    return answer;
  }
};

/// Forgets the ids it has stored.
class DuplicatingLog : public PassingLog {
 public:
  using PassingLog::PassingLog;
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events, Durability d) override {
    auto answers = inner_.append(stream, events, d);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (answers[i].status != AppendStatus::duplicate) continue;
      Event again = events[i];
      again.id += "#" + std::to_string(++copies_);
      answers[i] = inner_.append(stream, std::vector{again}, d).at(0);
    }
    return answers;
  }

 private:
  int copies_ = 0;
};

/// Hands out again what was acknowledged.
class DuplicatingLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) override {
    const std::lock_guard lock(mutex_);
    ClaimAnswer answer = inner_.claim(group, request);
    if (answer.deliveries.empty() || answer.deliveries.size() >= request.max) return answer;
    const auto [earlier, first] = seen_.try_emplace(group, answer.deliveries.front());
    if (first) return answer;
    Delivery again = earlier->second;
    again.lease.claim = answer.deliveries.front().lease.claim;
    answer.deliveries.push_back(again);
    return answer;
  }

 private:
  std::mutex mutex_;
  std::map<GroupName, Delivery> seen_;
};

/// Says it keeps keys in order, and does not.
class OvertakingLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  GroupInfo ensure_group(const GroupName& group, const GroupSpec& spec) override {
    GroupSpec loose = spec;
    loose.order = OrderRule{OrderRule::Kind::none, {}};
    GroupInfo info = inner_.ensure_group(group, loose);
    info.order = spec.order.value_or(OrderRule{});
    return info;
  }
};

/// Counts each event of a lease that ran out as if it had been alone: a claim of its own, under a name of its own.
class ChargingLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) override {
    ClaimRequest one = request;
    one.max = 1;
    ClaimAnswer all;
    while (all.deliveries.size() < request.max) {
      one.consumer = request.consumer + "-" + std::to_string(all.deliveries.size());
      ClaimAnswer answer = inner_.claim(group, one);
      if (answer.deliveries.empty()) {
        all.next_due = answer.next_due;
        break;
      }
      all.deliveries.push_back(std::move(answer.deliveries.front()));
    }
    return all;
  }
};

/// Lets a late answer settle the event, whoever holds it now.
class CredulousLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  std::vector<std::size_t> settle(const GroupName& group, std::span<const Settlement> settlements) override {
    std::vector<std::size_t> refused;
    for (const std::size_t index : inner_.settle(group, settlements)) {
      const Settlement& late = settlements[index];
      bool accepted = false;
      for (const PendingEvent& pending : inner_.pending(group, {}, 10'000)) {
        if (pending.position != late.lease.position || !pending.lease) continue;
        accepted = inner_.settle(group, std::vector{Settlement{*pending.lease, late.outcome}}).empty();
      }
      if (!accepted) refused.push_back(index);
    }
    return refused;
  }
};

/// Hands replayed events out as if they were new.
class SilentReplayLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) override {
    ClaimAnswer answer = inner_.claim(group, request);
    for (Delivery& delivery : answer.deliveries) {
      std::erase_if(delivery.event.extensions, [](const Extension& extension) { return extension.name == kReplayId; });
    }
    return answer;
  }
};

/// Says of an event that is still open that it is settled.
class OptimisticLedger : public PassingLedger {
 public:
  using PassingLedger::PassingLedger;
  Whereabouts where(const GroupName& group, Position position) override {
    Whereabouts where = inner_.where(group, position);
    if (where.state == Whereabouts::State::open) where.state = Whereabouts::State::settled;
    return where;
  }
};

/// Trims as if nobody read the stream any more.
class RecklessLog : public PassingLog {
 public:
  using PassingLog::PassingLog;
  TrimResult trim(const StreamName& stream, const TrimRequest& request) override {
    TrimRequest forced = request;
    forced.force = true;
    return inner_.trim(stream, forced);
  }
};

/// Does what it was only asked to foretell.
class HastyLog : public PassingLog {
 public:
  using PassingLog::PassingLog;
  TrimResult trim(const StreamName& stream, const TrimRequest& request) override {
    TrimRequest wet = request;
    wet.dry_run = false;
    return inner_.trim(stream, wet);
  }
};

/// Says that an event is erased, and keeps it.
class HoardingLog : public PassingLog {
 public:
  using PassingLog::PassingLog;
  std::optional<Position> erase(const StreamName& stream, std::string_view source, std::string_view id) override {
    const auto found = inner_.find(stream, id, source);
    return found.empty() ? std::nullopt : std::optional(found.front().stored.position);
  }
};

/// Finds what is in the log, and nothing of what was trimmed.
class ForgetfulLog : public PassingLog {
 public:
  using PassingLog::PassingLog;
  std::vector<FoundEvent> find(const StreamName& stream, std::string_view id,
                               std::optional<std::string_view> source) override {
    auto found = inner_.find(stream, id, source);
    std::erase_if(found, [](const FoundEvent& event) { return event.trimmed_at.has_value(); });
    return found;
  }
};

bool notices(const Check& check, const Wrap& wrap) {
  Subject subject(store_cases().front(), wrap);
  try {
    check.run(subject);
  } catch (const Violation&) {
    return true;
  }
  return false;
}

/// The check made for the promise must notice, and so must the random walk, which knows of no particular fault.
void expect_noticed(const Wrap& wrap, const Check& made_for_it) {
  EXPECT_TRUE(notices(made_for_it, wrap)) << made_for_it.name;
  EXPECT_TRUE(notices({"random_operations", check_random_operations}, wrap)) << "random_operations";
}

TEST(Saboteur, HonestWrapperPasses) {
  const Wrap honest = spoiled_by<PassingLog, PassingLedger>();
  for (const Check& check : checks()) {
    if (check.run == check_reopen || check.run == check_several_processes) continue;  // memory keeps nothing
    EXPECT_FALSE(notices(check, honest)) << check.name;
  }
}
TEST(Saboteur, LosingAnAppendedEventIsNoticed) {
  expect_noticed(spoiled_by<LosingLog, PassingLedger>(), {"append_and_read", check_append_and_read});
}
TEST(Saboteur, LosingADeliveryIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, LosingLedger>(), {"payloads", check_payloads});
}
TEST(Saboteur, ReorderingTheLogIsNoticed) {
  expect_noticed(spoiled_by<ReorderingLog, PassingLedger>(), {"append_and_read", check_append_and_read});
}
TEST(Saboteur, ReorderingDeliveriesIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, ReorderingLedger>(),
                 {"order_between_consumers", check_order_between_consumers});
}
TEST(Saboteur, DuplicatingInTheLogIsNoticed) {
  expect_noticed(spoiled_by<DuplicatingLog, PassingLedger>(), {"idempotency", check_idempotency});
}
TEST(Saboteur, DuplicatingDeliveriesIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, DuplicatingLedger>(), {"concurrent_use", check_concurrent_use});
}
TEST(Saboteur, AKeyThatOvertakesItselfIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, OvertakingLedger>(),
                 {"order_between_consumers", check_order_between_consumers});
}
TEST(Saboteur, ChargingAnInnocentNeighbourIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, ChargingLedger>(), {"innocent_neighbours", check_innocent_neighbours});
}
TEST(Saboteur, ReplayingWithoutSayingSoIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, SilentReplayLedger>(), {"replay", check_replay});
}
TEST(Saboteur, CallingAnOpenEventSettledIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, OptimisticLedger>(), {"where", check_where});
}
TEST(Saboteur, TrimmingWhatALiveGroupNeedsIsNoticed) {
  EXPECT_TRUE(notices({"trim", check_trim}, spoiled_by<RecklessLog, PassingLedger>()));
}
TEST(Saboteur, ADryRunThatTrimsIsNoticed) {
  EXPECT_TRUE(notices({"dry_run", check_dry_run}, spoiled_by<HastyLog, PassingLedger>()));
}
TEST(Saboteur, KeepingAnErasedEventIsNoticed) {
  EXPECT_TRUE(notices({"erase", check_erase}, spoiled_by<HoardingLog, PassingLedger>()));
}
TEST(Saboteur, NotFindingWhatWasTrimmedIsNoticed) {
  EXPECT_TRUE(notices({"find", check_find}, spoiled_by<ForgetfulLog, PassingLedger>()));
}
TEST(Saboteur, AcceptingAStaleLeaseIsNoticed) {
  expect_noticed(spoiled_by<PassingLog, CredulousLedger>(), {"stale_leases", check_stale_leases});
}

}  // namespace
}  // namespace millrace::conformance
