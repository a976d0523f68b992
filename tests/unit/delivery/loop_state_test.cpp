// SPDX-License-Identifier: Apache-2.0
// Exact sequences: what happened on the left, what the loop does about it on the right.
#include "delivery/loop_state.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace millrace::delivery {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using namespace std::chrono_literals;

std::string text(const Outcome& outcome) {
  std::string line(to_string(outcome.kind));
  if (outcome.kind == Outcome::Kind::retry || outcome.kind == Outcome::Kind::reject) line += "(" + outcome.reason + ")";
  return line;
}

/// Drives a LoopState with a clock that stands still unless moved, and writes its actions as words.
class Script {
 public:
  explicit Script(LoopOptions options) : state(options) {}

  std::vector<std::string> feed(Input input) { return feed_all({std::move(input)}); }
  std::vector<std::string> feed_all(std::vector<Input> inputs) {
    std::vector<std::string> words;
    for (const Action& action : state.step(std::move(inputs), now)) words.push_back(word(action));
    return words;
  }
  std::vector<std::string> tick(std::chrono::nanoseconds by) {
    now += by;
    return feed(input::Tick{});
  }
  /// A claim of events named by their order keys: 'a' to 'z', '-' = none. Positions count on.
  std::vector<std::string> claimed(std::string_view keys, std::optional<Milliseconds> next_due = std::nullopt) {
    input::Claimed claimed;
    claimed.next_due = next_due;
    for (const char key : keys) {
      Delivery delivery;
      delivery.position = Position(++last_);
      delivery.lease = {1, delivery.position};
      claimed.deliveries.push_back(delivery);
      claimed.keys.push_back(key == '-' ? 0 : static_cast<std::uint64_t>(key));
    }
    return feed(std::move(claimed));
  }
  std::vector<std::string> answered(LaneId lane, std::vector<Outcome> outcomes) {
    return feed(input::Answered{lane, std::move(outcomes)});
  }
  std::vector<std::string> finished(LaneId lane, std::chrono::nanoseconds took = 1ms) {
    return feed(input::Finished{lane, took});
  }
  std::vector<std::string> settled(std::vector<std::size_t> stale = {}) {
    return feed(input::Settled{std::move(stale)});
  }
  std::vector<std::string> failed(StoreCall call, Errc code = Errc::unavailable) {
    return feed(input::StoreFailed{call, code, 1.0});
  }
  /// Session open, first claim asked for.
  void begin() {
    EXPECT_THAT(feed(input::Tick{}), ElementsAre("open session"));
    EXPECT_THAT(feed(input::SessionOpened{}), ElementsAre(fmt::format("claim {}", batch)));
  }

  std::size_t batch = 10;
  Time now{1000s};
  LoopState state;

 private:
  static std::string word(const Action& action) {
    if (std::holds_alternative<action::OpenSession>(action)) return "open session";
    if (std::holds_alternative<action::CloseSession>(action)) return "close session";
    if (const auto* claim = std::get_if<action::Claim>(&action)) return fmt::format("claim {}", claim->max);
    if (const auto* revoke = std::get_if<action::Revoke>(&action)) return fmt::format("revoke lane {}", revoke->lane);
    if (const auto* stopped = std::get_if<action::Stopped>(&action))
      return stopped->clean ? "stopped clean" : "stopped";
    if (const auto* start = std::get_if<action::Start>(&action)) {
      std::string line = fmt::format("lane {}:", start->lane);
      for (const auto i : start->work.items) line += " " + (*start->work.deliveries)[i].position.to_string();
      return line;
    }
    std::string line = "settle";
    for (const Settlement& s : std::get<action::Settle>(action).settlements) {
      line += " " + s.lease.position.to_string() + "=" + text(s.outcome);
    }
    return line;
  }

  std::uint64_t last_ = 0;
};

LoopOptions with(std::size_t concurrency, std::size_t longest_run = 1) {
  return {.batch = 10, .concurrency = concurrency, .longest_run = longest_run, .timeout = 30s};
}

TEST(LoopState, ClaimsHandlesSettlesAndClaimsAgain) {
  Script s(with(1));
  s.begin();
  EXPECT_THAT(s.claimed("-"), ElementsAre("lane 0: 1", "claim 10"));
  EXPECT_THAT(s.claimed(""), IsEmpty());
  EXPECT_THAT(s.answered(0, {Outcome::ack()}), ElementsAre("settle 1=ack"));
  EXPECT_THAT(s.settled(), ElementsAre("claim 10")) << "the ledger may have given nothing because we held something";
  EXPECT_EQ(s.state.stats().acked, 1U);
  EXPECT_EQ(s.state.in_hand(), 0U);
}

