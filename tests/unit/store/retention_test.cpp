// SPDX-License-Identifier: Apache-2.0
#include "store/retention.hpp"

#include <gtest/gtest.h>

#include <map>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace millrace::store {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A store whose streams and clock the test sets.
class FakeHost final : public RetentionHost {
 public:
  std::vector<Retained> retained() override {
    if (broken) throw Error(Errc::unavailable, "read", "fake", "out of order");
    std::vector<Retained> all;
    for (const auto& [name, record] : records) all.push_back({name, record});
    return all;
  }
  TrimResult apply_retention(const StreamName& stream, const std::stop_token& stop) override {
    if (stop.stop_requested()) throw Error(Errc::stopped, "trim", stream.str(), "stopped");
    if (throwing == stream.str()) throw std::bad_alloc();
    if (failing == stream.str()) throw Error(Errc::unavailable, "trim", stream.str(), "out of order");
    trimmed.push_back(stream.str());
    records.at(stream).applied_at = now;
    return result;
  }

  void keep(const char* stream, seconds interval, std::optional<Timestamp> applied_at = std::nullopt) {
    Retention retention;
    retention.max_events = 10;
    retention.interval = interval;
    records[stream] = {retention, applied_at};
  }

  Timestamp now = Timestamp{hours{1'000'000}};
  std::map<StreamName, RetentionRecord> records;
  std::vector<std::string> trimmed;
  std::string failing, throwing;
  bool broken = false;
  TrimResult result{.removed = 3};
};

struct RetentionScheduleTest : testing::Test {
  FakeHost host;
  RetentionSchedule schedule{host, [this] { return host.now; }};
  milliseconds step() { return schedule.step({}); }
  using Names = std::vector<std::string>;
};

TEST_F(RetentionScheduleTest, StreamThatKeepsEverythingIsNeverDue) {
  EXPECT_FALSE(due_at({}));
  host.records["events"] = {};
  EXPECT_EQ(step(), RetentionSchedule::kLookAgain);
  EXPECT_TRUE(host.trimmed.empty());
}

TEST_F(RetentionScheduleTest, NewRetentionIsAppliedAtOnceAndThenEveryInterval) {
  host.keep("events", hours{24});
  EXPECT_EQ(step(), milliseconds{0});
  EXPECT_EQ(host.trimmed, Names{"events"});
  EXPECT_EQ(step(), RetentionSchedule::kLookAgain);
  host.now += hours{24} - milliseconds{1500};
  EXPECT_EQ(step(), milliseconds{1500}) << "it sleeps until the next one is due";
  EXPECT_EQ(host.trimmed.size(), 1U);
  host.now += milliseconds{1500};
  step();
  EXPECT_EQ(host.trimmed.size(), 2U);
}

TEST_F(RetentionScheduleTest, WhatIsRecordedDecidesSoARestartPostponesNothing) {
  host.keep("overdue", hours{24}, host.now - hours{25});
  host.keep("young", hours{24}, host.now - hours{23});
  step();
  EXPECT_EQ(step(), RetentionSchedule::kLookAgain);
  EXPECT_EQ(host.trimmed, Names{"overdue"});
}

TEST_F(RetentionScheduleTest, LongestDueComesFirstOneAtATime) {
  host.keep("b", seconds{60}, host.now - seconds{70});
  host.keep("a", seconds{60}, host.now - seconds{61});
  host.keep("c", seconds{60}, host.now - seconds{90});
  step();
  EXPECT_EQ(host.trimmed, Names{"c"});
  step();
  step();
  EXPECT_EQ(host.trimmed, (Names{"c", "b", "a"}));
  EXPECT_EQ(schedule.figures().trims, 3U);
  EXPECT_EQ(schedule.figures().removed_events, 9U);
}

TEST_F(RetentionScheduleTest, FailureIsCountedRetriedLaterAndHoldsUpNoOther) {
  host.keep("bad", seconds{1}, host.now - hours{1});
  host.keep("good", seconds{1}, host.now - seconds{2});
  host.failing = "bad";
  step();
  step();
  EXPECT_EQ(host.trimmed, Names{"good"});
  EXPECT_EQ(schedule.figures().failures, 1U);
  host.failing.clear();
  host.now += RetentionSchedule::kRetryAfter - milliseconds{1};
  host.records.erase("good");
  EXPECT_EQ(step(), milliseconds{1});
  host.now += milliseconds{1};
  step();
  EXPECT_EQ(host.trimmed, (Names{"good", "bad"}));
}

TEST_F(RetentionScheduleTest, WhateverIsThrownIsAFailureLikeAnyOther) {
  host.keep("bad", seconds{1}, host.now - hours{1});
  host.throwing = "bad";
  EXPECT_EQ(step(), milliseconds{0});
  EXPECT_EQ(schedule.figures().failures, 1U);
  EXPECT_GT(step(), milliseconds{0}) << "not at once again";
  host.throwing.clear();
  host.now += RetentionSchedule::kRetryAfter;
  step();
  EXPECT_EQ(host.trimmed, Names{"bad"});
}

TEST_F(RetentionScheduleTest, StoreThatCannotBeReadIsTriedAgain) {
  host.broken = true;
  EXPECT_EQ(step(), RetentionSchedule::kLookAgain);
  EXPECT_EQ(schedule.figures().failures, 1U);
}

TEST_F(RetentionScheduleTest, StoppedTrimIsNoFailureAndStaysDue) {
  host.keep("events", hours{24});
  std::stop_source stop;
  stop.request_stop();
  schedule.step(stop.get_token());
  EXPECT_EQ(schedule.figures().failures, 0U);
  EXPECT_EQ(schedule.figures().trims, 0U);
  step();
  EXPECT_EQ(host.trimmed, Names{"events"});
}

TEST_F(RetentionScheduleTest, RetentionAsksForAllItsLimits) {
  Retention retention;
  retention.max_bytes = 5;
  retention.max_age = seconds{7};
  const TrimRequest request = request_of(retention);
  EXPECT_EQ(request.max_bytes, 5U);
  EXPECT_EQ(request.max_age, seconds{7});
  EXPECT_FALSE(request.max_events);
  EXPECT_FALSE(request.up_to);
  EXPECT_FALSE(request.force);
}

}  // namespace
}  // namespace millrace::store
