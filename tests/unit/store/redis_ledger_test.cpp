// SPDX-License-Identifier: Apache-2.0

// The ledger on a real server: several processes' view of one group, neighbours, and what redis-cli shows.

#include "store/redis/ledger.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "millrace/replay.hpp"
#include "redis_ledger_support.hpp"

namespace millrace::store::redis {
namespace {

using State = PendingEvent::State;
using namespace std::chrono_literals;

TEST_F(RedisLedgerTest, TwoProcessesShareAGroupAndNoEventIsHandedOutTwice) {
  Process one(*this), other(*this);
  one.make_group("g", OrderRule::parse("none"));
  append(200);
  std::set<Position> seen;
  for (int i = 0; i < 10; ++i) {
    for (Process* process : {&one, &other}) {
      const auto deliveries = process->claim("g", "c", 10);
      EXPECT_EQ(deliveries.size(), 10U);
      for (const Delivery& delivery : deliveries) EXPECT_TRUE(seen.insert(delivery.position).second);
      EXPECT_TRUE(process->settle("g", deliveries, Outcome::ack()).empty());
    }
  }
  EXPECT_EQ(seen.size(), 200U);
  EXPECT_GT(one.ledger().figures().lost_races + other.ledger().figures().lost_races, 0U);
  EXPECT_EQ(one.ledger().group("g").processed, 200U);
}

TEST_F(RedisLedgerTest, ManyThreadsOfSeveralProcessesMakeProgressAgainstEachOther) {
  constexpr std::size_t kEvents = 600;
  Process processes[3] = {Process(*this), Process(*this), Process(*this)};
  processes[0].make_group("g");
  append(kEvents, "key");
  std::mutex mutex;
  std::map<Position, int> acked;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      Process& process = processes[t % 3];
      while (process.ledger().group("g").processed < kEvents) {
        const auto deliveries = process.claim("g", "c" + std::to_string(t), 7);
        EXPECT_TRUE(process.settle("g", deliveries, Outcome::ack()).empty());
        const std::lock_guard lock(mutex);
        for (const Delivery& delivery : deliveries) ++acked[delivery.position];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(acked.size(), kEvents);
  EXPECT_TRUE(std::all_of(acked.begin(), acked.end(), [](const auto& one) { return one.second == 1; }));
}

TEST_F(RedisLedgerTest, WhatComesNextIsReadWhileAClaimIsInHand) {
  Process process(*this, {.keeps_house = false});  // who works on the group at the same time is not waited for
  process.make_group("g", OrderRule::parse("none"));
  append(40);
  redis({"CONFIG", "RESETSTAT"});
  const auto reads = [this] {
    const std::string stats = redis({"INFO", "commandstats"}).as_text();
    const auto at = stats.find("cmdstat_xrange:calls=");
    return at == std::string::npos ? 0 : std::stoi(stats.substr(at + 21));
  };
  for (int claim = 1; claim <= 3; ++claim) {
    const auto deliveries = process.claim("g", "c", 10);
    ASSERT_EQ(deliveries.size(), 10U);
    EXPECT_EQ(deliveries[0].event.id, "e" + std::to_string(10 * (claim - 1)));
    // One for the first claim, and one in advance after each.
    EXPECT_TRUE(eventually([&] { return reads() == claim + 1; })) << reads();
    EXPECT_TRUE(process.settle("g", deliveries, Outcome::ack()).empty());
  }
  EXPECT_EQ(reads(), 4);
  append(5);  // what was read ahead does not know of them
  EXPECT_EQ(process.claim("g", "c", 100).size(), 15U);
  EXPECT_EQ(process.claim("g", "c", 100).size(), 0U);
}

TEST_F(RedisLedgerTest, WhatWasReadAheadIsHandedOutOnlyAsItIsByThen) {
  Process process(*this, {.keeps_house = false});  // who works on the group at the same time is not waited for
  process.make_group("g", OrderRule::parse("none"));
  const auto positions = append(40);
  redis({"CONFIG", "RESETSTAT"});
  const auto read = [this](int times) {
    return eventually([&] {
      return redis({"INFO", "commandstats"}).as_text().find(fmt::format("cmdstat_xrange:calls={},", times)) !=
             std::string::npos;
    });
  };
  ASSERT_EQ(process.claim("g", "c", 10).size(), 10U);
  ASSERT_TRUE(read(2));
  redis({"XDEL", kLog, id_of(positions[11])});
  auto deliveries = process.claim("g", "c", 9);
  ASSERT_EQ(deliveries.size(), 9U);
  EXPECT_EQ(deliveries[0].event.id, "e10");
  EXPECT_EQ(deliveries[1].event.id, "e12");
  EXPECT_EQ(process.ledger().figures().lost_races, 1U);

  redis({"CONFIG", "RESETSTAT"});
  ASSERT_EQ(process.claim("g", "c", 5).size(), 5U);
  ASSERT_TRUE(read(2));
  ASSERT_TRUE(log().erase(StreamName(kDefaultStream), "/test", "e26"));
  deliveries = process.claim("g", "c", 5);
  ASSERT_EQ(deliveries.size(), 5U);
  EXPECT_EQ(deliveries[0].event.id, "e25");
  EXPECT_EQ(deliveries[1].event.id, "e26");
  EXPECT_FALSE(deliveries[1].event.data);
}

TEST_F(RedisLedgerTest, WhoLostTooManyRacesIsLetGoFirst) {
  Process one(*this), other(*this);
  one.make_group("g", OrderRule::parse("none"));
  append(2);
  ASSERT_EQ(one.claim("g", "c", 1).size(), 1U);
  const std::string turn = "millrace:group:g:turn";
  redis({"SET", turn, "a process that died", "PX", "200"});
  EXPECT_EQ(other.claim("g", "c", 1).size(), 1U) << "nobody is waited for for long";
  EXPECT_GT(other.ledger().figures().lost_races, 2U);
  EXPECT_EQ(redis({"EXISTS", turn}).integer, 0);
}

TEST_F(RedisLedgerTest, ALateSettleIsRefusedThoughItsProcessKnowsNothingOfIt) {
  Process slow(*this), quick(*this);
  slow.make_group("g");
  append(1);
  const auto late = slow.claim("g", "slow", 1, 30ms);
  ASSERT_EQ(late.size(), 1U);
  std::this_thread::sleep_for(60ms);
  const auto again = quick.claim("g", "quick", 1);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].attempt, 2U);
  EXPECT_EQ(again[0].crashes, 1U);
  EXPECT_EQ(slow.settle("g", late, Outcome::ack()).size(), 1U);
  EXPECT_TRUE(quick.settle("g", again, Outcome::ack()).empty());
  EXPECT_EQ(slow.ledger().group("g").processed, 1U);
}

TEST_F(RedisLedgerTest, ASessionRenewedByItsProcessIsNotTakenForEndedByAnother) {
  Process owner(*this), other(*this);
  owner.make_group("g");
  append(2);
  const SessionId session = owner.ledger().open_session("owner", 400ms);
  const auto held = owner.claim("g", "owner", 1, session);
  ASSERT_EQ(held.size(), 1U);
  ASSERT_EQ(other.ledger().pending("g", {}, 10).size(), 1U);  // it has seen the session now
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(120ms);
    ASSERT_TRUE(owner.ledger().renew_session(session));
  }
  EXPECT_EQ(other.claim("g", "other", 10).size(), 1U);
  EXPECT_EQ(other.ledger().group("g").crashes, 0U);
  EXPECT_TRUE(owner.settle("g", held, Outcome::ack()).empty());
}

