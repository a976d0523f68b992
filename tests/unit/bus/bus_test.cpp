// SPDX-License-Identifier: Apache-2.0
#include "millrace/bus.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <stdexcept>
#include <string>

#include "fake_store.hpp"

namespace millrace {
namespace test {
struct Ping {
  int number = 0;
};
}  // namespace test

template <>
struct EventCodec<test::Ping> {
  static constexpr const char* type = "ping";
  static constexpr std::int32_t version = 3;
  static void encode(const test::Ping& ping, Event& event) {
    if (ping.number < 0) throw std::invalid_argument("a ping counts from 0");
    event.data = std::to_string(ping.number);
    event.datacontenttype = "application/json";
  }
  static test::Ping decode(const Event& event) { return {std::stoi(event.data.value())}; }
};

namespace {

using test::an_event;
using test::FakeStore;
using testing::ElementsAre;

TEST(Bus, ShowsObserversWhatWasStoredWithItsPosition) {
  FakeStore store;
  Bus bus(&store);
  std::vector<std::string> seen;
  const auto observation = bus.observe({}, [&](const Observed& observed) {
    seen.push_back(observed.stream.str() + " " + observed.position.to_string() + " " + observed.event.id);
  });
  const std::vector<Event> events{an_event("a"), an_event("b")};
  const auto results = bus.publish(events, {.stream = "logs"});
  EXPECT_EQ(results.size(), 2U);
  EXPECT_EQ(results[1].position, Position(2));
  EXPECT_THAT(seen, ElementsAre("logs 1 a", "logs 2 b"));
}

TEST(Bus, PublishesAValueByItsCodec) {
  FakeStore store;
  Bus bus(&store);
  std::vector<Event> seen;
  const auto observation = bus.observe({"ping"}, [&](const Observed& observed) { seen.push_back(observed.event); });
  EXPECT_EQ(bus.publish("/test", test::Ping{7}, {.stream = "logs"}).position, Position(1));
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].source, "/test");
  EXPECT_EQ(data_version(seen[0]), 3);
  EXPECT_EQ(decode_event<test::Ping>(seen[0]).number, 7);
  EXPECT_THROW(bus.publish("/test", test::Ping{-1}), std::invalid_argument);
  EXPECT_EQ(bus.stats().published, 1U);
}

TEST(Bus, ShowsNeitherDuplicatesNorConflicts) {
  FakeStore store;
  Bus bus(&store);
  int calls = 0;
  const auto observation = bus.observe({}, [&](const Observed&) { ++calls; });
  bus.publish(an_event("a"));
  EXPECT_EQ(bus.publish(an_event("a")).status, AppendStatus::duplicate);
  EXPECT_EQ(bus.publish(an_event("a", "other")).status, AppendStatus::conflict);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(bus.stats().published, 1U);
  EXPECT_EQ(bus.stats().duplicates, 1U);
  EXPECT_EQ(bus.stats().conflicts, 1U);
}

TEST(Bus, ObservesNothingWhenTheStoreFails) {
  FakeStore store;
  store.fail_with = Errc::unavailable;
  Bus bus(&store);
  int calls = 0;
  const auto observation = bus.observe({}, [&](const Observed&) { ++calls; });
  const std::vector<Event> events{an_event("a"), an_event("b")};
  EXPECT_THROW(bus.publish(events), Error);
  AppendAnswer answer;
  bus.publish_async(events, {}, [&](AppendAnswer a) { answer = std::move(a); });
  ASSERT_TRUE(std::holds_alternative<Error>(answer));
  EXPECT_EQ(std::get<Error>(answer).code(), Errc::unavailable);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(bus.stats().published, 0U);
  EXPECT_EQ(bus.stats().failed, 4U);
}

