// SPDX-License-Identifier: Apache-2.0

// Decisions on a group whose answer never came, and servers that forgot some of them.

#include <future>

#include "redis_ledger_support.hpp"
#include "store/redis/scripts.hpp"
#include "support/gate.hpp"

namespace millrace::store::redis {
namespace {

using namespace std::chrono_literals;

class RedisLostAnswer : public RedisLedgerTest {
 protected:
  [[nodiscard]] RedisUrl through_gate(const std::string& options = "connect_timeout=20000") const {
    return parse_redis_url("redis://127.0.0.1:" + std::to_string(gate_.port()) + "?durability=memory&" + options);
  }
  void lose_answer_to(const Script& script) { gate_.lose_answer_to(script.sha1); }
  static Errc code_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return Errc::internal;
  }
  /// All keys as they are, and back again: what a server has that lost its last writes.
  std::vector<Command> snapshot() {
    std::vector<Command> commands{{"FLUSHALL"}};
    const Reply keys = redis({"KEYS", "*"});
    for (const Reply& key : keys.as_array()) {
      commands.push_back({"RESTORE", key.text, "0", redis({"DUMP", key.text}).as_text()});
    }
    return commands;
  }
  void bring_back(const std::vector<Command>& commands) {
    for (const Command& command : commands) redis(command);
  }

  test::Gate gate_{server().socket()};
};

TEST_F(RedisLostAnswer, AClaimThatWasWrittenIsHandedOut) {
  Process process(through_gate());
  process.make_group("g");
  append(3);
  const SessionId session = process.ledger().open_session("c", 60s);
  lose_answer_to(scripts::commit);
  const auto claimed = process.claim("g", "c", 10, session);
  EXPECT_FALSE(gate_.losing());
  ASSERT_EQ(claimed.size(), 3U);
  EXPECT_EQ(claimed[0].attempt, 1U);
  EXPECT_TRUE(process.settle("g", claimed, Outcome::ack()).empty());
  EXPECT_EQ(process.ledger().group("g").processed, 3U);
}

TEST_F(RedisLostAnswer, ASettleThatWasWrittenIsDoneAndNotStale) {
  Process process(through_gate());
  process.make_group("g");
  append(2);
  const auto claimed = process.claim("g", "c", 10);
  ASSERT_EQ(claimed.size(), 2U);
  lose_answer_to(scripts::commit);
  EXPECT_TRUE(process.settle("g", claimed, Outcome::ack()).empty());
  EXPECT_FALSE(gate_.losing());
  EXPECT_EQ(process.settle("g", claimed, Outcome::ack()).size(), 2U) << "it was done once";
  EXPECT_EQ(process.ledger().group("g").processed, 2U);
}

TEST_F(RedisLostAnswer, AClaimNobodyCanLookUpIsGivenBackUncharged) {
  Process process(through_gate("connect_timeout=100"));
  process.make_group("g");
  append(1);
  const SessionId session = process.ledger().open_session("c", 600s);
  lose_answer_to(scripts::commit);
  gate_.refuse(true);
  EXPECT_EQ(code_of([&] { process.claim("g", "c", 1, session); }), Errc::outcome_unknown);
  EXPECT_FALSE(gate_.losing());
  gate_.refuse(false);
  std::vector<Delivery> claimed;
  EXPECT_TRUE(eventually([&] {
    try {
      claimed = process.claim("g", "c", 1, session);
    } catch (const Error&) {
      return false;  // not connected yet
    }
    return !claimed.empty();
  })) << "its session lives, and nobody has it";
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0].attempt, 1U);
  EXPECT_EQ(claimed[0].crashes, 0U);
}

TEST_F(RedisLostAnswer, AClaimThatOthersCommittedAfterIsGivenBackUncharged) {
  Process process(through_gate()), other(*this);
  process.make_group("g");
  append(2);
  const SessionId session = process.ledger().open_session("c", 600s);
  lose_answer_to(scripts::commit);
  gate_.refuse(true);
  auto claim = std::async(std::launch::async, [&] { return code_of([&] { process.claim("g", "c", 1, session); }); });
  ASSERT_TRUE(eventually([&] { return !gate_.losing() && native("g", "pending").integer == 1; }));
  const auto others = other.claim("g", "other", 1);
  gate_.refuse(false);
  EXPECT_EQ(claim.get(), Errc::outcome_unknown) << "its version is not the last one any more";
  ASSERT_EQ(others.size(), 1U);
  const auto again = process.claim("g", "c", 10, session);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_NE(again[0].position, others[0].position);
  EXPECT_EQ(again[0].attempt, 1U);
  EXPECT_EQ(other.ledger().group("g").lag.in_flight, 2U);
}

TEST_F(RedisLostAnswer, WhatStandsBesideAClaimDoesNotLoseIt) {
  Process process(through_gate("connect_timeout=100"));
  process.make_group("g");
  redis({"XADD", kLog, "*", "no type", "x"});
  append(1);
  lose_answer_to(scripts::aside);
  EXPECT_EQ(process.claim("g", "c", 10).size(), 1U) << "counting what was set aside failed, nothing else";
  EXPECT_FALSE(gate_.losing());
}

TEST_F(RedisLostAnswer, NoVersionIsUsedTwiceByAServerThatLostItsLastWrites) {
  Process one(*this), other(*this);
  one.make_group("g");
  append(1);
  const auto before = snapshot();
  const auto lost = one.claim("g", "one", 1);
  ASSERT_EQ(lost.size(), 1U);
  bring_back(before);  // neither has seen its connection go
  const auto held = other.claim("g", "other", 1);
  ASSERT_EQ(held.size(), 1U);
  EXPECT_NE(held[0].lease.claim, lost[0].lease.claim);
  EXPECT_EQ(one.settle("g", lost, Outcome::ack()).size(), 1U) << "the server does not know of it";
  EXPECT_EQ(other.ledger().group("g").processed, 0U);
  EXPECT_TRUE(other.settle("g", held, Outcome::ack()).empty());
  EXPECT_EQ(other.ledger().group("g").processed, 1U);
}

TEST_F(RedisLostAnswer, AUserWhoMayTellNobodyStillDecides) {
  redis({"ACL", "SETUSER", "mute", "on", ">pw", "~*", "resetchannels", "+@all"});
  RedisUrl url = this->url();
  url.user = "mute";
  url.password = "pw";
  Process process(url);
  process.make_group("g");
  append(1);
  const auto claimed = process.claim("g", "c", 1);
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_TRUE(process.settle("g", claimed, Outcome::retry("later", FailureClass::handler, 0ms)).empty());
  EXPECT_EQ(process.claim("g", "c", 1).size(), 1U);
}

}  // namespace
}  // namespace millrace::store::redis