TEST_F(RedisLedgerTest, TheClaimsOfAProcessThatDiedMoveWhenItsSessionEnds) {
  Process survivor(*this);
  survivor.make_group("g");
  append(1);
  std::vector<Delivery> lost;
  {
    Process dies(*this);
    const SessionId session = dies.ledger().open_session("dies", 150ms);
    lost = dies.claim("g", "dies", 1, session);
    ASSERT_EQ(lost.size(), 1U);
  }
  EXPECT_TRUE(survivor.claim("g", "survivor", 1).empty());
  std::this_thread::sleep_for(200ms);
  const auto taken = survivor.claim("g", "survivor", 1);
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].crashes, 1U);
  EXPECT_EQ(survivor.settle("g", lost, Outcome::ack()).size(), 1U);
}

TEST_F(RedisLedgerTest, ClosingASessionReleasesWhatItHoldsInEveryGroup) {
  Process one(*this), other(*this);
  one.make_group("a");
  one.make_group("b");
  append(1);
  const SessionId session = one.ledger().open_session("c", 60s);
  ASSERT_EQ(one.claim("a", "c", 1, session).size(), 1U);
  ASSERT_EQ(other.claim("b", "c", 1, session).size(), 1U);  // claimed by way of another process
  one.ledger().close_session(session);
  for (const char* group : {"a", "b"}) {
    const GroupInfo info = other.ledger().group(group);
    EXPECT_EQ(info.lag.waiting, 1U);
    EXPECT_EQ(info.suspects, 0U);
    EXPECT_EQ(info.crashes, 0U);
  }
  EXPECT_THROW(other.claim("b", "c", 1, session), Error);
}

