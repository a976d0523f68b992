// SPDX-License-Identifier: Apache-2.0

// What holds in a restored store: leases, sessions, versions. The rest is judged from outside (tests/system).

#include <gtest/gtest.h>

#include "sqlite_test_support.hpp"

namespace millrace {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::event_of;
using test::from_beginning;
using test::options_for;
using test::sql;
using test::TempDirectory;

ClaimRequest by_session(SessionId session, std::size_t max = 10) {
  ClaimRequest request;
  request.consumer = "c";
  request.hold = session;
  request.max = max;
  return request;
}

class SqliteBackup : public ::testing::Test {
 protected:
  TempDirectory directory_;
  std::string backup_ = directory_.file("backup");
  std::string restored_ = directory_.file("restored.db");
  std::unique_ptr<Store> store_ = open_store(options_for(directory_.file("events.db")));

  std::unique_ptr<Store> restore() {
    store_->backup(backup_);
    restore_store(backup_, restored_);
    return open_store(options_for(restored_));
  }
};

TEST_F(SqliteBackup, ClosesSessionsAndOpensTheirEventsAgainUncharged) {
  store_->log().append("events", test::events_of("e", 4));
  store_->ledger().ensure_group("g", from_beginning());
  const SessionId session = store_->ledger().open_session("c", 60s);
  const ClaimAnswer held = store_->ledger().claim("g", by_session(session));
  ASSERT_EQ(held.deliveries.size(), 4u);

  const auto restored = restore();
  EXPECT_FALSE(restored->ledger().renew_session(session));
  const Settlement old{held.deliveries[0].lease, Outcome::ack()};
  EXPECT_EQ(restored->ledger().settle("g", {&old, 1}), std::vector<std::size_t>{0});
  const GroupInfo group = restored->ledger().group("g");
  EXPECT_EQ(group.lag.in_flight, 0u);
  EXPECT_EQ(group.lag.waiting, 4u);
  EXPECT_EQ(group.suspects, 0u);
  const SessionId fresh = restored->ledger().open_session("c", 60s);
  EXPECT_GT(fresh, session);
  const ClaimAnswer again = restored->ledger().claim("g", by_session(fresh));
  ASSERT_EQ(again.deliveries.size(), 4u);
  for (const Delivery& delivery : again.deliveries) EXPECT_EQ(delivery.attempt, 1u);
  EXPECT_GT(again.deliveries[0].lease.claim, held.deliveries[0].lease.claim);
}

TEST_F(SqliteBackup, PositionsAndVersionsGoOnFarBehind) {
  store_->log().append("events", test::events_of("e", 3));
  const std::uint64_t version = store_->kv().set("k", "v", {});
  const auto restored = restore();
  const AppendResult next = restored->log().append("events", std::vector{event_of("new")}).front();
  EXPECT_EQ(next.position, Position(3 + 1'000'000'000 + 1));
  EXPECT_EQ(restored->log().append("events", std::vector{event_of("e1")}).front().status, AppendStatus::duplicate);
  EXPECT_GT(restored->kv().set("k", "w", {}), version + 1'000'000);
  restored->ledger().ensure_group("g", from_beginning());
  EXPECT_EQ(restored->ledger().group("g").lag.ahead, 4u) << "what was jumped over is not counted";
}

TEST_F(SqliteBackup, NeverReplacesAFile) {
  store_->backup(backup_);
  EXPECT_EQ(code_of([&] { store_->backup(backup_); }), Errc::already_exists);
  store_->log().append("events", test::events_of("later", 1));
  store_->backup(directory_.file("second"));
  EXPECT_EQ(sql(backup_, "SELECT count(*) FROM \"log:events\""), "0");
  EXPECT_EQ(sql(directory_.file("second"), "SELECT count(*) FROM \"log:events\""), "1");
}

TEST_F(SqliteBackup, ARestoredStoreCanBeBackedUpAndRestoredAgain) {
  store_->log().append("events", test::events_of("e", 1));
  const auto first = restore();
  first->backup(directory_.file("again"));
  restore_store(directory_.file("again"), directory_.file("twice.db"));
  const auto second = open_store(options_for(directory_.file("twice.db")));
  EXPECT_EQ(second->log().append("events", std::vector{event_of("n")}).front().position, Position(2'000'000'002));
}

TEST_F(SqliteBackup, OnlyStoresInFilesAreRestoredOrMigrated) {
  store_->backup(backup_);
  std::string text;
  EXPECT_EQ(code_of([&] { restore_store(backup_, "memory:"); }, &text), Errc::invalid_argument);
  EXPECT_EQ(code_of([&] { restore_store(backup_, "nothing:"); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("sqlite:"), std::string::npos) << text;
  EXPECT_EQ(code_of([&] { (void)migrate_store("memory:"); }), Errc::invalid_argument);
  EXPECT_EQ(code_of([&] { (void)open_store(options_for(backup_)); }), Errc::invalid_argument);
}

}  // namespace
}  // namespace millrace
