// SPDX-License-Identifier: Apache-2.0

// Leases that run out, sessions that end, and who is charged.

#include "group_state_fixture.hpp"

namespace millrace::ledger {
namespace {

using State = PendingEvent::State;
class GroupStateLease : public GroupStateTest {};
INSTANTIATE_TEST_SUITE_P(Kept, GroupStateLease, testing::Values(false), [](const auto&) { return "InMemory"; });
INSTANTIATE_TEST_SUITE_P(Reloaded, GroupStateLease, testing::Values(true), [](const auto&) { return "FromRows"; });

TEST_P(GroupStateLease, EndsExactlyWhenItSays) {
  log("-");
  claim("one", 1, Milliseconds{1000});
  pass(Milliseconds{999});
  EXPECT_EQ(state_.in_flight(), 1U);
  pass(Milliseconds{1});
  EXPECT_EQ(state_.in_flight(), 0U);
  EXPECT_FALSE(ack(1, 1)) << "stale for ever, taken or not";
}

TEST_P(GroupStateLease, OverSeveralEventsSuspectsAllAndChargesNone) {
  log("--a-a-");
  EXPECT_EQ(claim("one", 5), "1 2 3 4 5");
  pass(Milliseconds{1000});
  EXPECT_EQ(state_.suspects(), 5U);
  EXPECT_EQ(state_.progress().counters.crashes, 0U);
  EXPECT_EQ(state_.state_of(1), State::suspect);
  EXPECT_EQ(claim("two"), "1") << "alone";
  EXPECT_EQ(claim("two"), "") << "who holds a suspect gets nothing else";
  EXPECT_EQ(claim("three"), "2");
  EXPECT_TRUE(ack(2, 1));
  EXPECT_EQ(claim("two"), "3");
  EXPECT_EQ(claim("four"), "4") << "5 is parked behind 3";
  EXPECT_EQ(claim("five"), "6") << "no suspect can be given: new events go on";
}

TEST_P(GroupStateLease, OverOneEventAloneIsACrashAndThreeBuryIt) {
  log("--");
  for (std::uint32_t crashes = 0; crashes < 3; ++crashes) {
    EXPECT_EQ(claim("one", 1), "1");
    EXPECT_EQ(out_.events[0].crashes, crashes);
    EXPECT_TRUE(dead_.empty());
    pass(Milliseconds{1000});
  }
  ASSERT_EQ(dead_.size(), 1U);
  EXPECT_EQ(dead_[0].reason, "crashed its consumer 3 times");
  EXPECT_EQ(dead_[0].item.crashes, 3U);
  EXPECT_EQ(claim("one"), "2");
}

TEST_P(GroupStateLease, BesideAnotherClaimChargesNobody) {
  log("--");
  claim("one", 1);
  claim("one", 1);
  pass(Milliseconds{1000});
  EXPECT_EQ(state_.progress().counters.crashes, 0U);
  EXPECT_EQ(state_.suspects(), 2U);
}

TEST_P(GroupStateLease, OfAClaimThatShrankToOneChargesNobody) {
  log("--");
  claim("one", 2);
  ack(1, 1);
  pass(Milliseconds{1000});
  EXPECT_EQ(state_.progress().counters.crashes, 0U);
  EXPECT_EQ(state_.suspects(), 1U);
}

TEST_P(GroupStateLease, BuriesOnlyThePoisonAmongMany) {
  log(std::string(50, '-'));
  constexpr Ordinal kPoison = 25;
  claim("consumer");
  pass(Milliseconds{1000});
  for (int turns = 0; turns < 60 && dead_.empty(); ++turns) {
    claim("consumer");
    ASSERT_EQ(out_.events.size(), 1U);
    if (out_.events[0].ordinal == kPoison) {
      pass(Milliseconds{1000});
    } else {
      EXPECT_TRUE(ack(last_claim(), out_.events[0].ordinal));
    }
  }
  ASSERT_EQ(dead_.size(), 1U);
  EXPECT_EQ(dead_[0].ordinal, kPoison);
  EXPECT_EQ(state_.progress().counters.crashes, 3U);
}

TEST_P(GroupStateLease, ARetryClearsTheSuspicion) {
  log("--");
  claim("one");
  pass(Milliseconds{1000});
  claim("one");
  EXPECT_TRUE(retry_in(last_claim(), 1, Milliseconds{0}));
  EXPECT_EQ(state_.suspects(), 1U);
  EXPECT_EQ(state_.state_of(1), State::waiting);
  EXPECT_EQ(claim("one"), "2") << "the other suspect first";
  EXPECT_TRUE(release(last_claim(), 2));
  EXPECT_EQ(state_.state_of(2), State::suspect) << "a release tells nothing";
}

TEST_P(GroupStateLease, ExtendsTheWholeClaim) {
  log("--");
  claim("one");
  pass(Milliseconds{900});
  EXPECT_TRUE(act([&](GroupState& s) { return s.extend(now_, Lease{1, Position{2}}, Milliseconds{1000}, ends()); }));
  pass(Milliseconds{900});
  EXPECT_TRUE(ack(1, 1));
  pass(Milliseconds{100});
  EXPECT_FALSE(act([&](GroupState& s) { return s.extend(now_, Lease{1, Position{2}}, Milliseconds{1000}, ends()); }));
}

TEST_P(GroupStateLease, MayBeShortenedToo) {
  log("-");
  claim("one", 1, Milliseconds{100'000});
  EXPECT_TRUE(act([&](GroupState& s) { return s.extend(now_, Lease{1, Position{1}}, Milliseconds{10}, ends()); }));
  pass(Milliseconds{10});
  EXPECT_EQ(state_.in_flight(), 0U);
}

TEST_P(GroupStateLease, RefusesNamesOfOtherClaims) {
  log("--");
  claim("one", 1);
  claim("two", 1);
  EXPECT_FALSE(ack(1, 2));
  EXPECT_FALSE(ack(0, 1));
  EXPECT_FALSE(ack(99, 1));
  EXPECT_FALSE(ack(1, 99));
  EXPECT_TRUE(ack(2, 2));
  EXPECT_FALSE(ack(2, 2));
}

TEST_P(GroupStateLease, LivesWithItsSession) {
  log("---");
  sessions_[7] = now_ + Milliseconds{1000};
  EXPECT_EQ(claim_in_session(7, 2), "1 2");
  sessions_[7] = now_ + Milliseconds{3000};
  pass(Milliseconds{2999});
  EXPECT_TRUE(ack(1, 1));
  pass(Milliseconds{1});
  EXPECT_FALSE(ack(1, 2));
  EXPECT_EQ(state_.suspects(), 1U);
}

TEST_P(GroupStateLease, IsReleasedWhenItsSessionIsClosed) {
  log("aa-");
  sessions_[7] = now_ + Milliseconds{1000};
  EXPECT_EQ(claim_in_session(7), "1 2 3");
  act([](GroupState& s) { s.release_session(7); });
  EXPECT_EQ(state_.suspects(), 0U);
  EXPECT_EQ(state_.progress().counters.crashes, 0U);
  EXPECT_EQ(claim("one"), "1 2 3");
  EXPECT_EQ(out_.events[0].attempt, 1U);
}

TEST_P(GroupStateLease, IsRenewedAfterTheStoreWasAway) {
  log("-");
  claim("one", 1, Milliseconds{1000});
  now_ += Milliseconds{50'000};
  act([&](GroupState& s) { s.renew_leases(now_); });
  EXPECT_TRUE(ack(1, 1));
}

TEST_P(GroupStateLease, TellsWhenToLookAgain) {
  log("-");
  claim("one", 1, Milliseconds{1000});
  pass(Milliseconds{400});
  EXPECT_EQ(claim("two"), "");
  EXPECT_EQ(out_.next_due, Milliseconds{600});
}

}  // namespace
}  // namespace millrace::ledger