// ---- What redis-cli shows ----

TEST_F(RedisLedgerTest, TheNativeGroupShowsWhoHoldsWhatAndHowFarItHasRead) {
  Process process(*this);
  process.make_group("g");
  const auto positions = append(10);
  const auto held = process.claim("g", "worker", 4);
  ASSERT_EQ(held.size(), 4U);
  EXPECT_EQ(native("g", "pending").integer, 4);
  EXPECT_EQ(native("g", "last-delivered-id").text, id_of(positions[3]));
  EXPECT_EQ(native("g", "entries-read").integer, 4);
  EXPECT_EQ(native("g", "lag").integer, 6);
  const std::string consumer = "worker#" + std::to_string(held[0].lease.claim);
  EXPECT_EQ(redis({"XPENDING", kLog, "g", "-", "+", "10", consumer}).items.size(), 4U);

  process.settle("g", {held[0]}, Outcome::ack());
  process.settle("g", {held[1]}, Outcome::retry("later", FailureClass::handler, 0ms));
  EXPECT_EQ(native("g", "pending").integer, 2);
  const auto again = process.claim("g", "other", 1);
  ASSERT_EQ(again.size(), 1U);
  const Reply row = redis({"XPENDING", kLog, "g", id_of(again[0].position), id_of(again[0].position), "1"});
  ASSERT_EQ(row.items.size(), 1U);
  EXPECT_EQ(row.items[0].items[1].text, "other#" + std::to_string(again[0].lease.claim));
  EXPECT_EQ(row.items[0].items[3].integer, 2);

  process.settle("g", again, Outcome::ack());
  process.settle("g", {held[2], held[3]}, Outcome::reject("no"));
  EXPECT_EQ(native("g", "pending").integer, 0);
  EXPECT_EQ(native("g", "consumers").integer, 0);
  EXPECT_EQ(process.ledger().figures().native_failures, 0U);
}

// ---- Neighbours ----

TEST_F(RedisLedgerTest, WhatANeighbourDoesToTheNativeGroupSettlesNothing) {
  Process process(*this);
  process.make_group("g");
  const auto positions = append(6);
  const auto held = process.claim("g", "worker", 6);
  ASSERT_EQ(held.size(), 6U);
  redis({"XACK", kLog, "g", id_of(positions[0]), id_of(positions[1])});
  redis({"XAUTOCLAIM", kLog, "g", "thief", "0", "0", "COUNT", "100"});
  redis({"XDEL", kLog, id_of(positions[2])});
  const GroupInfo info = process.ledger().group("g");
  EXPECT_EQ(info.processed, 0U);
  EXPECT_EQ(info.lag.in_flight, 6U);
  EXPECT_TRUE(process.claim("g", "other", 10).empty());
  EXPECT_TRUE(process.settle("g", held, Outcome::ack()).empty());
  EXPECT_EQ(process.ledger().group("g").processed, 6U);
  EXPECT_EQ(native("g", "pending").integer, 0);
}

TEST_F(RedisLedgerTest, ANativeGroupThatWasDestroyedIsMadeAgainAndPassesNothingOver) {
  Process process(*this);
  process.make_group("g");
  append(4);
  const auto held = process.claim("g", "worker", 2);
  redis({"XGROUP", "DESTROY", kLog, "g"});
  const auto rest = process.claim("g", "worker", 10);
  EXPECT_EQ(rest.size(), 2U);
  redis({"XGROUP", "DESTROY", kLog, "g"});
  append(1);
  redis({"XGROUP", "CREATE", kLog, "g", "$"});  // somebody helps, but passes one over
  EXPECT_EQ(process.claim("g", "worker", 10).size(), 1U);
  EXPECT_TRUE(process.settle("g", held, Outcome::ack()).empty());
  EXPECT_TRUE(process.settle("g", rest, Outcome::ack()).empty());
}

