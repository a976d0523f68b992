// SPDX-License-Identifier: Apache-2.0

// Trims that take many steps, and what they count.

#include <chrono>
#include <thread>

#include "sqlite_test_support.hpp"

namespace millrace {
namespace {

using test::options_for;
using test::TempDirectory;

std::vector<Event> events_with_extensions(const std::string& prefix, int count) {
  std::vector<Event> events = test::events_of(prefix, count);
  for (Event& event : events) {
    event.id = prefix + std::to_string(1'000'000 + (&event - events.data()));
    event.data = "of the same size";
    event.extensions = {{"tenantid", std::string("t")}, {"number", std::int32_t{5}}, {"yes", true}};
  }
  return events;
}

class SqliteTrim : public testing::Test {
 protected:
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  std::unique_ptr<Store> store = open_store(options_for(path));
  EventLog& log() { return store->log(); }
};

TEST_F(SqliteTrim, BytesDoNotDriftWhileEventsComeAndGo) {
  log().append(kDefaultStream, events_with_extensions("a", 100));
  const std::uint64_t bytes = log().stream(kDefaultStream).bytes;
  TrimRequest keep;
  keep.max_events = 100;
  for (const char* prefix : {"b", "c", "d"}) {
    log().append(kDefaultStream, events_with_extensions(prefix, 100));
    EXPECT_EQ(log().trim(kDefaultStream, keep).removed, 100U);
    EXPECT_EQ(log().stream(kDefaultStream).bytes, bytes);
  }
}

TEST_F(SqliteTrim, ByBytesKeepsAsMuchAsAskedOverManySteps) {
  constexpr std::uint64_t kEvents = 45'000;
  log().append(kDefaultStream, events_with_extensions("a", kEvents));
  const std::uint64_t one = log().stream(kDefaultStream).bytes / kEvents;
  TrimRequest keep;
  keep.max_bytes = 1'000 * one + one / 2;
  keep.dry_run = true;
  EXPECT_EQ(log().trim(kDefaultStream, keep).removed, kEvents - 1'000);
  keep.dry_run = false;
  EXPECT_EQ(log().trim(kDefaultStream, keep).removed, kEvents - 1'000);
  EXPECT_EQ(log().stream(kDefaultStream).bytes, 1'000 * one);
}

TEST_F(SqliteTrim, ScheduledTrimCutOffByTheEndIsNeverHalfDoneAndGoesOn) {
  log().append(kDefaultStream, test::events_of("", 60'000));
  Retention retention;
  retention.max_events = 1;
  log().set_retention(kDefaultStream, retention);
  const auto began = std::chrono::steady_clock::now();
  store.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds{20}) << "it stops between two steps";
  EXPECT_EQ(test::sql(path, "SELECT count(*) = (SELECT events FROM stream WHERE id = 1) FROM events_1"), "1");
  EXPECT_EQ(test::sql(path, "SELECT (SELECT count(*) FROM events_1) + (SELECT count(*) FROM trimmed_ids_1)"), "60000");
  store = open_store(options_for(path));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
  while (log().stream(kDefaultStream).events != 1 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  EXPECT_EQ(log().stream(kDefaultStream).events, 1U);
  EXPECT_EQ(test::sql(path, "PRAGMA integrity_check"), "ok");
}

TEST_F(SqliteTrim, WhoSettledATrimmedEventIsForgottenWithIt) {
  log().append(kDefaultStream, test::events_of("", 40));
  store->ledger().ensure_group("readers", test::from_beginning());
  for (int claims = 0; claims < 4; ++claims) {
    ClaimRequest request;
    request.consumer = "one";
    request.max = 10;
    std::vector<Settlement> acks;
    for (const Delivery& d : store->ledger().claim("readers", request).deliveries)
      acks.push_back({d.lease, Outcome::ack()});
    ASSERT_TRUE(store->ledger().settle("readers", acks).empty());
  }
  ASSERT_EQ(test::sql(path, "SELECT count(*) FROM history"), "4");
  TrimRequest trim;
  trim.up_to = Position(25);
  ASSERT_EQ(log().trim(kDefaultStream, trim).removed, 25U);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
  while (test::sql(path, "SELECT count(*) FROM history") != "2") {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "housekeeping forgets";
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  const Whereabouts gone = store->ledger().where("readers", Position(5));
  EXPECT_EQ(gone.state, Whereabouts::State::settled);
  EXPECT_FALSE(gone.claim);
  EXPECT_TRUE(gone.settled_before);
  EXPECT_EQ(store->ledger().where("readers", Position(26)).consumer, "one") << "its claim is still known";
}

}  // namespace
}  // namespace millrace