TEST(LoopState, NeverRunsMoreThanConcurrencyHandlers) {
  Script s(with(2));
  s.begin();
  EXPECT_THAT(s.claimed("-----"), ElementsAre("lane 0: 1", "lane 1: 2"));
  EXPECT_THAT(s.answered(0, {Outcome::ack()}), ElementsAre("settle 1=ack"));
  EXPECT_THAT(s.settled(), IsEmpty()) << "the lane has answered but is not free";
  EXPECT_THAT(s.finished(0), ElementsAre("lane 0: 3"));
}

TEST(LoopState, ClaimsAheadWhenFewerThanConcurrencyAreQueued) {
  Script s(with(2));
  s.begin();
  EXPECT_THAT(s.claimed("----"), ElementsAre("lane 0: 1", "lane 1: 2")) << "two are queued";
  s.answered(0, {Outcome::ack()});
  EXPECT_THAT(s.settled(), IsEmpty());
  EXPECT_THAT(s.finished(0), ElementsAre("lane 0: 3", "claim 10"));
}

TEST(LoopState, SettlesTogetherWhatWasAnsweredMeanwhile) {
  Script s(with(3));
  s.begin();
  s.claimed("---");
  s.claimed("");
  EXPECT_THAT(s.answered(1, {Outcome::ack()}), ElementsAre("settle 2=ack")) << "a lone answer does not wait";
  s.failed(StoreCall::settle);
  EXPECT_THAT(s.answered(0, {Outcome::reject("no")}), IsEmpty());
  EXPECT_THAT(s.answered(2, {Outcome::retry("later")}), IsEmpty());
  EXPECT_THAT(s.tick(1s), ElementsAre("settle 2=ack 1=reject(no) 3=retry(later)"));
  s.settled({1});
  EXPECT_EQ(s.state.stats().acked, 1U);
  EXPECT_EQ(s.state.stats().stale, 1U);
  EXPECT_EQ(s.state.stats().retried, 1U);
}

TEST(LoopState, HandlesEventsOfOneKeyOneAfterAnother) {
  Script s(with(4));
  s.begin();
  EXPECT_THAT(s.claimed("aaba"), ElementsAre("lane 0: 1", "lane 1: 3", "claim 10"));
  s.claimed("");
  EXPECT_THAT(s.answered(0, {Outcome::ack()}), ElementsAre("lane 2: 2", "settle 1=ack"));
  s.settled();
  EXPECT_THAT(s.answered(2, {Outcome::reject("bad")}), ElementsAre("lane 3: 4", "settle 2=reject(bad)"));
}

TEST(LoopState, ReleasesLaterEventsOfAKeyWhenAnEarlierOneIsToBeRetried) {
  Script s(with(4));
  s.begin();
  s.claimed("aaba");
  s.claimed("");
  EXPECT_THAT(s.answered(0, {Outcome::retry("busy")}), ElementsAre("settle 1=retry(busy) 2=release 4=release"));
  s.settled({1, 2});
  EXPECT_EQ(s.state.stats().stale, 0U) << "nobody answered those two too late";
  EXPECT_EQ(s.state.in_hand(), 1U);
}

TEST(LoopState, OneLaneAloneKeepsPositionOrderAcrossKeys) {
  Script s(with(1, 8));
  s.begin();
  EXPECT_THAT(s.claimed("abab"), ElementsAre("lane 0: 1"));
  s.answered(0, {Outcome::ack()});
  s.settled();
  EXPECT_THAT(s.finished(0, 1us), ElementsAre("lane 0: 2 3")) << "quick handlers get longer runs";
  EXPECT_THAT(s.answered(0, {Outcome::retry("no")}), ElementsAre("settle 2=retry(no) 4=release"));
  EXPECT_THAT(s.settled(), ElementsAre("claim 10"));
  s.claimed("");
  EXPECT_THAT(s.finished(0), ElementsAre("lane 0: 3")) << "what the lane did not begin is handed out again";
}