TEST_F(RedisLedgerTest, WhatWaitsForARetryIsDeadOrReplayedOutlivesAForeignTrim) {
  Process process(*this);
  process.make_group("g", OrderRule::parse("none"));
  const auto positions = append(4);
  auto held = process.claim("g", "worker", 4);
  process.settle("g", {held[0]}, Outcome::retry("again", FailureClass::handler, 0ms));
  process.settle("g", {held[1]}, Outcome::reject("spoiled"));
  process.settle("g", {held[2], held[3]}, Outcome::ack());
  ASSERT_EQ(process.ledger().replay("g", "r", std::vector{positions[2]})[0], ReplayStatus::accepted);
  redis({"XTRIM", kLog, "MAXLEN", "0"});

  const auto again = process.claim("g", "worker", 10);
  ASSERT_EQ(again.size(), 2U);
  EXPECT_EQ(again[0].event, held[0].event);
  EXPECT_EQ(again[1].event.id, held[2].event.id);
  EXPECT_TRUE(again[1].event.extension(kReplayId));
  const auto dead = process.ledger().dead_letters("g", {});
  ASSERT_EQ(dead.size(), 1U);
  EXPECT_EQ(dead[0].event, held[1].event);
  EXPECT_EQ(process.ledger().redrive("g", {}), 1U);
  const auto redriven = process.claim("g", "other", 10);
  ASSERT_EQ(redriven.size(), 1U);
  EXPECT_EQ(redriven[0].event, held[1].event);
  for (const auto& one : {again, redriven}) EXPECT_TRUE(process.settle("g", one, Outcome::ack()).empty());
  EXPECT_EQ(redis({"HLEN", "millrace:group:g:events"}).integer, 0);
  EXPECT_EQ(redis({"HLEN", "millrace:group:g:items"}).integer, 0);
  EXPECT_EQ(redis({"HLEN", "millrace:group:g:dead"}).integer, 0);
}

TEST_F(RedisLedgerTest, AnEventThatWasTrimmedBeforeItWasSettledIsADeadLetterThatSaysSo) {
  Process process(*this);
  process.make_group("g");
  append(3);
  const auto held = process.claim("g", "worker", 3);
  process.settle("g", held, Outcome::release());
  redis({"XTRIM", kLog, "MAXLEN", "0"});
  EXPECT_TRUE(process.claim("g", "worker", 10).empty());
  const auto dead = process.ledger().dead_letters("g", {});
  ASSERT_EQ(dead.size(), 3U);
  EXPECT_TRUE(dead[0].reason.starts_with("event_lost")) << dead[0].reason;
  EXPECT_EQ(dead[0].position, held[0].position);
  EXPECT_EQ(process.ledger().group("g").lag.waiting, 0U);
}

