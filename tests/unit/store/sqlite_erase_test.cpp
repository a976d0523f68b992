// SPDX-License-Identifier: Apache-2.0

// What was erased is gone from the files, whatever moved it about before.

#include <fstream>
#include <iterator>
#include <thread>

#include "sqlite_test_support.hpp"

namespace millrace {
namespace {

using test::options_for;
using test::TempDirectory;

constexpr char kMarker[] = "MARKER-of-a-secret";

/// How often the marker stands in the store's files.
std::size_t traces(const std::string& path) {
  std::size_t count = 0;
  for (const char* suffix : {"", "-wal", "-shm"}) {
    std::ifstream file(path + suffix, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    for (std::size_t at = bytes.find(kMarker); at != std::string::npos; at = bytes.find(kMarker, at + 1)) ++count;
  }
  return count;
}

Event secret_event(const std::string& id, std::size_t size) {
  Event event = test::event_of(id);
  std::string data;
  while (data.size() < size) data += std::string(kMarker) + "-";
  event.data = std::move(data);
  return event;
}

/// Claims and settles everything.
void settle(Store& store, const GroupName& group, const Outcome& outcome) {
  ClaimRequest request;
  request.consumer = "c";
  request.max = 10'000;
  request.hold = Milliseconds{60'000};
  while (true) {
    const auto deliveries = store.ledger().claim(group, request).deliveries;
    if (deliveries.empty()) return;
    std::vector<Settlement> settlements;
    for (const Delivery& delivery : deliveries) settlements.push_back({delivery.lease, outcome});
    store.ledger().settle(group, settlements);
  }
}

class SqliteErase : public testing::Test {
 protected:
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  std::unique_ptr<Store> store = open_store(options_for(path));

  void erase(const std::string& id) { EXPECT_TRUE(store->log().erase(kDefaultStream, "/test", id)) << id; }
};

TEST_F(SqliteErase, LeavesNoTraceOfTheFirstEvents) {
  // The first pages of a table are split when it grows.
  for (int i = 0; i < 300; ++i) {
    store->log().append(kDefaultStream, std::vector{i < 20 ? secret_event("s" + std::to_string(i),
                                                                          static_cast<std::size_t>(i) * 40 + 20)
                                                           : test::event_of(std::to_string(i))});
  }
  ASSERT_GT(traces(path), 0U);
  for (int i = 0; i < 20; ++i) erase("s" + std::to_string(i));
  EXPECT_EQ(traces(path), 0U);
}

TEST_F(SqliteErase, LeavesNoTraceAmongDeadLetters) {
  store->ledger().ensure_group("g", test::from_beginning());
  store->ledger().ensure_group("h", test::from_beginning());
  std::vector<Event> events = test::events_of("x", 200);
  for (const int at : {0, 57, 199}) {
    events[static_cast<std::size_t>(at)] = secret_event("s" + std::to_string(at), at == 57 ? 50'000 : 200);
  }
  store->log().append(kDefaultStream, events);
  settle(*store, "g", Outcome::reject("no"));
  settle(*store, "h", Outcome::reject("no"));
  // One copy is open again, and one is gone.
  store->ledger().redrive("g", {});
  settle(*store, "g", Outcome::ack());
  DeadLetterQuery one;
  one.types = {"test.*"};
  store->ledger().redrive("h", one);
  for (const char* id : {"s0", "s57", "s199"}) erase(id);
  EXPECT_EQ(traces(path), 0U);
  ClaimRequest request;
  request.consumer = "c";
  request.max = 10'000;
  request.hold = Milliseconds{60'000};
  for (const Delivery& delivery : store->ledger().claim("h", request).deliveries) {
    EXPECT_EQ(delivery.event.data.value_or("").find(kMarker), std::string::npos);
  }
}

TEST_F(SqliteErase, LeavesNoTraceBehindATrimThatMovedItAbout) {
  std::vector<Event> events;
  for (int i = 0; i < 2'000; ++i)
    events.push_back(secret_event("s" + std::to_string(i), static_cast<std::size_t>(60 + i * 37 % 900)));
  store->log().append(kDefaultStream, events);
  // Cells wander between pages as the ones before them go.
  for (std::uint64_t up_to = 1; up_to < 1'900; up_to += 1 + up_to % 13) {
    TrimRequest request;
    request.up_to = Position(up_to);
    store->log().trim(kDefaultStream, request);
  }
  TrimRequest rest;
  rest.up_to = Position(1'900);
  store->log().trim(kDefaultStream, rest);
  for (int i = 1'900; i < 2'000; ++i) erase("s" + std::to_string(i));
  EXPECT_EQ(traces(path), 0U);
}

TEST_F(SqliteErase, ReaderInTheWayIsNamedAndErasingAgainFinishes) {
  store->log().append(kDefaultStream, std::vector{secret_event("s", 500)});
  sqlite3* reader = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &reader), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM events_1", nullptr, nullptr, nullptr), SQLITE_OK);
  std::string text;
  EXPECT_EQ(test::code_of([&] { erase("s"); }, &text), Errc::busy) << text;
  EXPECT_NE(text.find("erase it again"), std::string::npos) << text;
  EXPECT_FALSE(store->log().find(kDefaultStream, "s").at(0).stored.event.data) << "for readers it is erased already";
  EXPECT_EQ(store->log().append(kDefaultStream, std::vector{test::event_of("x")}).size(), 1U) << "writing goes on";
  sqlite3_close(reader);
  erase("s");
  EXPECT_EQ(traces(path), 0U);
}

TEST_F(SqliteErase, ByAnotherProcessIsSeenByTheOwnersClaims) {
  store->ledger().ensure_group("g", test::from_beginning());
  store->log().append(kDefaultStream, std::vector{test::event_of("a", "t", "key"), secret_event("s", 500)});
  Event parked = secret_event("parked", 500);
  parked.subject = "key";
  store->log().append(kDefaultStream, std::vector{parked});
  ClaimRequest request;
  request.consumer = "c";
  request.max = 1;
  request.hold = Milliseconds{60'000};
  const auto first = store->ledger().claim("g", request).deliveries;
  ASSERT_EQ(first.size(), 1U);
  request.max = 10;
  const auto second = store->ledger().claim("g", request).deliveries;  // passes the parked one and sets it aside
  {
    const auto tool = open_store(options_for(path, StoreOptions::Access::tool));
    EXPECT_TRUE(tool->log().erase(kDefaultStream, "/test", "parked"));
  }
  store->ledger().settle("g", std::vector{Settlement{first[0].lease, Outcome::ack()}});
  bool seen = false;
  for (const Delivery& delivery : store->ledger().claim("g", request).deliveries) {
    seen = seen || delivery.event.id == "parked";
    EXPECT_FALSE(delivery.event.data);
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace millrace
