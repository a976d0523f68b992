// SPDX-License-Identifier: Apache-2.0
#include "replay/engine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_ports.hpp"
#include "millrace/schema.hpp"
#include "replay/targets.hpp"

namespace millrace::replay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

struct Seen {
  std::vector<std::string> ids;
  std::vector<std::string> replayids;
  ReplayHandler handler() {
    return [this](const StoredEvent& stored) {
      ids.push_back(stored.event.id);
      replayids.push_back(stored.event.attribute(kReplayId).value_or("none"));
    };
  }
};

ReplayReport replay(Ports& ports, const ReplayQuery& query, const ReplayTarget& target, ReplayOptions options = {}) {
  if (options.replayid.empty()) options.replayid = "r";
  ReplayRecord record = new_record(query, target, options);
  run(ports, record, target, {options.window, options.progress, options.schemas});
  return record.report;
}

ReplayReport resume(FakePorts& ports, const ReplayTarget& target, std::size_t window = 1'000) {
  ReplayRecord record = ports.saved;
  run(ports, record, target, {window, {}, {}});
  return record.report;
}

/// A handler that throws at one event.
ReplayHandler failing_at(Seen& seen, const std::string& id) {
  return [id, inner = seen.handler()](const StoredEvent& stored) {
    if (stored.event.id == id) throw std::runtime_error("no");
    inner(stored);
  };
}

