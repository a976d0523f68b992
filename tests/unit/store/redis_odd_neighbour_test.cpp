// SPDX-License-Identifier: Apache-2.0

// What neighbours on the same server leave behind, and more than fits into one command.

#include "redis_ledger_support.hpp"

namespace millrace::store::redis {
namespace {

using namespace std::chrono_literals;

class RedisOddNeighbour : public RedisLedgerTest {
 protected:
  /// Entries in our format, but by somebody else, at ids of their own: `count` from `first` on within a millisecond.
  void add_at(std::uint64_t milliseconds, std::uint64_t first, std::size_t count, const std::string& log = kLog) {
    const std::string script =
        "for i = 0, ARGV[3] - 1 do redis.call('XADD', KEYS[1], ARGV[1] .. '-' .. string.format('%.0f', ARGV[2] + i), "
        "'id', ARGV[1] .. '-' .. i, 'source', '/theirs', 'type', 't') end return 1";
    redis({"EVAL", script, "1", log, std::to_string(milliseconds), std::to_string(first), std::to_string(count)});
  }
};

TEST_F(RedisOddNeighbour, EntriesThatDoNotFitHoldNobodyUp) {
  Process process(*this);
  process.make_group("g", OrderRule::parse("none"));
  const Position before = append(1)[0];
  add_at(before.high, kSequenceEnd, 1);
  append(1);
  add_at(before.high + 60'000, kSequenceEnd, 12'000);
  append(2);
  std::size_t got = 0;
  for (int i = 0; i < 20 && got < 4; ++i) {
    const auto claimed = process.claim("g", "c", 1);
    got += claimed.size();
    EXPECT_TRUE(process.settle("g", claimed, Outcome::ack()).empty());
  }
  EXPECT_EQ(got, 4U);
}

TEST_F(RedisOddNeighbour, EntriesThatDoNotFitAreNotTakenForTheLossOfOthers) {
  add_at(1'000, 1, 1, "theirs:all:stream");
  add_at(1'000, kSequenceEnd, 600, "theirs:all:stream");
  add_at(1'001, 0, 70, "theirs:all:stream");
  log().create_stream("theirs");
  Process process(*this);
  process.ledger().ensure_group("g", {.stream = StreamName("theirs"), .start = Start::beginning()});
  const auto claimed = process.claim("g", "c", 1'000);
  ASSERT_EQ(claimed.size(), 71U);
  EXPECT_TRUE(process.settle("g", claimed, Outcome::release()).empty());
  Process other(*this);
  EXPECT_EQ(other.claim("g", "c", 1'000).size(), 71U);
  EXPECT_TRUE(other.ledger().dead_letters("g", {}).empty());
}

TEST_F(RedisOddNeighbour, WhatAForeignConsumerHoldsIsKnownBeyondEntriesThatDoNotFit) {
  Process process(*this);
  process.make_group("g", OrderRule::parse("none"));
  const Position first = append(1)[0];
  add_at(first.high, kSequenceEnd, 3);
  append(1);
  add_at(first.high + 60'000, kSequenceEnd, 1);  // the last that is read natively
  redis({"XREADGROUP", "GROUP", "g", "stranger", "COUNT", "100", "STREAMS", kLog, ">"});
  EXPECT_EQ(process.ledger().pending("g", {}, 10).size(), 2U);
  append(1);
  EXPECT_EQ(process.claim("g", "c", 10).size(), 1U) << "what comes after it is not passed over";
}

TEST_F(RedisOddNeighbour, AGroupThatBeginsAtAnEntryThatDoesNotFitGoesOn) {
  const Position first = append(1)[0];
  add_at(first.high, kSequenceEnd, 1);
  Process process(*this);
  process.ledger().ensure_group("g", {.stream = StreamName(kDefaultStream), .start = Start::end()});
  append(1);
  EXPECT_EQ(process.claim("g", "c", 10).size(), 1U);
}

TEST_F(RedisOddNeighbour, WhatAForeignConsumerHeldIsNotSettledByDeletingIt) {
  std::size_t events = 0;
  for (const bool whole_group : {false, true}) {
    const GroupName name(whole_group ? "destroyed" : "deleted");
    Process process(*this, {.foreign_idle = 200ms});
    process.make_group(name, OrderRule::parse("none"));
    events += append(2).size();
    redis({"XREADGROUP", "GROUP", name.str(), "stranger", "COUNT", "100", "STREAMS", kLog, ">"});
    EXPECT_FALSE(process.ledger().pending(name, {}, 10).empty());
    if (whole_group) {
      redis({"XGROUP", "DESTROY", kLog, name.str()});
    } else {
      redis({"XGROUP", "DELCONSUMER", kLog, name.str(), "stranger"});
    }
    std::size_t got = 0;
    EXPECT_TRUE(eventually([&] {
      const auto claimed = process.claim(name, "c", 10);
      EXPECT_TRUE(process.settle(name, claimed, Outcome::ack()).empty());
      got += claimed.size();
      return got >= events;
    }));
    EXPECT_EQ(process.ledger().group(name).processed, events);
  }
}

TEST_F(RedisOddNeighbour, AStreamOfWhichOnlyPartsAreLeftIsMade) {
  redis({"HSET", "millrace:stream:left", "last_trim_at", "1", "retention", "{}"});
  log().create_stream("left");
  EXPECT_EQ(log().stream("left").events, 0U);
  EXPECT_FALSE(log().stream("left").last_trim_at);
}

TEST_F(RedisOddNeighbour, ATrimOfAStreamThatWasFlushedMeanwhileLeavesNothing) {
  append(1);
  redis({"DEL", "millrace:stream:events"});
  try {
    log().trim(kDefaultStream, {.max_events = 0});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unknown_stream);
  }
  make_streams();
  EXPECT_EQ(log().stream(kDefaultStream).name, StreamName(kDefaultStream));
}

TEST_F(RedisOddNeighbour, AnyNumberOfDeadLettersIsRedrivenAndPurged) {
  constexpr std::uint64_t kLetters = 48'000;  // a step for all of them would be more words than a command has
  Process process(*this);
  for (const auto& [group, letters] : {std::pair("a", kLetters), std::pair("b", std::uint64_t{2'500})}) {
    process.make_group(group, OrderRule::parse("none"));
    const std::string script =
        "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], '1000-' .. i, 'died_at=1 redriven=0 attempts=1 failures=1 "
        "crashes=0 reason=no') redis.call('ZADD', KEYS[2], 0, string.format('%013.0f-%07.0f', 1000, i)) end return 1";
    redis({"EVAL", script, "2", std::string("millrace:group:") + group + ":dead",
           std::string("millrace:group:") + group + ":dead:order", std::to_string(letters)});
  }
  EXPECT_EQ(process.ledger().redrive("a", {}), kLetters);
  EXPECT_EQ(process.ledger().group("a").lag.waiting, kLetters);
  EXPECT_EQ(process.ledger().redrive("a", {}), 0U);
  EXPECT_EQ(process.ledger().purge("b", {.dry_run = true}), 2'500U);
  EXPECT_EQ(process.ledger().purge("b", {}), 2'500U);
  EXPECT_EQ(process.ledger().group("b").dead, 0U);
}

}  // namespace
}  // namespace millrace::store::redis