TEST(LoopState, RunsShrinkWhenHandlersAreSlow) {
  Script s(with(1, 8));
  s.begin();
  s.claimed("----------");
  s.answered(0, {Outcome::ack()});
  s.settled();
  EXPECT_THAT(s.finished(0, 1us), ElementsAre("lane 0: 2 3"));
  s.answered(0, {Outcome::ack(), Outcome::ack()});
  s.settled();
  EXPECT_THAT(s.finished(0, 1us), ElementsAre("lane 0: 4 5 6 7"));
  s.answered(0, {Outcome::ack(), Outcome::ack(), Outcome::ack(), Outcome::ack()});
  s.settled();
  EXPECT_THAT(s.finished(0, 10ms), ElementsAre("lane 0: 8"));
}

TEST(LoopState, DoesNotClaimAheadOfHandlersThatAreThroughInAMoment) {
  LoopOptions options = with(1, 64);
  options.batch = 100;
  Script s(options);
  s.batch = 100;
  s.begin();
  s.claimed("-------------------------------");
  for (const std::size_t run : {1U, 2U, 4U, 8U, 16U}) {
    s.answered(0, std::vector(run, Outcome::ack()));
    EXPECT_THAT(s.settled(), testing::SizeIs(run == 16 ? 1 : 0)) << "all are answered: claim";
    EXPECT_THAT(s.finished(0, 1us), testing::SizeIs(run == 16 ? 0 : 1)) << "the next run";
  }
  EXPECT_THAT(s.claimed("aabb"), ElementsAre("lane 0: 32 33 34 35")) << "a claim now would park what is behind a and b";
  EXPECT_THAT(s.tick(2ms), IsEmpty());
  EXPECT_EQ(s.state.next_wake(), s.now + 1ms);
  EXPECT_THAT(s.tick(1ms), ElementsAre("claim 100")) << "not so fast this time";
  EXPECT_THAT(s.claimed(""), IsEmpty());
  s.feed_all({input::Answered{0, std::vector(4, Outcome::ack())}, input::Finished{0, 1us}});
  EXPECT_THAT(s.settled(), ElementsAre("claim 100"));
  EXPECT_THAT(s.claimed("ab"), ElementsAre("lane 0: 36 37"));
  s.feed_all({input::Answered{0, std::vector(2, Outcome::ack())}, input::Finished{0, 1us}});
  EXPECT_THAT(s.settled(), ElementsAre("claim 100")) << "as soon as the answers are there";
}

TEST(LoopState, TakesTheRestOfARunFromALaneThatStalls) {
  Script s(with(2, 8));
  s.begin();
  s.claimed("-");
  s.claimed("");
  s.answered(0, {Outcome::ack()});
  s.settled();
  s.finished(0, 1us);
  EXPECT_THAT(s.claimed("----"), ElementsAre("lane 0: 2 3", "lane 1: 4 5", "claim 10"));
  s.claimed("");
  s.answered(1, {Outcome::ack(), Outcome::ack()});
  s.settled();
  s.finished(1, 1us);
  EXPECT_EQ(s.state.next_wake(), s.now + 20ms);
  EXPECT_THAT(s.tick(20ms), ElementsAre("revoke lane 0"));
  EXPECT_THAT(s.feed(input::Revoked{0, 1}), ElementsAre("lane 1: 3"));
}

TEST(LoopState, TimesOutTheDeliveryThatRunsAndIgnoresItsLateAnswer) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  EXPECT_THAT(s.tick(29s), ElementsAre("claim 10"));
  s.claimed("");
  EXPECT_THAT(s.tick(1s), ElementsAre("revoke lane 0"));
  EXPECT_THAT(s.feed(input::Revoked{0, 1}), ElementsAre("settle 1=retry(timed out after 30s)"));
  EXPECT_THAT(s.settled(), IsEmpty()) << "the only lane is still busy: nothing to claim for";
  EXPECT_THAT(s.answered(0, {Outcome::ack()}), IsEmpty());
  EXPECT_THAT(s.finished(0), ElementsAre("claim 10"));
  EXPECT_EQ(s.state.stats().timed_out, 1U);
  EXPECT_EQ(s.state.stats().delivered, 1U);
  EXPECT_EQ(s.state.stats().stale, 1U);
}