TEST(Replay, GivesEveryEventInOrderWithItsReplayid) {
  FakePorts ports(1'203);
  Seen seen;
  const ReplayReport report = replay(ports, {}, seen.handler());
  ASSERT_EQ(seen.ids.size(), 1'203U);
  for (std::size_t i = 0; i < seen.ids.size(); ++i) EXPECT_EQ(seen.ids[i], std::to_string(i + 1));
  EXPECT_THAT(seen.replayids, testing::Each("r"));
  EXPECT_TRUE(report.finished());
  EXPECT_EQ(report.read, 1'203U);
  EXPECT_EQ(report.delivered, 1'203U);
  EXPECT_EQ(report.next, Position{1'203});
  EXPECT_EQ(ports.saved.report.state, ReplayState::finished);
}

TEST(Replay, AnEmptyStreamIsFinishedAtOnce) {
  FakePorts ports(0);
  Seen seen;
  EXPECT_TRUE(replay(ports, {}, seen.handler()).finished());
  EXPECT_TRUE(seen.ids.empty());
}

TEST(Replay, KeepsToPositionsTypesAndLimit) {
  FakePorts ports(20);
  Seen seen;
  const auto report =
      replay(ports, {.after = Position{2}, .up_to = Position{17}, .types = {"a"}, .limit = 4}, seen.handler());
  EXPECT_THAT(seen.ids, ElementsAre("3", "5", "7", "9"));
  EXPECT_EQ(report.read, 4U);
  EXPECT_TRUE(report.finished());
  Seen rest;
  replay(ports, {.after = Position{14}, .up_to = Position{17}, .types = {"a"}}, rest.handler(), {.replayid = "s"});
  EXPECT_THAT(rest.ids, ElementsAre("15", "17"));
}

TEST(Replay, EndsWhereTheStreamEndedWhenItBegan) {
  FakePorts ports(3);
  Seen seen;
  const auto report = replay(ports, {}, ReplayHandler([&](const StoredEvent& stored) {
                               seen.handler()(stored);
                               ports.add(ports.stream.back().position.low + 1);
                             }));
  EXPECT_THAT(seen.ids, ElementsAre("1", "2", "3"));
  EXPECT_EQ(report.end, Position{3});
  EXPECT_TRUE(report.finished());
}

TEST(Replay, StopsBeforeTheEventThatFailedAndResumingTriesItAgain) {
  FakePorts ports(5);
  Seen seen;
  const auto report = replay(ports, {}, failing_at(seen, "3"));
  EXPECT_EQ(report.state, ReplayState::failed);
  EXPECT_EQ(report.read, 3U);
  EXPECT_EQ(report.delivered, 2U);
  EXPECT_EQ(report.failed, 1U);
  EXPECT_EQ(report.next, Position{2});
  EXPECT_EQ(report.first_error, "position 3: no");
  const auto whole = resume(ports, seen.handler());
  EXPECT_THAT(seen.ids, ElementsAre("1", "2", "3", "4", "5"));
  EXPECT_TRUE(whole.finished());
  EXPECT_EQ(whole.read, 5U);
  EXPECT_EQ(whole.delivered, 5U);
  EXPECT_EQ(whole.failed, 0U);
  EXPECT_EQ(whole.first_error, "");
}

TEST(Replay, CountsFailuresAndGoesOnWhenAskedTo) {
  FakePorts ports(5);
  Seen seen;
  const auto report = replay(ports, {}, failing_at(seen, "3"), {.on_error = ReplayOnError::count});
  EXPECT_THAT(seen.ids, ElementsAre("1", "2", "4", "5"));
  EXPECT_TRUE(report.finished());
  EXPECT_EQ(report.read, 5U);
  EXPECT_EQ(report.delivered, 4U);
  EXPECT_EQ(report.failed, 1U);
  EXPECT_EQ(report.first_error, "position 3: no");
}

TEST(Replay, AHandlerThatThrowsNoExceptionFailsAllTheSame) {
  FakePorts ports(1);
  const auto report = replay(ports, {}, ReplayHandler([](const StoredEvent&) { throw 1; }));
  EXPECT_EQ(report.failed, 1U);
}

TEST(Replay, AnErrorOfTheStoreIsRecordedAndThrown) {
  FakePorts ports(600);
  ports.fail_read = 2;
  Seen seen;
  EXPECT_THROW(replay(ports, {}, seen.handler()), Error);
  EXPECT_EQ(ports.saved.report.state, ReplayState::failed);
  EXPECT_EQ(ports.saved.report.next, Position{500});
  EXPECT_THAT(ports.saved.report.first_error, HasSubstr("gone away"));
  const auto report = resume(ports, seen.handler());
  EXPECT_EQ(seen.ids.size(), 600U);
  EXPECT_EQ(report.first_error, "");
}

TEST(Replay, ToldToStopItIsInterruptedAndGoesOnWhereItWas) {
  FakePorts ports(10);
  Seen seen;
  const auto report = replay(ports, {}, ReplayHandler([&](const StoredEvent& stored) {
                               seen.handler()(stored);
                               ports.stop = seen.ids.size() == 4;
                             }));
  EXPECT_EQ(report.state, ReplayState::interrupted);
  EXPECT_EQ(ports.saved.report.next, Position{4});
  ports.stop = false;
  EXPECT_TRUE(resume(ports, seen.handler()).finished());
  EXPECT_EQ(seen.ids.size(), 10U);
}

TEST(Replay, AResumedOneThatIsFinishedDoesNothing) {
  FakePorts ports(3);
  Seen seen;
  replay(ports, {}, seen.handler());
  const auto report = resume(ports, seen.handler());
  EXPECT_EQ(seen.ids.size(), 3U);
  EXPECT_EQ(report.delivered, 3U);
}

TEST(Replay, IsResumedOnlyIntoTheSameTarget) {
  FakePorts ports(3);
  ports.stop = true;
  Seen seen;
  replay(ports, {}, seen.handler());
  EXPECT_THROW(resume(ports, IntoStream{"copies"}), Error);
}

TEST(Replay, OneThatSomebodyElseResumedEnds) {
  FakePorts ports(3);
  Seen seen;
  ReplayHandler handler = [&](const StoredEvent& stored) {
    seen.handler()(stored);
    ports.clock += seconds{1};
    ports.stolen = true;
  };
  try {
    replay(ports, {}, handler);
    FAIL() << "went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::busy);
  }
  EXPECT_THAT(seen.ids, ElementsAre("1"));
}

TEST(Replay, RecordsAtLeastEverySecond) {
  FakePorts ports(50);
  replay(ports, {}, ReplayHandler([&](const StoredEvent&) { ports.clock += milliseconds{300}; }));
  for (std::size_t i = 1; i < ports.saves.size(); ++i) {
    EXPECT_LE(ports.saves[i] - ports.saves[i - 1], milliseconds{1'200});
  }
  EXPECT_GE(ports.saves.size(), 12U);
}

TEST(Replay, KeepsTheOriginalPace) {
  FakePorts ports(4);  // one second apart
  std::vector<SteadyTime> times;
  const ReplayHandler note = [&](const StoredEvent&) { times.push_back(ports.clock); };
  replay(ports, {}, note, {.pace = ReplayPace::original()});
  EXPECT_THAT(times, ElementsAre(SteadyTime{}, SteadyTime{} + seconds{1}, SteadyTime{} + seconds{2},
                                 SteadyTime{} + seconds{3}));
  times.clear();
  ports.clock = {};
  replay(ports, {}, note, {.replayid = "s", .pace = ReplayPace::original(4)});
  EXPECT_THAT(times, ElementsAre(SteadyTime{}, SteadyTime{} + milliseconds{250}, SteadyTime{} + milliseconds{500},
                                 SteadyTime{} + milliseconds{750}));
}

TEST(Replay, ASlowHandlerCatchesUpWithThePace) {
  FakePorts ports(4);
  std::vector<SteadyTime> times;
  replay(ports, {}, ReplayHandler([&](const StoredEvent&) {
           times.push_back(ports.clock);
           if (times.size() == 1) ports.clock += milliseconds{2'500};
         }),
         {.pace = ReplayPace::original()});
  EXPECT_THAT(times, ElementsAre(SteadyTime{}, SteadyTime{} + milliseconds{2'500}, SteadyTime{} + milliseconds{2'500},
                                 SteadyTime{} + seconds{3}));
}

TEST(Replay, StopsSoonWhileItWaitsForThePace) {
  FakePorts ports(1);
  ports.stream.push_back(ports.stream.front());
  ports.stream.back().position = Position{2};
  ports.stream.back().stored_at += std::chrono::hours{24};
  ports.on_wait = [&] { ports.stop = true; };
  Seen seen;
  EXPECT_EQ(replay(ports, {}, seen.handler(), {.pace = ReplayPace::original()}).state, ReplayState::interrupted);
  EXPECT_LE(ports.waited, milliseconds{500});
}

TEST(ReplayIntoStream, CopiesUnderItsOwnIdsAndAResumedOneRepeatsNothing) {
  FakePorts ports(10);
  const ReplayTarget copies = IntoStream{"copies"};
  replay(ports, {}, copies);
  ASSERT_EQ(ports.copies.size(), 10U);
  EXPECT_EQ(ports.copies[3].id, "r:4");
  EXPECT_EQ(ports.copies[3].attribute(kReplayId), "r");
  EXPECT_EQ(ports.copies[3].data, "data 4");
  ports.saved.report.state = ReplayState::running;  // killed behind the append, before its record
  ports.saved.report.next = Position{};
  EXPECT_TRUE(resume(ports, copies).finished());
  EXPECT_EQ(ports.copies.size(), 10U);
}

TEST(ReplayIntoStream, LeavesErasedEventsOutAndCountsThem) {
  FakePorts ports(3);
  ports.stream[1].event.data.reset();
  ports.stream[1].event.set_extension(kErasedTime, "2026-01-01T00:00:00Z");
  const auto report = replay(ports, {}, IntoStream{"copies"});
  EXPECT_EQ(report.erased, 1U);
  EXPECT_EQ(report.delivered, 2U);
  EXPECT_EQ(ports.copies.size(), 2U);
  Seen seen;
  replay(ports, {}, seen.handler(), {.replayid = "s"});
  EXPECT_EQ(seen.ids.size(), 3U);
}

TEST(ReplayIntoStream, ATakenIdFailsAndNamesItself) {
  FakePorts ports(3);
  ports.conflicts = {"r:2"};
  const auto report = replay(ports, {}, IntoStream{"copies"}, {.on_error = ReplayOnError::count});
  EXPECT_EQ(report.failed, 1U);
  EXPECT_EQ(report.delivered, 2U);
  EXPECT_THAT(report.first_error, HasSubstr("r:2"));
}

TEST(ReplayIntoStream, OneCopyThatIsTooLargeKeepsNoOtherOut) {
  FakePorts ports(5);
  ports.too_large = {"r:3"};
  const auto report = replay(ports, {}, IntoStream{"copies"}, {.on_error = ReplayOnError::count});
  EXPECT_EQ(report.delivered, 4U);
  EXPECT_EQ(report.failed, 1U);
  EXPECT_THAT(report.first_error, HasSubstr("max_event_bytes"));
}

TEST(ReplayIntoStream, AnUnknownOneIsToldBeforeAnythingIsRead) {
  FakePorts ports(5);
  EXPECT_THROW(replay(ports, {}, IntoStream{"nowhere"}), Error);
  EXPECT_EQ(ports.reads, 0U);
  EXPECT_EQ(ports.version, 0U);
}

TEST(ReplayToGroup, NeverHasMoreOpenThanItsWindow) {
  FakePorts ports(5'000);
  ports.on_wait = [&] {  // consumers settle some
    for (int i = 0; i < 60 && !ports.open.empty(); ++i) ports.open.erase(ports.open.begin());
  };
  const auto report = replay(ports, {}, ToGroup{"mail"}, {.window = 200});
  EXPECT_EQ(ports.most_open, 200U);
  EXPECT_EQ(ports.handed.size(), 5'000U);
  EXPECT_EQ(report.delivered, 5'000U);
}

TEST(ReplayToGroup, RecordsEachBatchSoThatAResumedOneHandsInNothingTwice) {
  FakePorts ports(300);
  ports.paused = true;
  int looks = 0;
  std::vector<Position> recorded;  // what a crash at this moment would leave
  ports.on_wait = [&] {
    recorded.push_back(ports.saved.report.next);
    ports.stop = ++looks == 3;
  };
  const auto report = replay(ports, {}, ToGroup{"mail"}, {.window = 100});
  EXPECT_EQ(report.state, ReplayState::interrupted);
  EXPECT_EQ(ports.handed.size(), 100U);
  EXPECT_THAT(recorded, testing::Each(Position{100}));
  ports.stop = false;
  ports.on_wait = [&] { ports.open.clear(); };
  EXPECT_TRUE(resume(ports, ToGroup{"mail"}, 100).finished());
  EXPECT_EQ(ports.handed.size(), 300U);
  EXPECT_EQ(ports.most_open, 100U);  // what was open when it was interrupted still counts
}

TEST(ReplayToGroup, WhileThePausedGroupIsFullItSaysWhyItWaits) {
  FakePorts ports(300);
  ports.paused = true;
  std::string why;
  ports.on_wait = [&] { ports.stop = ports.waited > seconds{1}; };
  replay(ports, {}, ToGroup{"mail"}, {.window = 100, .progress = [&](const ReplayProgress& progress) {
                                        if (!progress.waiting.empty()) why = progress.waiting;
                                      }});
  EXPECT_EQ(why, "group mail is paused, 100 open");
}

TEST(ReplayToGroup, CountsWhatTheGroupGetsAnyway) {
  FakePorts ports(10);
  ports.cursor = Position{6};
  ports.open = {Position{2}};
  const auto report = replay(ports, {}, ToGroup{"mail"});
  EXPECT_EQ(report.delivered, 5U);
  EXPECT_EQ(report.passed, 5U);
  EXPECT_EQ(report.read, 10U);
}

TEST(ReplayToGroup, RefusesAGroupOfAnotherStream) {
  FakePorts ports(10);
  EXPECT_THROW(replay(ports, {.stream = "copies"}, ToGroup{"mail"}), Error);
  EXPECT_EQ(ports.version, 0U);
}

TEST(Replay, UpcastsForAHandlerAndAFailingUpcastIsAFailedEvent) {
  FakePorts ports(3);
  ports.stream[1].event.datacontenttype = "application/json";
  ports.stream[1].event.data = R"({"path":"/x"})";
  ports.stream[1].event.type = "asset.discovered";
  auto schemas = std::make_shared<SchemaRegistry>();
  schemas->upcast("asset.discovered", 1, {SchemaChange::rename("/path", "file_path")});
  std::string data;
  const ReplayHandler handler = [&](const StoredEvent& stored) {
    if (stored.event.type == "asset.discovered") data = *stored.event.data;
  };
  EXPECT_EQ(replay(ports, {}, handler, {.schemas = schemas}).delivered, 3U);
  EXPECT_EQ(data, R"({"file_path":"/x"})");
  auto failing = std::make_shared<SchemaRegistry>();
  failing->upcast("asset.discovered", 1, [](Event&) { throw std::runtime_error("cannot"); });
  const auto report =
      replay(ports, {}, handler, {.replayid = "s", .on_error = ReplayOnError::count, .schemas = failing});
  EXPECT_EQ(report.failed, 1U);
  EXPECT_THAT(report.first_error, HasSubstr("cannot"));
}

TEST(ReplayOptions, SayWhatIsWrong) {
  FakePorts ports(1);
  Seen seen;
  EXPECT_THROW(replay(ports, {}, seen.handler(), {.replayid = "a b"}), Error);
  EXPECT_THROW(replay(ports, {}, seen.handler(), {.replayid = "Upper"}), Error) << "as a group's name";
  EXPECT_THROW(replay(ports, {}, seen.handler(), {.window = 0}), Error);
  EXPECT_THROW(replay(ports, {}, seen.handler(), {.pace = {-1}}), Error);
  EXPECT_THROW(replay(ports, {.after = Position{2}, .up_to = Position{1}}, seen.handler()), Error);
  EXPECT_THROW(replay(ports, {}, ReplayHandler()), Error);
}

TEST(Replay, TellsOfEventsThatWereTrimmedBeforeItReadThem) {
  FakePorts ports(10);
  ports.stream.erase(ports.stream.begin(), ports.stream.begin() + 5);
  Seen seen;
  const auto report = replay(ports, {.after = Position{2}}, seen.handler());
  EXPECT_EQ(report.gap, Position{6});
  EXPECT_EQ(seen.ids.size(), 5U);
}

TEST(ReplayPreview, CountsAndChangesNothing) {
  FakePorts ports(10);
  ports.cursor = Position{4};
  const auto record = new_record({.after = Position{1}}, ToGroup{"mail"}, {});
  const Preview seen = preview(ports, record);
  EXPECT_EQ(seen.events, 9U);
  EXPECT_EQ(seen.types.at("a"), 4U);
  EXPECT_EQ(seen.types.at("b"), 5U);
  EXPECT_EQ(seen.first->position, Position{2});
  EXPECT_EQ(seen.last->position, Position{10});
  EXPECT_EQ(seen.statuses.at(ReplayStatus::accepted), 3U);
  EXPECT_EQ(seen.statuses.at(ReplayStatus::ahead), 6U);
  EXPECT_TRUE(ports.handed.empty());
  EXPECT_EQ(ports.version, 0U);
}

}  // namespace
}  // namespace millrace::replay
