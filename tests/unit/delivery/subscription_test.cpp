// SPDX-License-Identifier: Apache-2.0
// Subscriptions over real stores: what a user of the header may rely on.
#include "millrace/subscription.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "faulty_store.hpp"

namespace millrace {
namespace {

using namespace std::chrono_literals;
using test::append;
using test::eventually;
using test::FaultyStore;

constexpr Milliseconds kLong{20'000};

class SubscriptionTest : public testing::TestWithParam<const char*> {
 protected:
  test::TempFile file_;
  std::unique_ptr<Store> store_ = open_store(file_.url(GetParam()));

  static SubscriptionOptions options(std::size_t concurrency = 1) {
    SubscriptionOptions o{.group = "g"};
    o.start = Start::beginning();
    o.concurrency = concurrency;
    o.settings.retry.handler_backoff = {Milliseconds{1}, Milliseconds{5}};
    o.settings.retry.transient_backoff = {Milliseconds{1}, Milliseconds{5}};
    return o;
  }
  GroupInfo group() { return store_->ledger().group("g"); }
};

TEST_P(SubscriptionTest, DeliversEverythingAndDrains) {
  append(*store_, 500);
  std::mutex mutex;
  std::map<std::string, int> seen;
  Subscription subscription(*store_, options(4), [&](const Delivery& delivery) {
    const std::lock_guard lock(mutex);
    ++seen[delivery.event.id];
    return Outcome::ack();
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(seen.size(), 500U);
  EXPECT_EQ(subscription.stats().delivered, 500U);
  EXPECT_EQ(subscription.stats().acked, 500U);
  append(*store_, 100, 500);
  ASSERT_TRUE(subscription.drain(kLong)) << "it is woken by new events";
  EXPECT_EQ(seen.size(), 600U);
  EXPECT_TRUE(subscription.stop());
  EXPECT_EQ(group().processed, 600U);
}

TEST_P(SubscriptionTest, KeepsTheOrderOfEachKeyWithEightHandlersAndRetries) {
  append(*store_, 600, 0, 20);
  std::mutex mutex;
  std::map<std::string, std::uint64_t> last;
  std::set<std::string> running;
  std::atomic<int> wrong{0};
  std::atomic<int> at_once{0};
  std::atomic<int> most{0};
  auto o = options(8);
  o.batch = 50;
  Subscription subscription(*store_, o, [&](const Delivery& delivery) {
    const int now = ++at_once;
    for (int m = most; now > m && !most.compare_exchange_weak(m, now);) {
    }
    const std::string& key = delivery.event.subject;
    {
      const std::lock_guard lock(mutex);
      if (!running.insert(key).second) ++wrong;
      if (delivery.position.low <= last[key]) ++wrong;
    }
    std::this_thread::yield();
    const bool fail = delivery.failures == 0 && delivery.position.low % 13 == 0;
    {
      const std::lock_guard lock(mutex);
      running.erase(key);
      if (!fail) last[key] = delivery.position.low;
    }
    --at_once;
    return fail ? Outcome::retry("first time") : Outcome::ack();
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(most, 8);
  EXPECT_EQ(group().processed, 600U);
  EXPECT_EQ(subscription.stats().retried, 600U / 13);
}

TEST_P(SubscriptionTest, MovesEventToDeadLettersAfterMaxAttempts) {
  append(*store_, 3);
  auto o = options();
  o.settings.retry.max_attempts = 3;
  std::atomic<int> calls{0};
  Subscription subscription(*store_, o, [&](const Delivery& delivery) -> Outcome {
    if (delivery.position != Position(2)) return Outcome::ack();
    ++calls;
    throw std::runtime_error("cannot digest this");
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(calls, 3);
  const auto dead = store_->ledger().dead_letters("g", {});
  ASSERT_EQ(dead.size(), 1U);
  EXPECT_EQ(dead[0].position, Position(2));
  EXPECT_THAT(dead[0].reason, testing::HasSubstr("cannot digest this"));
  EXPECT_EQ(group().processed, 2U);
}

TEST_P(SubscriptionTest, RejectedEventsGoToTheDeadLettersAtOnce) {
  append(*store_, 1);
  Subscription subscription(*store_, options(), [](const Delivery&) { return Outcome::reject("not for me"); });
  ASSERT_TRUE(subscription.drain(kLong));
  const auto dead = store_->ledger().dead_letters("g", {});
  ASSERT_EQ(dead.size(), 1U);
  EXPECT_THAT(dead[0].reason, testing::HasSubstr("not for me"));
  EXPECT_EQ(subscription.stats().rejected, 1U);
}

TEST_P(SubscriptionTest, ATimedOutDeliveryIsRetriedAndItsLateAnswerIgnored) {
  append(*store_, 1);
  auto o = options(2);
  o.timeout = 30ms;
  std::latch let_go(1);
  std::atomic<int> calls{0};
  Subscription subscription(*store_, o, [&](const Delivery&) {
    if (++calls == 1) let_go.wait();
    return Outcome::ack();
  });
  const bool drained = subscription.drain(kLong);
  const auto pending = store_->ledger().pending("g", {}, 10);
  let_go.count_down();
  ASSERT_TRUE(drained);
  EXPECT_TRUE(pending.empty());
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(eventually([&] { return subscription.stats().stale == 1; }));
  EXPECT_EQ(subscription.stats().timed_out, 1U);
  EXPECT_EQ(group().failures, 1U);
  EXPECT_EQ(group().processed, 1U);
}

TEST_P(SubscriptionTest, AsyncHandlersAnswerLaterFromAnyThread) {
  append(*store_, 200);
  std::mutex mutex;
  std::vector<HandlerDone> waiting;
  Subscription subscription(*store_, options(50), [&](const Delivery&, HandlerDone done) {
    const std::lock_guard lock(mutex);
    waiting.push_back(std::move(done));
  });
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return waiting.size() == 50;
  }));
  std::atomic<bool> stop{false};
  std::thread answering([&] {
    while (!stop) {
      std::vector<HandlerDone> taken;
      {
        const std::lock_guard lock(mutex);
        EXPECT_LE(waiting.size(), 50U);
        taken.swap(waiting);
      }
      for (const HandlerDone& done : taken) done(Outcome::ack());
      std::this_thread::yield();
    }
  });
  EXPECT_TRUE(subscription.drain(kLong));
  stop = true;
  answering.join();
  EXPECT_EQ(subscription.stats().acked, 200U);
}

TEST_P(SubscriptionTest, ADroppedAnswerIsARetryAndASecondOneIsIgnored) {
  append(*store_, 1);
  auto o = options();
  std::atomic<int> calls{0};
  std::string reason;
  Subscription subscription(*store_, o, [&](const Delivery& delivery, HandlerDone done) {
    ++calls;
    if (delivery.failures == 0) return;
    if (delivery.failures == 1) throw std::runtime_error("before answering");
    done(Outcome::ack());
    done(Outcome::reject("too late"));
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(subscription.stats().retried, 2U);
  EXPECT_EQ(subscription.stats().acked, 1U);
  EXPECT_EQ(group().dead, 0U);
}

TEST_P(SubscriptionTest, FiftyRestartsUnderLoadChargeNobody) {
  append(*store_, 400, 0, 10);
  std::atomic<bool> stop{false};
  std::thread publisher([&] {
    for (std::size_t n = 400; !stop && n < 2000; n += 10) {
      append(*store_, 10, n, 10);
      std::this_thread::sleep_for(1ms);
    }
  });
  std::atomic<std::uint64_t> calls{0};
  for (int i = 0; i < 50; ++i) {
    auto o = options(1 + static_cast<std::size_t>(i) % 4);
    o.batch = 40;
    Subscription subscription(*store_, o, [&](const Delivery&) {
      ++calls;
      std::this_thread::sleep_for(100us);
      return Outcome::ack();
    });
    std::this_thread::sleep_for(4ms);
    if (i % 3 == 0) {
      subscription.stop(0ms);
    } else if (i % 3 == 1) {
      subscription.stop(1s);
    }
  }
  stop = true;
  publisher.join();
  EXPECT_GT(calls, 50U);
  EXPECT_EQ(group().failures, 0U);
  EXPECT_EQ(group().crashes, 0U);
  EXPECT_EQ(group().lag.in_flight, 0U) << "every restart gave back what it held";
  for (const auto& pending : store_->ledger().pending("g", {}, 10'000)) {
    EXPECT_NE(pending.state, PendingEvent::State::suspect);
    EXPECT_EQ(pending.attempt, 0U);
  }
  Subscription last(*store_, options(4), [](const Delivery&) { return Outcome::ack(); });
  EXPECT_TRUE(last.drain(kLong));
}

TEST_P(SubscriptionTest, PauseStopsClaimingAndResumeGoesOn) {
  std::atomic<int> calls{0};
  Subscription subscription(*store_, options(), [&](const Delivery&) {
    ++calls;
    return Outcome::ack();
  });
  append(*store_, 1);
  ASSERT_TRUE(subscription.drain(kLong));
  subscription.pause();
  EXPECT_TRUE(eventually([&] { return group().lag.in_flight == 0; }));
  std::this_thread::sleep_for(10ms);  // the command is on its way to the claim thread
  append(*store_, 5, 1);
  EXPECT_FALSE(subscription.drain(50ms));
  EXPECT_EQ(calls, 1);
  subscription.resume();
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(calls, 6);
}

TEST_P(SubscriptionTest, TakesOverWhatACrashedConsumerHeld) {
  append(*store_, 5);
  GroupSpec spec;
  spec.stream = kDefaultStream;
  spec.start = Start::beginning();
  store_->ledger().ensure_group("g", spec);
  const SessionId abandoned = store_->ledger().open_session("crashed", 50ms);
  ClaimRequest request;
  request.consumer = "crashed";
  request.hold = abandoned;
  ASSERT_EQ(store_->ledger().claim("g", request).deliveries.size(), 5U);
  std::set<std::string> seen;
  Subscription subscription(*store_, options(), [&](const Delivery& delivery) {
    seen.insert(delivery.event.id);
    return Outcome::ack();
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(seen.size(), 5U);
  EXPECT_EQ(group().crashes, 0U) << "five were claimed together: nobody knows whose fault it was";
}

TEST_P(SubscriptionTest, SurvivesAStoreThatFailsAndLosesNothing) {
  FaultyStore faulty(*store_);
  append(*store_, 50);
  auto o = options();
  o.batch = 10;
  faulty.fail_next(StoreFault::claim, 1);
  faulty.fail_next(StoreFault::settle, 1);
  Subscription subscription(faulty, o, [](const Delivery&) { return Outcome::ack(); });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(subscription.stats().store_errors, 2U);
  EXPECT_EQ(subscription.stats().acked, 50U);
  EXPECT_EQ(group().failures + group().crashes, 0U);
}

TEST_P(SubscriptionTest, ALostSessionIsReplacedAndNothingIsLost) {
  FaultyStore faulty(*store_);
  append(*store_, 20);
  auto o = options();
  o.batch = 5;
  o.lease = 90ms;
  std::latch let_go(1);
  std::atomic<bool> first{true};
  Subscription subscription(faulty, o, [&](const Delivery&) {
    if (first.exchange(false)) let_go.wait();
    return Outcome::ack();
  });
  EXPECT_TRUE(eventually([&] { return !first; }));
  faulty.lose_sessions();
  EXPECT_TRUE(eventually([&] { return faulty.sessions_opened() == 2; }));
  let_go.count_down();
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(group().processed, 20U);
  EXPECT_GE(subscription.stats().stale, 1U);
}

TEST_P(SubscriptionTest, ASlowHandlerDoesNotLetTheSessionExpire) {
  append(*store_, 1);
  auto o = options();
  o.lease = 60ms;
  Subscription subscription(*store_, o, [&](const Delivery&) {
    std::this_thread::sleep_for(300ms);
    return Outcome::ack();
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_EQ(subscription.stats().delivered, 1U);
  EXPECT_EQ(subscription.stats().stale, 0U);
}

TEST_P(SubscriptionTest, StopIsIdempotentAndSaysWhetherSomethingWasReleased) {
  append(*store_, 3);
  std::latch inside(1);
  std::latch let_go(1);
  Subscription subscription(*store_, options(), [&](const Delivery&) {
    inside.count_down();
    let_go.wait();
    return Outcome::ack();
  });
  inside.wait();
  std::thread later([&] {
    EXPECT_TRUE(eventually([&] { return group().lag.in_flight == 0; }));
    let_go.count_down();
  });
  EXPECT_FALSE(subscription.stop(5ms));
  later.join();
  EXPECT_FALSE(subscription.stop());
  EXPECT_EQ(group().processed, 0U) << "an answer after the end is ignored";
  EXPECT_EQ(group().failures, 0U);
}

TEST_P(SubscriptionTest, RefusesOptionsThatCannotWorkAndNamesThem) {
  const auto refused = [&](auto change) -> std::string {
    auto o = options();
    change(o);
    try {
      const Subscription subscription(*store_, o, [](const Delivery&) { return Outcome::ack(); });
    } catch (const Error& error) {
      return std::string(to_string(error.code())) + " " + error.object();
    }
    return "accepted";
  };
  EXPECT_EQ(refused([](auto& o) { o.batch = 0; }), "invalid_argument batch");
  EXPECT_EQ(refused([](auto& o) { o.batch = 10'001; }), "invalid_argument batch");
  EXPECT_EQ(refused([](auto& o) { o.concurrency = 0; }), "invalid_argument concurrency");
  EXPECT_EQ(refused([](auto& o) { o.timeout = 0ms; }), "invalid_argument timeout");
  EXPECT_EQ(refused([](auto& o) { o.lease = 0ms; }), "invalid_argument lease");
  EXPECT_EQ(refused([](auto& o) { o.consumer = std::string(300, 'x'); }), "invalid_argument consumer");
  EXPECT_THAT(refused([](auto& o) { o.stream = "nowhere"; }), testing::StartsWith("unknown_stream"));
  EXPECT_EQ(refused([](auto&) {}), "accepted");
  EXPECT_THAT(refused([](auto& o) { o.order = OrderRule::parse("none"); }), testing::StartsWith("group_mismatch"));
}

INSTANTIATE_TEST_SUITE_P(Stores, SubscriptionTest, testing::Values("memory", "sqlite"),
                         [](const auto& store) { return std::string(store.param); });

}  // namespace
}  // namespace millrace
