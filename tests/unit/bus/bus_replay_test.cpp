// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "millrace/bus.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

class BusReplay : public testing::Test {
 protected:
  void SetUp() override {
    store_->log().create_stream("copies");
    store_->ledger().ensure_group("mail", {.stream = "events", .start = Start::beginning()});
    store_->ledger().ensure_group("other", {.stream = "events", .start = Start::beginning()});
    for (int i = 1; i <= 5; ++i) {
      bus_.publish(EventBuilder(i % 2 == 1 ? "odd" : "even", "/test").id(std::to_string(i)).text("x").build());
    }
    take("mail");
    take("other");
  }

  /// Claims and acknowledges whatever there is: "id" or "id/replayid" of each.
  std::vector<std::string> take(const GroupName& group) {
    std::vector<std::string> seen;
    const auto answer = store_->ledger().claim(group, {.consumer = "test"});
    std::vector<Settlement> settlements;
    for (const Delivery& delivery : answer.deliveries) {
      const auto replayid = delivery.event.attribute(kReplayId);
      seen.push_back(delivery.event.id + (replayid ? "/" + *replayid : ""));
      settlements.push_back({delivery.lease, Outcome::ack()});
    }
    store_->ledger().settle(group, settlements);
    return seen;
  }

  std::unique_ptr<Store> store_ = open_store("memory:");
  Bus bus_{store_.get()};
};

using List = std::vector<std::string>;

TEST_F(BusReplay, GivesToAHandlerAndAnswersWhatCameOfIt) {
  List ids;
  const ReplayReport report =
      bus_.replay({.types = {"odd"}}, [&](const StoredEvent& stored) { ids.push_back(stored.event.id); });
  EXPECT_EQ(ids, (List{"1", "3", "5"}));
  EXPECT_EQ(report.read, 3U);
  EXPECT_EQ(report.delivered, 3U);
  EXPECT_TRUE(report.finished());
  EXPECT_EQ(replay_record(store_->kv(), report.replayid).report, report);
  EXPECT_EQ(take("mail"), List{});
}

TEST_F(BusReplay, CopiesArePublishedAsNewEvents) {
  List observed;
  const auto observation = bus_.observe({}, [&](const Observed& seen) { observed.push_back(seen.event.id); });
  bus_.replay({.limit = 2}, IntoStream{"copies"}, {.replayid = "r"});
  EXPECT_EQ(observed, (List{"r:1", "r:2"}));
  EXPECT_EQ(store_->log().stream("copies").events, 2U);
}

TEST_F(BusReplay, IntoItsOwnStreamItEndsAtItsOwnCopies) {
  EXPECT_EQ(bus_.replay({}, IntoStream{"events"}).delivered, 5U);
  EXPECT_EQ(store_->log().stream("events").events, 10U);
}

TEST_F(BusReplay, OpensEventsInOneGroupOnly) {
  const auto report = bus_.replay({.types = {"even"}}, ToGroup{"mail"}, {.replayid = "r"});
  EXPECT_EQ(report.delivered, 2U);
  EXPECT_EQ(take("mail"), (List{"2/r", "4/r"}));
  EXPECT_EQ(take("other"), List{});
  EXPECT_EQ(take("mail"), List{});
}

TEST_F(BusReplay, GoesOnWithWhatWasAskedThen) {
  List ids;
  std::stop_source source;
  const ReplayHandler handler = [&](const StoredEvent& stored) {
    ids.push_back(stored.event.id);
    if (ids.size() == 2) source.request_stop();
  };
  const auto cut = bus_.replay({.types = {"odd"}}, handler, {.replayid = "r", .stop = source.get_token()});
  EXPECT_EQ(cut.state, ReplayState::interrupted);
  bus_.publish(EventBuilder("odd", "/test").id("7").build());  // behind its end
  EXPECT_TRUE(bus_.resume_replay(handler, {.replayid = "r"}).finished());
  EXPECT_EQ(ids, (List{"1", "3", "5"}));
  EXPECT_THROW(bus_.replay({}, handler, {.replayid = "r"}), Error);
  EXPECT_THROW(bus_.resume_replay(handler, {.replayid = "unheard-of"}), Error);
}

TEST_F(BusReplay, ABusWithoutAStoreHasNothingToReplay) {
  Bus bus(nullptr);
  EXPECT_THROW(bus.replay({}, [](const StoredEvent&) {}), Error);
}

}  // namespace
}  // namespace millrace
