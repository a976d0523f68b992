// SPDX-License-Identifier: Apache-2.0

// What the store answers and keeps when the disk fails under it.

#include "failing_disk.hpp"
#include "sqlite_test_support.hpp"

namespace millrace {
namespace {

using test::code_of;
using test::event_of;
using test::events_of;
using test::FailingDisk;
using test::from_beginning;
using test::options_for;
using test::TempDirectory;
using What = FailingDisk::What;

class SqliteBadDisk : public testing::Test {
 protected:
  void open() { store_ = open_store(options_for(path_)); }
  AppendResult append(const std::string& id, Durability durability = Durability::durable) {
    return store_->log().append("events", std::vector{event_of(id)}, durability).front();
  }
  void expect_ids(const std::vector<std::string>& ids) {
    const auto page = store_->log().read("events", {});
    ASSERT_EQ(page.events.size(), ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(page.events[i].event.id, ids[i]);
  }

  FailingDisk disk_;  // outlives the store
  const TempDirectory directory_;
  const std::string path_ = directory_.file("events.db");
  std::unique_ptr<Store> store_;
};

TEST_F(SqliteBadDisk, AFailedSyncIsAnUnknownOutcomeAndTheSameIdsFindOut) {
  open();
  store_->ledger().ensure_group("g", from_beginning());
  append("before");
  disk_.fail(What::sync, 1);
  EXPECT_EQ(code_of([&] { append("unknown"); }), Errc::outcome_unknown);
  EXPECT_EQ(disk_.failures(), 1);
  const AppendResult again = append("unknown");
  EXPECT_TRUE(again.status == AppendStatus::stored || again.status == AppendStatus::duplicate);
  EXPECT_EQ(again.durability, Durability::durable);
  EXPECT_EQ(append("before").status, AppendStatus::duplicate);
  EXPECT_EQ(append("after").status, AppendStatus::stored);
  expect_ids({"before", "unknown", "after"});
  const auto claimed = store_->ledger().claim("g", {"c"}).deliveries;
  EXPECT_EQ(claimed.size(), 3u);
  store_.reset();
  open();
  expect_ids({"before", "unknown", "after"});
  EXPECT_EQ(store_->ledger().group("g").lag.in_flight, 3u);
}

TEST_F(SqliteBadDisk, AfterAFailedSyncTheLogOfCommitsBeginsAnew) {
  open();
  append("relaxed", Durability::relaxed);
  disk_.fail(What::sync, 1);
  EXPECT_EQ(code_of([&] { append("1"); }), Errc::outcome_unknown);
  append("2");
  // The system may have dropped what the failed sync covered: nothing acknowledged later may stand behind it.
  EXPECT_LT(std::filesystem::file_size(path_ + "-wal"), 64u << 10) << "the frames of before are in the file now";
  const std::string copy = directory_.file("file-alone.db");
  ASSERT_EQ(std::system(("cp '" + path_ + "' '" + copy + "'").c_str()), 0);
  store_.reset();
  EXPECT_EQ(test::sql(copy, "SELECT count(*) FROM \"log:events\" WHERE id = 'relaxed'"), "1");
}

TEST_F(SqliteBadDisk, WhileSyncsFailNothingIsAcknowledgedAndAfterwardsAllGoesOn) {
  open();
  store_->ledger().ensure_group("g", from_beginning());
  append("before");
  const auto held = store_->ledger().claim("g", {"c", 1}).deliveries;
  ASSERT_EQ(held.size(), 1u);
  disk_.fail(What::sync);
  for (int i = 0; i < 5; ++i) {
    const Errc code = code_of([&] { append("e"); });
    EXPECT_TRUE(code == Errc::outcome_unknown || code == Errc::unavailable) << to_string(code);
    EXPECT_TRUE(is_transient(code));
  }
  const Errc settling = code_of([&] {
    store_->ledger().settle("g", std::vector{Settlement{held[0].lease, Outcome::ack()}});
  });
  EXPECT_TRUE(is_transient(settling)) << to_string(settling);
  disk_.heal();
  append("e");
  expect_ids({"before", "e"});
  // The group is what the file says: either the settlement is in it, or the lease is still good.
  const auto stale = store_->ledger().settle("g", std::vector{Settlement{held[0].lease, Outcome::ack()}});
  EXPECT_EQ(store_->ledger().group("g").processed, 1u) << stale.size();
}

TEST_F(SqliteBadDisk, AFullDiskIsSaidAndNothingIsWritten) {
  open();
  store_->ledger().ensure_group("g", from_beginning());
  append("before");
  disk_.fail(What::write);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(code_of([&] { append("full"); }), Errc::store_full);
  EXPECT_EQ(code_of([&] { (void)store_->ledger().claim("g", {"c"}); }), Errc::store_full);
  expect_ids({"before"});
  disk_.heal();
  const auto claimed = store_->ledger().claim("g", {"c"}).deliveries;
  ASSERT_EQ(claimed.size(), 1u) << "what was handed out and not written is handed out again";
  EXPECT_EQ(claimed[0].attempt, 1u);
  EXPECT_EQ(append("full").status, AppendStatus::stored);
  EXPECT_EQ(append("full").position, Position(2));
  store_.reset();
  open();
  expect_ids({"before", "full"});
}

TEST_F(SqliteBadDisk, AcknowledgedEventsOutliveADiskThatFailsNowAndThen) {
  open();
  std::vector<std::string> acknowledged;
  for (int i = 0; i < 300; ++i) {
    if (i % 7 == 3) disk_.fail(i % 2 == 0 ? What::sync : What::write, 1 + i % 3, i % 5 == 0 ? ".db" : "-wal");
    const std::string id = std::to_string(i);
    for (int tries = 0;; ++tries) {
      ASSERT_LT(tries, 20);
      try {
        append(id);
        break;
      } catch (const Error& error) {
        ASSERT_TRUE(is_transient(error.code())) << error.what();
      }
    }
    acknowledged.push_back(id);
  }
  disk_.heal();
  for (int round = 0; round < 2; ++round) {
    ReadQuery query;
    query.limit = 1000;
    const auto page = store_->log().read("events", query);
    ASSERT_EQ(page.events.size(), acknowledged.size());
    for (std::size_t i = 0; i < acknowledged.size(); ++i) EXPECT_EQ(page.events[i].event.id, acknowledged[i]);
    store_.reset();
    open();
  }
}

TEST_F(SqliteBadDisk, ACheckpointThatCannotSyncLosesNothing) {
  open();
  disk_.fail(What::sync, 2, ".db");
  std::uint64_t stored = 0;
  for (int batch = 0; batch < 400 && (batch < 40 || disk_.failures() < 2); ++batch) {
    std::vector<Event> events = events_of("b" + std::to_string(batch) + "-", 200);
    for (Event& event : events) event.data = std::string(3000, 'x');
    for (int tries = 0; tries < 5; ++tries) {
      try {
        stored += store_->log().append("events", events).size();
        break;
      } catch (const Error& error) {  // the log is to be renewed, and the disk fails still or a checkpoint runs
        ASSERT_EQ(error.code(), Errc::unavailable) << error.what();
      }
    }
  }
  EXPECT_EQ(disk_.failures(), 2);
  store_.reset();
  open();
  EXPECT_EQ(store_->log().stream("events").events, stored);
}

TEST_F(SqliteBadDisk, AReadThatTheDiskRefusesIsNoDamage) {
  open();
  append("before");
  store_.reset();
  open();
  for (const char* suffix : {".db", "-wal"}) {
    if (*suffix == '-') append("in the log");
    const int before = disk_.failures();
    disk_.fail(What::read, 1 << 30, suffix);  // whoever reads: housekeeping may be first
    EXPECT_EQ(code_of([&] { store_->log().read("events", {}); }), Errc::unavailable) << suffix;
    disk_.heal();
    EXPECT_GT(disk_.failures(), before);
    EXPECT_EQ(store_->log().read("events", {}).events.front().event.id, "before");
  }
}

}  // namespace
}  // namespace millrace