TEST_F(RedisLedgerTest, ANeighboursGroupIsNotMadeOurs) {
  Process process(*this);
  append(3);
  redis({"XGROUP", "CREATE", kLog, "theirs", "0"});
  redis({"XREADGROUP", "GROUP", "theirs", "somebody", "COUNT", "2", "STREAMS", kLog, ">"});
  try {
    process.make_group("theirs");
    ADD_FAILURE() << "their progress is gone";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::already_exists);
    EXPECT_NE(std::string(error.what()).find("XGROUP DESTROY events:all:stream theirs"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(native("theirs", "pending").as_integer(), 2);
  redis({"XGROUP", "DESTROY", kLog, "theirs"});
  process.make_group("theirs");
  EXPECT_EQ(process.claim("theirs", "worker", 10).size(), 3U);

  // A foreign consumer of ours may be the first after a loss.
  redis({"FLUSHALL"});
  make_streams();
  redis({"XGROUP", "CREATE", kLog, "theirs", "0", "MKSTREAM"});
  EXPECT_THROW(process.claim("theirs", "worker", 10), Error);
  process.make_group("theirs");
  append(2);
  EXPECT_EQ(process.claim("theirs", "worker", 10).size(), 2U);
}

TEST_F(RedisLedgerTest, WhatANeighbourRemovedAheadOfAGroupIsCounted) {
  Process process(*this);
  Process other(*this);
  const auto lost = [&] { return process.ledger().figures().lost_events; };
  process.make_group("g");
  append(10);
  process.claim("g", "worker", 2);
  redis({"XTRIM", kLog, "MAXLEN", "3"});  // and five that the group has not got
  EXPECT_EQ(process.claim("g", "worker", 10).size(), 3U);
  EXPECT_EQ(lost(), 5U);

  const auto positions = append(5);
  redis({"XDEL", kLog, positions[1].to_string(), positions[3].to_string()});
  EXPECT_EQ(process.claim("g", "worker", 10).size(), 3U);
  EXPECT_EQ(lost(), 7U);

  for (int i = 0; i < 3; ++i) redis({"XADD", kLog, "*", "type", "t"});  // without a number
  append(1);
  redis({"XADD", kLog, "*", "no type", "t"});
  append(1);
  EXPECT_EQ(process.claim("g", "worker", 10).size(), 5U);
  EXPECT_EQ(lost(), 7U) << "nothing is missing there";

  other.make_group("late");
  EXPECT_EQ(other.claim("late", "worker", 100).size(), 11U);
  EXPECT_EQ(other.ledger().figures().lost_events, 2U) << "in the middle, whenever it was; what begins later began so";

  append(2);
  ASSERT_TRUE(log().erase(kDefaultStream, "/test", "e17"));
  EXPECT_EQ(process.claim("g", "worker", 10).size(), 2U);
  append(4);
  log().trim(kDefaultStream, {.max_events = 1, .force = true});
  EXPECT_EQ(process.claim("g", "worker", 10).size(), 1U);
  append(1);
  EXPECT_EQ(process.claim("g", "worker", 10).size(), 1U);
  EXPECT_EQ(lost(), 7U) << "who erased and who forced it was told";
}

TEST_F(RedisLedgerTest, AServerThatComesBackEmptyHasNoGroupAndNothingIsInvented) {
  Process process(*this);
  process.make_group("g");
  append(3);
  const auto held = process.claim("g", "worker", 2);
  redis({"FLUSHALL"});
  const auto refused = [&](auto call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code() == Errc::unknown_group;
    }
    return false;
  };
  EXPECT_TRUE(refused([&] { process.settle("g", held, Outcome::ack()); }));
  EXPECT_TRUE(refused([&] { process.claim("g", "worker", 2); }));
  EXPECT_TRUE(refused([&] { process.ledger().group("g"); }));
  EXPECT_EQ(process.ledger().figures().vanished_groups, 1U);
  make_streams();
  process.make_group("g");
  append(2);
  const auto fresh = process.claim("g", "worker", 10);
  ASSERT_EQ(fresh.size(), 2U);
  EXPECT_GT(fresh[0].lease.claim, held[0].lease.claim);
  EXPECT_EQ(process.settle("g", held, Outcome::ack()).size(), 2U);
  EXPECT_EQ(process.ledger().group("g").processed, 0U);
}

// ---- Foreign consumers ----

TEST_F(RedisLedgerTest, AForeignConsumersEventsAreItsOwnUntilItAcknowledgesThem) {
  Process process(*this);
  process.make_group("g", OrderRule::parse("none"));
  const auto positions = append(5);
  ASSERT_EQ(process.claim("g", "worker", 1).size(), 1U);
  redis({"XREADGROUP", "GROUP", "g", "stranger", "COUNT", "3", "STREAMS", kLog, ">"});
  redis({"XACK", kLog, "g", id_of(positions[1])});

  const auto pending = process.ledger().pending("g", {}, 10);
  ASSERT_EQ(pending.size(), 3U);
  EXPECT_EQ(pending[1].position, positions[2]);
  EXPECT_EQ(pending[1].consumer, "stranger");
  EXPECT_EQ(pending[1].state, State::claimed);
  EXPECT_EQ(process.ledger().group("g").processed, 1U);
  const auto rest = process.claim("g", "worker", 10);
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_EQ(rest[0].position, positions[4]);

  redis({"XACK", kLog, "g", id_of(positions[2]), id_of(positions[3])});
  EXPECT_TRUE(eventually([&] { return process.ledger().group("g").processed == 3; }));
  EXPECT_EQ(process.ledger().pending("g", {}, 10).size(), 2U);
  EXPECT_EQ(native("g", "pending").integer, 2);
}

TEST_F(RedisLedgerTest, WhatAForeignConsumerDoesNotTouchIsTakenOverUncharged) {
  Process process(*this, {.foreign_idle = 200ms});
  process.make_group("g");
  const auto positions = append(1);
  redis({"XREADGROUP", "GROUP", "g", "stranger", "STREAMS", kLog, ">"});
  EXPECT_TRUE(process.claim("g", "worker", 10).empty());
  std::vector<Delivery> taken;
  EXPECT_TRUE(eventually([&] {
    taken = process.claim("g", "worker", 10);
    return !taken.empty();
  }));
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].position, positions[0]);
  EXPECT_EQ(taken[0].crashes, 0U);
  redis({"XACK", kLog, "g", id_of(positions[0])});  // too late
  EXPECT_EQ(process.ledger().group("g").processed, 0U);
  EXPECT_TRUE(process.settle("g", taken, Outcome::ack()).empty());
  EXPECT_EQ(process.ledger().group("g").processed, 1U);
}

