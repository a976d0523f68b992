// SPDX-License-Identifier: Apache-2.0

// What is handed out, in which order, and what an answer does.

#include "group_state_fixture.hpp"

namespace millrace::ledger {
namespace {

using State = PendingEvent::State;
class GroupStateClaim : public GroupStateTest {};
INSTANTIATE_TEST_SUITE_P(Kept, GroupStateClaim, testing::Values(false), [](const auto&) { return "InMemory"; });
INSTANTIATE_TEST_SUITE_P(Reloaded, GroupStateClaim, testing::Values(true), [](const auto&) { return "FromRows"; });

TEST_P(GroupStateClaim, HandsOutNewEventsInOrderAndOnce) {
  log("-----");
  EXPECT_EQ(claim("one", 2), "1 2");
  EXPECT_EQ(claim("two", 2), "3 4");
  EXPECT_EQ(claim("one"), "5");
  EXPECT_EQ(claim("one"), "");
  EXPECT_EQ(state_.in_flight(), 5U);
  EXPECT_EQ(state_.progress().cursor, 5U);
}

TEST_P(GroupStateClaim, KeepsAKeyWithOneClaim) {
  log("abaab");
  EXPECT_EQ(claim("one", 1), "1");
  EXPECT_EQ(claim("two"), "2 5");
  EXPECT_EQ(state_.parked(), 2U);
  EXPECT_EQ(state_.state_of(3), State::parked);
  EXPECT_EQ(claim("three"), "");
  EXPECT_TRUE(ack(1, 1));
  EXPECT_TRUE(woken_);
  EXPECT_EQ(claim("three"), "3 4");
  EXPECT_EQ(state_.parked(), 0U);
}

TEST_P(GroupStateClaim, GivesSeveralOfAKeyInOneClaimAndSettlesThemInOrder) {
  log("aaa");
  EXPECT_EQ(claim("one"), "1 2 3");
  EXPECT_FALSE(ack(1, 2)) << "before 1";
  EXPECT_TRUE(ack(1, 1));
  EXPECT_TRUE(ack(1, 2));
  EXPECT_TRUE(ack(1, 3));
  EXPECT_EQ(state_.progress().counters.processed, 3U);
  EXPECT_EQ(state_.claims().size(), 0U);
}

TEST_P(GroupStateClaim, WithdrawsLaterEventsOfAKeyWhenAnEarlierOneIsRetried) {
  log("a-a");
  EXPECT_EQ(claim("one"), "1 2 3");
  EXPECT_TRUE(retry_in(1, 1, Milliseconds{500}));
  EXPECT_FALSE(ack(1, 3)) << "withdrawn";
  EXPECT_TRUE(ack(1, 2)) << "has no key";
  EXPECT_EQ(claim("one"), "");
  EXPECT_EQ(out_.next_due, Milliseconds{500});
  pass(Milliseconds{500});
  EXPECT_EQ(claim("two"), "1 3");
  EXPECT_EQ(out_.events[0].attempt, 2U);
  EXPECT_EQ(out_.events[0].failures, 1U);
  EXPECT_EQ(out_.events[1].attempt, 1U) << "uncharged";
}

TEST_P(GroupStateClaim, ReleasesUncharged) {
  log("a-a");
  claim("one");
  EXPECT_TRUE(release(1, 1));
  EXPECT_FALSE(ack(1, 3)) << "withdrawn with it";
  EXPECT_TRUE(release(1, 2));
  EXPECT_FALSE(release(1, 2)) << "stale";
  EXPECT_EQ(claim("two", 1), "1");
  EXPECT_EQ(out_.events[0].attempt, 1U);
  EXPECT_EQ(claim("three"), "2") << "3 is parked behind 1";
  EXPECT_EQ(state_.progress().counters.failures, 0U);
}

TEST_P(GroupStateClaim, StopsAtMaxParkedAndGoesOn) {
  settings_.max_parked = 2;
  act([&](GroupState& s) { s.set_settings(settings_); });
  log("a aaa b");
  EXPECT_EQ(claim("one", 1), "1");
  EXPECT_EQ(claim("two"), "");
  EXPECT_EQ(state_.parked(), 2U);
  EXPECT_EQ(state_.progress().cursor, 3U);
  EXPECT_NE(state_.stalled().find("max_parked"), std::string::npos);
  EXPECT_TRUE(ack(1, 1));
  EXPECT_EQ(claim("two"), "2 3 4 5");
  EXPECT_EQ(state_.stalled(), "");
}

TEST_P(GroupStateClaim, BuriesAfterMaxAttempts) {
  log("aa");
  for (std::uint32_t attempt = 1; attempt <= 5; ++attempt) {
    claim("one", 1);
    ASSERT_EQ(out_.events.at(0).ordinal, 1U);
    EXPECT_EQ(out_.events.at(0).attempt, attempt);
    EXPECT_TRUE(retry_in(last_claim(), 1, Milliseconds{0}));
  }
  ASSERT_EQ(dead_.size(), 1U);
  EXPECT_EQ(dead_[0].reason, "gave up after 5 attempts: no");
  EXPECT_EQ(dead_[0].item.failures, 5U);
  EXPECT_EQ(claim("one"), "2") << "a dead letter frees its key";
}

TEST_P(GroupStateClaim, BuriesTransientFailuresAtMaxAge) {
  log("-");
  claim("one");
  const auto unreachable = Outcome::retry("refused", FailureClass::transient, Milliseconds{0});
  EXPECT_TRUE(settle(last_claim(), 1, unreachable));
  now_ += std::chrono::hours{24};
  EXPECT_EQ(claim("one"), "1");
  EXPECT_TRUE(settle(last_claim(), 1, unreachable));
  ASSERT_EQ(dead_.size(), 1U);
  EXPECT_EQ(dead_[0].reason, "gave up after 86400 s: refused");
}

TEST_P(GroupStateClaim, RejectsAtOnce) {
  log("aa");
  claim("one");
  EXPECT_TRUE(settle(1, 1, Outcome::reject("spoiled")));
  EXPECT_TRUE(ack(1, 2)) << "not withdrawn: the key goes on after a dead letter";
  ASSERT_EQ(dead_.size(), 1U);
  EXPECT_EQ(dead_[0].reason, "rejected: spoiled");
  EXPECT_EQ(state_.progress().counters.rejected, 1U);
}

TEST_P(GroupStateClaim, SettlesExpiredEventsWithoutHandingThemOut) {
  log("a-a");
  expired_ = {1, 2};
  EXPECT_EQ(claim("one"), "3");
  EXPECT_EQ(state_.progress().counters.expired, 2U);
  EXPECT_TRUE(release(1, 3));
  EXPECT_TRUE(act([](GroupState& s) { return s.settle_expired(3); }));
  EXPECT_FALSE(act([](GroupState& s) { return s.settle_expired(3); }));
}

TEST_P(GroupStateClaim, ForgetsEverythingOnASeek) {
  log("a-a-");
  claim("one", 3);
  retry_in(1, 2, Milliseconds{10'000});
  act([](GroupState& s) { s.seek(0, 0); });
  EXPECT_FALSE(ack(1, 1)) << "stale";
  EXPECT_EQ(state_.in_flight() + state_.waiting(), 0U);
  EXPECT_EQ(claim("one"), "1 2 3 4");
  EXPECT_EQ(out_.events[1].failures, 0U);
  act([](GroupState& s) { s.seek(4, 0); });
  EXPECT_EQ(state_.progress().counters.skipped, 4U);
}

TEST_P(GroupStateClaim, SkipsOneAndFreesItsKey) {
  log("aa");
  claim("one", 1);
  EXPECT_EQ(claim("two"), "");
  EXPECT_TRUE(act([](GroupState& s) { return s.skip(1); }));
  EXPECT_FALSE(act([](GroupState& s) { return s.skip(1); }));
  EXPECT_FALSE(ack(1, 1)) << "stale";
  EXPECT_EQ(claim("two"), "2");
}

TEST_P(GroupStateClaim, RedrivesBeforeLaterEventsOfTheKey) {
  log("aaa");
  claim("one", 1);
  settle(1, 1, Outcome::reject("x"));
  EXPECT_EQ(claim("two", 1), "2");
  EXPECT_TRUE(act([](GroupState& s) { return s.redrive(1, {key_hash("a"), 10}); }));
  EXPECT_FALSE(act([](GroupState& s) { return s.redrive(1, {key_hash("a"), 10}); })) << "open already";
  EXPECT_EQ(claim("one"), "") << "its key is busy";
  EXPECT_TRUE(ack(2, 2));
  EXPECT_EQ(claim("one"), "1 3");
  EXPECT_TRUE(out_.events[0].redriven);
  EXPECT_EQ(out_.events[0].attempt, 1U);
  EXPECT_EQ(out_.events[0].failures, 0U);
  EXPECT_TRUE(ack(last_claim(), 1));
  EXPECT_EQ(redriven_done_, std::vector<Ordinal>{1});
}

TEST_P(GroupStateClaim, BuriesARedrivenEventAgain) {
  log("-");
  claim("one");
  settle(1, 1, Outcome::reject("x"));
  act([](GroupState& s) { return s.redrive(1, {0, 10}); });
  claim("one");
  EXPECT_TRUE(act([](GroupState& s) { return s.bury(1, "event_lost: gone"); }));
  EXPECT_EQ(dead_.size(), 2U);
  EXPECT_TRUE(redriven_done_.empty()) << "its row is a dead letter again";
}

TEST_P(GroupStateClaim, ForgetsWhatTheLogLost) {
  log("a-aa-");
  claim("one", 2);
  settle(1, 2, Outcome::reject("x"));
  act([](GroupState& s) { return s.redrive(2, {0, 10}); });
  EXPECT_EQ(claim("two"), "2 5");
  EXPECT_EQ(state_.oldest_open(), 1U);
  act([](GroupState& s) { s.forget_up_to(3); });
  EXPECT_EQ(state_.oldest_open(), 4U);
  EXPECT_TRUE(state_.item(2)) << "a redriven event has its own copy";
  EXPECT_EQ(claim("three"), "4") << "its key is free";
}

TEST_P(GroupStateClaim, ARedrivenEventAndAnEarlierOneOfItsKeyThatASeekBroughtBackAreNeverOutTogether) {
  log("aa");
  EXPECT_EQ(claim("one"), "1 2");
  EXPECT_TRUE(ack(1, 1));
  EXPECT_TRUE(settle(1, 2, Outcome::reject("no")));
  act([](GroupState& state) { state.seek(0, 0); });
  EXPECT_TRUE(act([](GroupState& state) { return state.redrive(2, {key_hash("a"), 10}); }));
  EXPECT_EQ(claim("one"), "2") << "asked for by name; 1 is met behind it and waits for it";
  EXPECT_TRUE(retry_in(2, 2, Milliseconds{1000}));
  EXPECT_EQ(claim("two", 100, Milliseconds{5000}), "1");
  pass(Milliseconds{1000});
  EXPECT_EQ(claim("three"), "") << "2 is due, and must not overtake 1";
  EXPECT_TRUE(ack(3, 1));
  EXPECT_EQ(claim("three"), "2");
}

}  // namespace
}  // namespace millrace::ledger