TEST(Bus, RefusesAllEventsWhenOneIsInvalid) {
  FakeStore store;
  Bus bus(&store);
  int calls = 0;
  const auto observation = bus.observe({}, [&](const Observed&) { ++calls; });
  const std::vector<Event> events{an_event("a"), an_event("")};
  try {
    bus.publish(events);
    FAIL() << "an event without an id was published";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_event);
  }
  AppendAnswer answer;
  bus.publish_async(events, {}, [&](AppendAnswer a) { answer = std::move(a); });
  EXPECT_TRUE(std::holds_alternative<Error>(answer));
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(bus.publish(an_event("a")).position, Position(1)) << "nothing of the refused call was stored";
}

TEST(Bus, RunsObserversBeforeTheCompletion) {
  FakeStore store;
  Bus bus(&store);
  std::vector<std::string> order;
  const auto observation = bus.observe({}, [&](const Observed& observed) { order.push_back(observed.event.id); });
  bus.publish_async({an_event("a"), an_event("b")}, {}, [&](const AppendAnswer&) { order.emplace_back("done"); });
  EXPECT_THAT(order, ElementsAre("a", "b", "done"));
}

TEST(Bus, WithoutAStoreCallsObserversAndAcknowledgesNothing) {
  Bus bus(nullptr);
  std::vector<Position> positions;
  const auto observation = bus.observe({}, [&](const Observed& observed) { positions.push_back(observed.position); });
  const AppendResult first = bus.publish(an_event("a"));
  EXPECT_EQ(first.durability, Durability::memory);
  const std::vector<Event> more{an_event("b"), an_event("c")};
  EXPECT_EQ(bus.publish(more).at(1).durability, Durability::memory);
  EXPECT_THAT(positions, ElementsAre(Position(1), Position(2), Position(3)));
  EXPECT_EQ(bus.stats().published, 3U);
}

TEST(Bus, MatchesTypesByPattern) {
  Bus bus(nullptr);
  std::vector<std::string> seen;
  const auto orders =
      bus.observe({"order.*", "invoice.sent"}, [&](const Observed& o) { seen.push_back(o.event.type); });
  for (const char* type : {"order.placed", "invoice.sent", "invoice.paid", "reorder.placed"})
    bus.publish(an_event("a", type));
  EXPECT_THAT(seen, ElementsAre("order.placed", "invoice.sent"));
  EXPECT_EQ(orders.counts().calls, 2U);
  EXPECT_THROW(static_cast<void>(bus.observe({"order.["}, [](const Observed&) {})), Error);
  EXPECT_EQ(bus.stats().observers, 1U);
}

TEST(Bus, HandsEveryObserverThePublishersOwnEvent) {
  Bus bus(nullptr);
  const Event event = an_event("a");
  std::array<const Event*, 2> seen{};
  const auto one = bus.observe({}, [&](const Observed& o) { seen[0] = &o.event; });
  const auto two = bus.observe({}, [&](const Observed& o) { seen[1] = &o.event; });
  bus.publish(event);
  EXPECT_EQ(seen[0], &event) << "copied";
  EXPECT_EQ(seen[1], &event) << "copied";
}

TEST(Bus, IsolatesAnObserverThatThrows) {
  Bus bus(nullptr);
  int calls = 0;
  const auto bad = bus.observe({}, [](const Observed&) { throw std::runtime_error("on purpose"); });
  const auto worse = bus.observe({}, [](const Observed&) { throw 42; });
  const auto good = bus.observe({}, [&](const Observed&) { ++calls; });
  bus.publish(an_event("a"));
  bus.publish(an_event("b"));
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(bad.counts().calls, 2U);
  EXPECT_EQ(bad.counts().failures, 2U);
  EXPECT_EQ(worse.counts().failures, 2U);
  EXPECT_EQ(good.counts().failures, 0U);
  EXPECT_EQ(bus.stats().observer_failures, 4U);
}

TEST(Bus, ObserversMayPublish) {
  Bus bus(nullptr);
  std::vector<std::string> seen;
  const auto observation = bus.observe({}, [&](const Observed& o) {
    seen.push_back(o.event.id);
    if (o.event.id == "a") bus.publish(an_event("b"));
  });
  bus.publish(an_event("a"));
  EXPECT_THAT(seen, ElementsAre("a", "b"));
}

}  // namespace
}  // namespace millrace
