// SPDX-License-Identifier: Apache-2.0

// Events that are opened once more by a replay, and what the history is told of everything that was settled.

#include "group_state_fixture.hpp"

namespace millrace::ledger {
namespace {

using State = PendingEvent::State;
using Told = std::vector<std::string>;
class GroupStateReplay : public GroupStateTest {
 protected:
  bool replay(Ordinal ordinal, const std::string& id = "r", bool dead = false) {
    return act([&](GroupState& group) {
      return group.replay(ordinal, {key_hash(keys_.at(ordinal - 1)), 10}, id, dead);
    });
  }
  void ack_all() {
    const auto given = out_;
    for (const auto& one : given.events) ASSERT_TRUE(ack(given.claim, one.ordinal));
  }
};
INSTANTIATE_TEST_SUITE_P(Kept, GroupStateReplay, testing::Values(false), [](const auto&) { return "InMemory"; });
INSTANTIATE_TEST_SUITE_P(Reloaded, GroupStateReplay, testing::Values(true), [](const auto&) { return "FromRows"; });

TEST_P(GroupStateReplay, OpensASettledEventAfreshAndOnce) {
  log("--");
  claim("one");
  retry_in(1, 1, Milliseconds{0});
  ack(1, 2);
  claim("one");
  ack(2, 1);
  EXPECT_TRUE(replay(1));
  EXPECT_FALSE(replay(1)) << "it is open";
  EXPECT_EQ(state_.oldest_open(), 1U) << "a trim stops before it";
  EXPECT_EQ(claim("two"), "1");
  EXPECT_EQ(out_.events[0].attempt, 1U);
  EXPECT_EQ(out_.events[0].failures, 0U);
  EXPECT_EQ(state_.item(1)->replayid, "r");
  EXPECT_TRUE(retry_in(3, 1, Milliseconds{0}));
  EXPECT_EQ(claim("two"), "1");
  EXPECT_EQ(state_.item(1)->replayid, "r") << "a retry belongs to the replay still";
  EXPECT_TRUE(ack(4, 1));
  EXPECT_EQ(state_.item(1), nullptr);
}

TEST_P(GroupStateReplay, WhatIsParkedIsCountedWhetherLoadedOrNot) {
  log("aaa");
  claim("one");
  ack_all();
  for (const Ordinal ordinal : {1U, 2U, 3U}) EXPECT_TRUE(replay(ordinal));
  const auto parked = [&] { return act([](const GroupState& group) { return group.parked(); }); };
  EXPECT_EQ(parked(), 2U);
  EXPECT_EQ(claim("two", 1), "1");
  EXPECT_EQ(parked(), 2U);
  EXPECT_TRUE(ack(2, 1));
  EXPECT_EQ(parked(), 1U);
}

TEST_P(GroupStateReplay, KeepsTheOrderOfItsKey) {
  log("aaba");
  claim("one", 2);
  ack_all();
  EXPECT_EQ(claim("one"), "3 4");
  EXPECT_TRUE(replay(2));
  EXPECT_TRUE(replay(1));
  EXPECT_EQ(state_.state_of(1), State::parked);
  EXPECT_EQ(state_.parked_behind(1), 4U) << "the later one is out already";
  EXPECT_EQ(state_.parked_behind(2), 1U);
  EXPECT_EQ(claim("two"), "");
  EXPECT_TRUE(ack(2, 4));
  EXPECT_EQ(claim("two", 1), "1");
  EXPECT_EQ(claim("three"), "") << "2 waits for 1";
  log("a");
  EXPECT_EQ(claim("three"), "") << "and so does what is new";
  EXPECT_TRUE(ack(4, 1));
  EXPECT_EQ(claim("three"), "2 5");
}

TEST_P(GroupStateReplay, IsForgottenByASeekUnlessItLayDead) {
  log("---");
  claim("one");
  ack(1, 1);
  ack(1, 2);
  settle(1, 3, Outcome::reject("no"));
  replay(1);
  replay(3, "r", true);
  act([](GroupState& group) { group.seek(3, 0); });
  EXPECT_EQ(state_.item(1), nullptr);
  EXPECT_EQ(state_.progress().counters.skipped, 1U);
  EXPECT_EQ(claim("one"), "3") << "its bytes stand in the dead letters, and somebody asked for it by name";
  EXPECT_EQ(state_.item(3)->replayid, "r");
  EXPECT_TRUE(ack(2, 3));
  EXPECT_EQ(redriven_done_, std::vector<Ordinal>{3}) << "the dead letter is done with";
}

TEST_P(GroupStateReplay, DiesAsAnyOtherAndIsRedrivenWithoutItsReplay) {
  log("-");
  claim("one");
  ack(1, 1);
  replay(1);
  claim("one");
  settle(2, 1, Outcome::reject("no"));
  ASSERT_EQ(dead_.size(), 1U);
  EXPECT_FALSE(dead_[0].item.redriven) << "the store copies it from the log";
  act([](GroupState& group) { return group.redrive(1, {0, 10}); });
  EXPECT_EQ(claim("one"), "1");
  EXPECT_EQ(state_.item(1)->replayid, "");
}

TEST_P(GroupStateReplay, IsSkippedExpiredAndLostAsAnyOther) {
  log("---");
  claim("one");
  ack_all();
  settled_.clear();
  for (const Ordinal ordinal : {1U, 2U, 3U}) replay(ordinal);
  act([](GroupState& group) { return group.skip(2); });
  act([](GroupState& group) { return group.settle_expired(3); });
  act([](GroupState& group) { group.forget_up_to(1); });
  EXPECT_EQ(state_.items().size(), 0U);
  EXPECT_EQ(state_.progress().counters.skipped, 2U);
  EXPECT_EQ(state_.progress().counters.expired, 1U);
  EXPECT_EQ(settled_, (Told{"nobody: 2", "nobody: 3", "nobody: 1"}));
}

TEST_P(GroupStateReplay, TellsTheHistoryOfAClaimWhenItIsThrough) {
  log("-----");
  claim("one", 3);
  claim("two");
  ack(1, 1);
  ack(1, 2);
  EXPECT_EQ(settled_, Told{});
  ack(1, 3);
  EXPECT_EQ(settled_, Told{"claim 1: 1-3"});
  ack(2, 5);
  ack(2, 4);
  EXPECT_EQ(settled_, (Told{"claim 1: 1-3", "claim 2: 4-5"}));
}

TEST_P(GroupStateReplay, TellsTheHistoryWhatAClaimDidNotSettle) {
  log("-a-a-");
  claim("one", 2);
  EXPECT_EQ(claim("two"), "3 5") << "4 is parked behind 2";
  ack_all();
  EXPECT_EQ(settled_, Told{"claim 2: 3-5 but 4"});
  retry_in(1, 1, Milliseconds{0});
  ack(1, 2);
  EXPECT_EQ(claim("three"), "1 4");
  ack_all();
  EXPECT_EQ(settled_, (Told{"claim 2: 3-5 but 4", "claim 1: 1-2 but 1", "claim 3: again 1,4"}));
}

TEST_P(GroupStateReplay, TellsTheHistoryOfWhatExpiredBeforeItWasHandedOut) {
  log("-----");
  expired_ = {1, 2};
  EXPECT_EQ(claim("one", 1), "3");
  ack_all();
  EXPECT_EQ(settled_, Told{"claim 1: 1-3 but 1-2"});
  settled_.clear();
  expired_ = {4, 5};
  EXPECT_EQ(claim("one"), "");
  EXPECT_EQ(settled_, Told{"nobody: 4-5 but 4-5"});
}

TEST_P(GroupStateReplay, TellsTheHistoryThatASeekSettledWhatWasClaimed) {
  log("---");
  claim("one");
  ack(1, 2);
  act([](GroupState& group) { group.seek(0, 0); });
  EXPECT_EQ(settled_, Told{"claim 1: 1-3 but 1,3"});
  claim("one");
  settled_.clear();
  ack_all();
  EXPECT_EQ(settled_, Told{"claim 2: 1-3 in pass 1"}) << "in a pass of its own, so that ranges do not overlap";
}

}  // namespace
}  // namespace millrace::ledger
