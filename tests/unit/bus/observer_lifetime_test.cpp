// SPDX-License-Identifier: Apache-2.0
// Adding and removing observers at any time: what the header promises about it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <latch>
#include <thread>

#include "fake_store.hpp"
#include "millrace/bus.hpp"

namespace millrace {
namespace {

using test::an_event;
using testing::ElementsAre;

TEST(Observation, AddedDuringADispatchSeesTheNextEvent) {
  Bus bus(nullptr);
  std::vector<std::string> seen;
  Observation later;
  const auto first = bus.observe({}, [&](const Observed& o) {
    if (o.event.id != "a") return;
    later = bus.observe({}, [&](const Observed& inner) { seen.push_back(inner.event.id); });
  });
  const std::vector<Event> events{an_event("a"), an_event("b"), an_event("c")};
  bus.publish(events);
  EXPECT_THAT(seen, ElementsAre("b", "c"));
}

TEST(Observation, MayRemoveItself) {
  Bus bus(nullptr);
  int calls = 0;
  Observation self;
  self = bus.observe({}, [&](const Observed&) {
    ++calls;
    self.cancel();
  });
  bus.publish(an_event("a"));
  bus.publish(an_event("b"));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(self.counts().calls, 1U);
  EXPECT_EQ(bus.stats().observers, 0U);
}

TEST(Observation, MayDestroyItself) {
  Bus bus(nullptr);
  const auto alive = std::make_shared<int>(7);
  std::weak_ptr<int> watched = alive;
  auto self = std::make_unique<Observation>();
  int after = 0;
  *self = bus.observe({}, [&, kept = alive](const Observed&) {
    self.reset();
    after = *kept;  // what it captured lives until it returns
  });
  bus.publish(an_event("a"));
  EXPECT_EQ(after, 7);
  EXPECT_EQ(watched.use_count(), 1) << "what it captured goes with it";
}

TEST(Observation, RemovedByAnotherSeesNotEvenTheRunningEvent) {
  Bus bus(nullptr);
  int calls = 0;
  Observation second;
  const auto first = bus.observe({}, [&](const Observed&) { second.cancel(); });
  second = bus.observe({}, [&](const Observed&) { ++calls; });
  bus.publish(an_event("a"));
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(second.counts().calls, 0U);
}

TEST(Observation, CancelWaitsForARunningCall) {
  Bus bus(nullptr);
  std::latch inside(1);
  std::latch go_on(1);
  std::atomic<bool> returned{false};
  auto observation = bus.observe({}, [&](const Observed&) {
    inside.count_down();
    go_on.wait();
    returned = true;
  });
  std::thread publisher([&] { bus.publish(an_event("a")); });
  inside.wait();
  std::thread releaser([&] { go_on.count_down(); });
  observation.cancel();
  EXPECT_TRUE(returned);
  publisher.join();
  releaser.join();
}

TEST(Observation, TwoThatCancelEachOtherFromTwoThreadsBothReturn) {
  Bus bus(nullptr);
  std::latch both_inside(2);
  std::array<Observation, 2> each;
  for (std::size_t i = 0; i < 2; ++i) {
    each[i] = bus.observe({i == 0 ? "zero" : "one"}, [&, i](const Observed&) {
      both_inside.arrive_and_wait();
      each[1 - i].cancel();
    });
  }
  std::thread other([&] { bus.publish(an_event("a", "one")); });
  bus.publish(an_event("b", "zero"));
  other.join();
  EXPECT_EQ(bus.stats().observers, 0U);
}

TEST(Observation, MovesAndReplaces) {
  Bus bus(nullptr);
  int first = 0;
  int second = 0;
  Observation one = bus.observe({}, [&](const Observed&) { ++first; });
  Observation moved = std::move(one);
  bus.publish(an_event("a"));
  moved = bus.observe({}, [&](const Observed&) { ++second; });
  bus.publish(an_event("b"));
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 1);
  EXPECT_EQ(bus.stats().observers, 1U);
  EXPECT_EQ(Observation().counts().calls, 0U);
}

TEST(Observation, MayOutliveTheBus) {
  Observation observation;
  {
    Bus bus(nullptr);
    observation = bus.observe({}, [](const Observed&) {});
    bus.publish(an_event("a"));
  }
  EXPECT_EQ(observation.counts().calls, 1U);
  observation.cancel();
}

TEST(Observation, FreesWhatItCapturedWhenCancelledNotWhenThreadsForget) {
  Bus bus(nullptr);
  auto captured = std::make_shared<int>(1);
  auto observation = bus.observe({}, [captured](const Observed&) {});
  bus.publish(an_event("a"));  // this thread now remembers the list
  observation.cancel();
  EXPECT_EQ(captured.use_count(), 1);
}

TEST(Observation, ManyBusesInOneThreadDoNotMixTheirObservers) {
  std::vector<std::unique_ptr<Bus>> buses;
  std::vector<Observation> observations;
  std::array<int, 20> calls{};
  for (std::size_t i = 0; i < calls.size(); ++i) {
    buses.push_back(std::make_unique<Bus>(nullptr));
    observations.push_back(buses.back()->observe({}, [&calls, i](const Observed&) { ++calls[i]; }));
  }
  for (int round = 0; round < 3; ++round) {
    for (const auto& bus : buses) bus->publish(an_event("a"));
  }
  EXPECT_THAT(calls, testing::Each(3));
}

TEST(Observation, NestedDispatchOverAnotherBusAndAChangedListIsSafe) {
  Bus outer(nullptr);
  std::vector<std::string> seen;
  Observation added;
  const auto first = outer.observe({}, [&](const Observed& o) {
    if (o.event.id != "a") return;
    added = outer.observe({}, [&](const Observed& inner) { seen.push_back("added " + inner.event.id); });
    outer.publish(an_event("b"));
  });
  const auto last = outer.observe({}, [&](const Observed& o) { seen.push_back("last " + o.event.id); });
  outer.publish(an_event("a"));
  EXPECT_THAT(seen, ElementsAre("last b", "added b", "last a"));
}

TEST(Observation, HammeredFromManyThreadsNeverRunsAfterItsEnd) {
  Bus bus(nullptr);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> calls{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      const Event event = an_event("a");
      while (!stop) bus.publish(event);
    });
  }
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        auto alive = std::make_unique<std::atomic<bool>>(true);
        auto observation = bus.observe({}, [&wrong, &calls, flag = alive.get()](const Observed&) {
          if (!*flag) ++wrong;
          ++calls;
        });
        if (round % 3 == 0) std::this_thread::yield();
        observation.cancel();
        *alive = false;
      }
    });
  }
  for (std::size_t i = 3; i < threads.size(); ++i) threads[i].join();
  stop = true;
  for (std::size_t i = 0; i < 3; ++i) threads[i].join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(bus.stats().observers, 0U);
}

}  // namespace
}  // namespace millrace