TEST_F(RedisLedgerTest, ATrimKeepsWhatAForeignConsumerHolds) {
  Process process(*this);
  process.make_group("g");
  const auto positions = append(4);
  redis({"XREADGROUP", "GROUP", "g", "stranger", "COUNT", "2", "STREAMS", kLog, ">"});
  ASSERT_EQ(process.claim("g", "worker", 10).size(), 2U);
  TrimRequest trim;
  trim.up_to = positions[3];
  EXPECT_EQ(log().trim(kDefaultStream, trim).removed, 0U);
  EXPECT_EQ(redis({"XLEN", kLog}).integer, 4);
}

// ---- What is remembered is what stands there ----

TEST_F(RedisLedgerTest, ALedgerThatRemembersAndOneThatReadsAnewEachTimeAgree) {
  Process remembers(*this);
  Process forgets(*this, {.caches = false});
  GroupSettings settings;
  settings.retry.max_attempts = 3;
  settings.retry.max_crashes = 2;
  remembers.make_group("a", {}, settings);
  forgets.make_group("b", {}, settings);
  std::mt19937_64 random(static_cast<std::uint64_t>(GTEST_FLAG_GET(random_seed)) + 11);
  std::vector<std::pair<Delivery, Delivery>> held;
  std::vector<Position> positions;
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  for (int step = 0; step < 400; ++step) {
    const std::size_t dice = below(20);
    if (dice < 5) {
      for (const Position position : append(1 + below(6), "key", 3)) positions.push_back(position);
    } else if (dice < 11) {
      const std::string consumer = "c" + std::to_string(below(3));
      const std::size_t most = 1 + below(8);
      const auto a = remembers.claim("a", consumer, most), b = forgets.claim("b", consumer, most);
      ASSERT_EQ(a.size(), b.size()) << "step " << step;
      for (std::size_t i = 0; i < a.size(); ++i) {
        ASSERT_EQ(a[i].position, b[i].position);
        ASSERT_EQ(a[i].attempt, b[i].attempt);
        ASSERT_EQ(a[i].event, b[i].event);
        held.emplace_back(a[i], b[i]);
      }
    } else if (dice < 17 && !held.empty()) {
      const auto [a, b] = held[below(held.size())];
      const std::size_t kind = below(6);
      const Outcome outcome = kind < 3   ? Outcome::ack()
                              : kind < 4 ? Outcome::release()
                              : kind < 5 ? Outcome::retry("no", FailureClass::handler, 0ms)
                                         : Outcome::reject("no");
      ASSERT_EQ(remembers.settle("a", {a}, outcome), forgets.settle("b", {b}, outcome)) << "step " << step;
    } else if (dice < 18) {
      ASSERT_EQ(remembers.ledger().redrive("a", {}), forgets.ledger().redrive("b", {}));
    } else if (dice < 19 && !positions.empty()) {
      const std::vector<Position> which{positions[below(positions.size())]};
      ASSERT_EQ(remembers.ledger().replay("a", "r", which), forgets.ledger().replay("b", "r", which));
    } else if (!positions.empty() && below(4) == 0) {
      const GroupChange change{.seek = Start::after(positions[below(positions.size())])};
      remembers.ledger().alter_group("a", change);
      forgets.ledger().alter_group("b", change);
    }
    const GroupInfo a = remembers.ledger().group("a"), b = forgets.ledger().group("b");
    ASSERT_EQ(a.cursor, b.cursor) << "step " << step;
    ASSERT_EQ(a.lag.ahead, b.lag.ahead);
    ASSERT_EQ(a.lag.in_flight, b.lag.in_flight);
    ASSERT_EQ(a.lag.waiting, b.lag.waiting);
    ASSERT_EQ(a.parked, b.parked);
    ASSERT_EQ(a.dead, b.dead);
    ASSERT_EQ(a.processed, b.processed);
    ASSERT_EQ(a.rejected, b.rejected);
    ASSERT_EQ(a.skipped, b.skipped);
    ASSERT_EQ(states(remembers.ledger().pending("a", {}, 1000)), states(forgets.ledger().pending("b", {}, 1000)));
    ASSERT_EQ(native("a", "pending").integer, static_cast<std::int64_t>(a.lag.in_flight));
  }
}

}  // namespace
}  // namespace millrace::store::redis