TEST(LoopState, AnAnswerThatCameJustBeforeTheTimeoutCounts) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  EXPECT_THAT(s.tick(30s), ElementsAre("revoke lane 0", "claim 10"));
  s.claimed("");
  EXPECT_THAT(s.answered(0, {Outcome::ack()}), ElementsAre("settle 1=ack"));
  s.feed(input::Revoked{0, 1});
  EXPECT_EQ(s.state.stats().timed_out, 0U);
}

TEST(LoopState, GivesBackWhatIsQueuedWhenEveryLaneHangs) {
  Script s(with(1));
  s.begin();
  s.claimed("--");
  s.tick(30s);
  EXPECT_THAT(s.feed(input::Revoked{0, 1}), ElementsAre("settle 1=retry(timed out after 30s) 2=release"));
}

TEST(LoopState, StoreErrorsAreRetriedWithGrowingPausesAndAnswersKept) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  s.answered(0, {Outcome::ack()});
  s.finished(0);
  for (const auto pause : {1s, 2s, 4s, 8s, 10s}) {
    EXPECT_THAT(s.failed(StoreCall::settle), IsEmpty());
    EXPECT_EQ(s.state.next_wake(), s.now + pause);
    EXPECT_THAT(s.tick(pause - 1ms), IsEmpty());
    EXPECT_THAT(s.tick(1ms), ElementsAre("settle 1=ack"));
  }
  s.settled();
  EXPECT_EQ(s.state.stats().store_errors, 5U);
  EXPECT_EQ(s.state.stats().acked, 1U);
}

TEST(LoopState, AFailedClaimIsRetried) {
  Script s(with(1));
  s.begin();
  EXPECT_THAT(s.failed(StoreCall::claim), IsEmpty());
  EXPECT_THAT(s.tick(1s), ElementsAre("claim 10"));
}

TEST(LoopState, AnswersToADeletedGroupAreStale) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  s.answered(0, {Outcome::ack()});
  s.failed(StoreCall::settle, Errc::unknown_group);
  EXPECT_EQ(s.state.in_hand(), 0U);
  EXPECT_EQ(s.state.stats().stale, 1U);
}

TEST(LoopState, ALostSessionDropsWhatIsInHandAndOpensANewOne) {
  Script s(with(2));
  s.begin();
  s.claimed("----");
  s.answered(0, {Outcome::ack()});
  s.failed(StoreCall::settle);
  EXPECT_THAT(s.feed(input::SessionLost{}), ElementsAre("revoke lane 0", "revoke lane 1"));
  EXPECT_EQ(s.state.in_hand(), 0U);
  EXPECT_THAT(s.tick(1s), ElementsAre("open session"));
  EXPECT_THAT(s.feed(input::SessionOpened{}), ElementsAre("claim 10"));
  s.claimed("");
  EXPECT_THAT(s.answered(1, {Outcome::ack()}), IsEmpty()) << "it belongs to somebody else";
  EXPECT_EQ(s.state.stats().stale, 2U);
  s.finished(1);
  s.finished(0);
  s.feed(input::Wake{});
  EXPECT_THAT(s.claimed("--"), ElementsAre("lane 0: 5", "lane 1: 6", "claim 10"));
}

TEST(LoopState, AClaimToldThatTheSessionExpiredOpensANewOneAtOnce) {
  Script s(with(1));
  s.begin();
  EXPECT_THAT(s.failed(StoreCall::claim, Errc::timed_out), ElementsAre("open session"));
  EXPECT_EQ(s.state.stats().store_errors, 0U);
}

TEST(LoopState, WaitsForTheNextDueThenLooksAgain) {
  Script s(with(1));
  s.begin();
  EXPECT_THAT(s.claimed("", 300ms), IsEmpty());
  EXPECT_EQ(s.state.next_wake(), s.now + 300ms);
  EXPECT_THAT(s.tick(299ms), IsEmpty());
  EXPECT_THAT(s.tick(1ms), ElementsAre("claim 10"));
  s.claimed("");
  EXPECT_THAT(s.feed(input::Wake{}), ElementsAre("claim 10"));
}

TEST(LoopState, PauseGivesBackTheQueueAndLetsRunningHandlersFinish) {
  Script s(with(1));
  s.begin();
  s.claimed("a-a");
  EXPECT_THAT(s.feed(input::Pause{}), ElementsAre("revoke lane 0", "settle 2=release"));
  s.settled();
  EXPECT_THAT(s.feed(input::Revoked{0, 1}), IsEmpty());
  EXPECT_THAT(s.answered(0, {Outcome::ack()}), ElementsAre("settle 1=ack 3=release"))
      << "one of a running event's key follows it, never goes before it";
  EXPECT_THAT(s.settled(), IsEmpty());
  EXPECT_THAT(s.finished(0), IsEmpty());
  EXPECT_THAT(s.feed(input::Wake{}), IsEmpty());
  EXPECT_THAT(s.feed(input::Resume{}), ElementsAre("claim 10"));
  EXPECT_EQ(s.state.stats().released, 2U);
}

