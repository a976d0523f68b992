// SPDX-License-Identifier: Apache-2.0

// What a neighbour removes while a group holds it. (What it does to the native group alone changes nothing: the option
// set `redis_neighbour` of the conformance suite.)

#include "redis_ledger_support.hpp"
#include "store/redis/position.hpp"

namespace millrace::store::redis {
namespace {

using namespace std::chrono_literals;

/// What a neighbour can do to every entry there is.
enum class Removal { xdel, xtrim, del };

class RedisNeighbourTest : public RedisLedgerTest, public testing::WithParamInterface<Removal> {
 protected:
  void remove(const std::vector<Position>& positions) {
    switch (GetParam()) {
      case Removal::xdel:
        for (const Position& position : positions) redis({"XDEL", kLog, position.to_string()});
        return;
      case Removal::xtrim:
        redis({"XTRIM", kLog, "MAXLEN", "0"});
        return;
      case Removal::del:
        redis({"DEL", kLog});
        return;
    }
  }
  static std::vector<std::string> reasons(Process& process) {
    std::vector<std::string> all;
    for (const DeadLetter& letter : process.ledger().dead_letters("g", {})) {
      all.push_back(letter.reason.substr(0, letter.reason.find(':')));
    }
    return all;
  }
};

TEST_P(RedisNeighbourTest, WhatIsAcknowledgedAllTheSameIsSettled) {
  Process process(*this);
  process.make_group("g");
  const auto positions = append(4);
  const auto held = process.claim("g", "worker", 4);
  remove(positions);
  EXPECT_TRUE(process.settle("g", held, Outcome::ack()).empty());
  EXPECT_EQ(process.ledger().group("g").processed, 4U);
  EXPECT_TRUE(reasons(process).empty());
}

TEST_P(RedisNeighbourTest, WhatIsToBeTriedAgainIsADeadLetterThatSaysSo) {
  Process process(*this);
  process.make_group("g", OrderRule::parse("none"));
  const auto positions = append(2);
  const auto held = process.claim("g", "worker", 2);
  remove(positions);
  EXPECT_TRUE(process.settle("g", held, Outcome::retry("again", FailureClass::handler, 0ms)).empty());
  EXPECT_TRUE(process.claim("g", "worker", 10).empty());
  EXPECT_EQ(reasons(process), (std::vector<std::string>{"event_lost", "event_lost"}));
  EXPECT_EQ(process.ledger().group("g").lag.waiting, 0U);
}

TEST_P(RedisNeighbourTest, WhatIsRejectedKeepsItsReason) {
  Process process(*this);
  process.make_group("g");
  const auto positions = append(1);
  const auto held = process.claim("g", "worker", 1);
  remove(positions);
  EXPECT_TRUE(process.settle("g", held, Outcome::reject("spoiled")).empty());
  EXPECT_EQ(reasons(process), std::vector<std::string>{"rejected"});
}

TEST_P(RedisNeighbourTest, AClaimThatRunsOutOverItEndsInADeadLetterThatSaysSo) {
  Process process(*this);
  Process other(*this);
  process.make_group("g");
  const auto positions = append(3);
  ASSERT_EQ(process.claim("g", "worker", 3, 100ms).size(), 3U);
  remove(positions);
  // They were suspects, one at a time; none of them can be handed out any more.
  ASSERT_TRUE(eventually([&] {
    EXPECT_TRUE(other.claim("g", "other", 10).empty());
    return reasons(other).size() == 3U;
  }));
  EXPECT_EQ(reasons(other), (std::vector<std::string>{"event_lost", "event_lost", "event_lost"}));
  const GroupInfo info = other.ledger().group("g");
  EXPECT_EQ(info.lag.in_flight + info.lag.waiting + info.lag.ahead, 0U);
  append(1);
  EXPECT_EQ(other.claim("g", "other", 10).size(), 1U) << "it goes on";
}

TEST_F(RedisLedgerTest, AGroupThatANeighbourSetAheadIsToldAsItIsNow) {
  Process process(*this);
  process.make_group("g");
  const auto positions = append(5);
  process.claim("g", "worker", 2);
  log().trim(kDefaultStream, {.max_events = 0, .force = true});  // somebody else moved the group on
  redis({"XGROUP", "SETID", kLog, "g", "$"});
  EXPECT_EQ(process.ledger().group("g").cursor, positions.back());
}

INSTANTIATE_TEST_SUITE_P(By, RedisNeighbourTest, testing::Values(Removal::xdel, Removal::xtrim, Removal::del),
                         [](const auto& param) {
                           return param.param == Removal::xdel    ? "xdel"
                                  : param.param == Removal::xtrim ? "xtrim"
                                                                  : "del";
                         });

}  // namespace
}  // namespace millrace::store::redis