TEST(LoopState, StopWithNothingInHandIsClean) {
  Script s(with(1));
  s.begin();
  s.claimed("");
  EXPECT_THAT(s.feed(input::Stop{s.now + 10s}), ElementsAre("close session"));
  EXPECT_THAT(s.feed(input::SessionClosed{}), ElementsAre("stopped clean"));
  EXPECT_THAT(s.feed(input::Wake{}), IsEmpty());
}

TEST(LoopState, StopWaitsForRunningHandlersAndSettlesTheirAnswers) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  EXPECT_THAT(s.feed(input::Stop{s.now + 10s}), ElementsAre("revoke lane 0"));
  EXPECT_THAT(s.feed(input::Revoked{0, 1}), IsEmpty());
  EXPECT_EQ(s.state.next_wake(), s.now + 10s);
  EXPECT_THAT(s.answered(0, {Outcome::ack()}), ElementsAre("settle 1=ack"));
  EXPECT_THAT(s.settled(), ElementsAre("close session"));
  EXPECT_THAT(s.feed(input::SessionClosed{}), ElementsAre("stopped clean"));
}

TEST(LoopState, StopReleasesWhatStillRunsAtTheDeadline) {
  Script s(with(2));
  s.begin();
  s.claimed("---");
  s.claimed("");
  EXPECT_THAT(s.feed(input::Stop{s.now + 10s}), ElementsAre("revoke lane 0", "revoke lane 1", "settle 3=release"));
  s.settled();
  s.feed(input::Revoked{0, 1});
  EXPECT_THAT(s.feed(input::Revoked{1, 0}), ElementsAre("settle 2=release")) << "its lane had not begun it";
  s.settled();
  EXPECT_THAT(s.tick(10s), ElementsAre("settle 1=release"));
  EXPECT_THAT(s.settled(), ElementsAre("close session"));
  EXPECT_THAT(s.feed(input::SessionClosed{}), ElementsAre("stopped"));
}

TEST(LoopState, AnswersThatCameTogetherWithAStopAreSettledNotReleased) {
  Script s(with(1, 8));
  s.begin();
  s.claimed("-");
  s.claimed("");
  s.answered(0, {Outcome::ack()});
  s.settled();
  s.finished(0, 1us);
  s.feed(input::Wake{});
  s.claimed("aaa");
  s.claimed("");
  EXPECT_THAT(
      s.feed_all({input::Stop{s.now}, input::Answered{0, {Outcome::ack(), Outcome::ack()}}, input::Finished{0, 1us}}),
      ElementsAre("settle 2=ack 3=ack 4=release"));
  EXPECT_THAT(s.settled(), ElementsAre("close session"));
}

TEST(LoopState, StopEndsThoughTheStoreFails) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  s.answered(0, {Outcome::ack()});
  s.failed(StoreCall::settle);
  s.finished(0);
  EXPECT_THAT(s.feed(input::Stop{s.now + 500ms}), IsEmpty()) << "there is time to try again";
  EXPECT_THAT(s.tick(500ms), ElementsAre("settle 1=ack"));
  EXPECT_THAT(s.failed(StoreCall::settle), ElementsAre("close session"));
  EXPECT_THAT(s.failed(StoreCall::close_session), ElementsAre("stopped"));
}

TEST(LoopState, StopBeforeTheSessionIsOpenEndsAtOnce) {
  Script s(with(1));
  EXPECT_THAT(s.feed(input::Tick{}), ElementsAre("open session"));
  EXPECT_THAT(s.failed(StoreCall::open_session), IsEmpty());
  EXPECT_THAT(s.feed(input::Stop{s.now}), ElementsAre("stopped clean"));
}

TEST(LoopState, AHandlersOwnReleaseIsCountedAsReleased) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  EXPECT_THAT(s.answered(0, {Outcome::release()}), ElementsAre("settle 1=release"));
  s.settled();
  EXPECT_EQ(s.state.stats().released, 1U);
}

TEST(LoopState, ARejectAlwaysHasAReason) {
  Script s(with(1));
  s.begin();
  s.claimed("-");
  s.claimed("");
  EXPECT_THAT(s.answered(0, {Outcome::reject("")}), ElementsAre("settle 1=reject(rejected without a reason)"));
}

/// Random lanes, answers and losses: whatever happens, a key's events never overtake each other, nothing runs twice at
/// once, no more than `concurrency` run, and everything claimed is settled in the end.
TEST(LoopState, RandomSequencesKeepThePromises) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::uint64_t random = seed * 0x9E3779B97F4A7C15ULL;
    const auto pick = [&](std::uint64_t n) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      return random % n;
    };
    const std::size_t concurrency = 1 + pick(5);
    LoopState state({.batch = 20, .concurrency = concurrency, .longest_run = 8, .timeout = 30s});
    Time now{1000s};
    struct Running {
      Work work;
      std::size_t answered = 0;
      bool ended = false;
    };
    std::map<LaneId, Running> running;
    std::map<std::uint64_t, std::uint64_t> key_of;
    std::map<std::uint64_t, std::uint64_t> last_of_key;  // newest acknowledged of each key
    std::set<std::uint64_t> open;
    std::deque<Input> inputs{input::Tick{}};
    std::uint64_t next = 1;
    for (int turn = 0; turn < 2000; ++turn) {
      if (inputs.empty()) {
        now += 1ms * pick(3);
        if (!running.empty() && pick(4) != 0) {
          auto it = std::next(running.begin(), static_cast<std::ptrdiff_t>(pick(running.size())));
          auto& [lane, run] = *it;
          if (!run.ended && run.answered < run.work.items.size()) {
            const bool good = pick(10) != 0;
            ++run.answered;
            run.ended = !good;
            inputs.emplace_back(input::Answered{lane, {good ? Outcome::ack() : Outcome::retry("no")}});
          } else {
            inputs.emplace_back(input::Finished{lane, 1us});
            running.erase(it);
          }
        } else {
          inputs.emplace_back(input::Wake{});
        }
      }
      Input input = std::move(inputs.front());
      inputs.pop_front();
      for (Action& action : state.step({std::move(input)}, now)) {
        if (auto* start = std::get_if<action::Start>(&action)) {
          ASSERT_FALSE(running.contains(start->lane));
          running[start->lane] = {start->work};
          ASSERT_LE(running.size(), concurrency);
        } else if (const auto* settle = std::get_if<action::Settle>(&action)) {
          for (const Settlement& s : settle->settlements) {
            const std::uint64_t position = s.lease.position.low;
            ASSERT_EQ(open.erase(position), 1U) << "settled twice, seed " << seed;
            if (s.outcome.kind != Outcome::Kind::ack || key_of[position] == 0) continue;
            ASSERT_GT(position, last_of_key[key_of[position]]) << "overtaken, seed " << seed;
            last_of_key[key_of[position]] = position;
          }
          inputs.emplace_front(input::Settled{});
        } else if (std::holds_alternative<action::Claim>(action)) {
          input::Claimed claimed;
          // As a ledger does: no key that is still held.
          std::set<std::uint64_t> held;
          for (const auto p : open) held.insert(key_of[p]);
          for (std::uint64_t n = next < 300 ? pick(20) : 0; n != 0; --n) {
            const std::uint64_t key = pick(6);
            if (key != 0 && held.contains(key)) continue;
            Delivery delivery;
            delivery.lease = {1, Position(next)};
            key_of[next] = key;
            open.insert(next++);
            claimed.deliveries.push_back(delivery);
            claimed.keys.push_back(key);
          }
          claimed.next_due = 1ms;
          inputs.emplace_front(std::move(claimed));
        } else if (const auto* revoke = std::get_if<action::Revoke>(&action)) {
          auto& run = running.at(revoke->lane);
          run.ended = true;
          inputs.emplace_front(input::Revoked{revoke->lane, run.answered});
        } else if (std::holds_alternative<action::OpenSession>(action)) {
          inputs.emplace_front(input::SessionOpened{});
        }
      }
    }
    EXPECT_TRUE(open.empty()) << "seed " << seed << ": " << open.size() << " never settled";
    EXPECT_EQ(state.in_hand(), 0U);
  }
}

}  // namespace
}  // namespace millrace::delivery
