// SPDX-License-Identifier: Apache-2.0

// What only this store does: processes beside each other, what stands in the file, what an unclean end leaves.

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>
#include <variant>

#include "sqlite_test_support.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace {
namespace {

using test::code_of;
using test::event_of;
using test::events_of;
using test::from_beginning;
using test::options_for;
using test::sql;
using test::TempDirectory;
using Access = StoreOptions::Access;

double figure(const Store& store, const std::string& name) {
  for (const auto& figure : store.figures()) {
    if (figure.name == name) return figure.value;
  }
  ADD_FAILURE() << "no figure " << name;
  return -1;
}

/// The files as a power cut would leave them. By another process: closing a file of an open database in this one would
/// drop its locks.
void copy_store(const std::string& from, const std::string& to) {
  const std::string command = "cp '" + from + "' '" + to + "' && cp '" + from + "-wal' '" + to + "-wal'";
  ASSERT_EQ(std::system(command.c_str()), 0);
}

TEST(SqliteStore, KeepsEveryPartOfAnEvent) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  Event full = event_of("full", "a.b", "subject");
  full.time = "2026-01-01T00:00:00.123456789+02:00";
  full.datacontenttype = "application/octet-stream";
  full.dataschema = "https://example.com/schema";
  full.data = std::string("\0\xff\x01 bytes", 9);
  full.extensions = {{"zebra", "last letter first \"quoted\" ü"}, {"flag", true}, {"number", -5}, {"alpha", ""}};
  Event empty = event_of("empty");
  empty.data = "";
  Event none = event_of("none");
  none.data.reset();
  {
    const auto store = open_store(options_for(path));
    store->log().append("events", std::vector{full, empty, none});
  }
  const auto store = open_store(options_for(path));
  const auto page = store->log().read("events", {});
  ASSERT_EQ(page.events.size(), 3u);
  EXPECT_EQ(page.events[0].event, full);
  EXPECT_EQ(page.events[1].event, empty);
  EXPECT_EQ(page.events[2].event, none);
}

TEST(SqliteStore, ManyWaitingAppendsShareCommits) {
  const TempDirectory directory;
  const auto store = open_store(options_for(directory.file("events.db")));
  constexpr int kEvents = 2000;
  std::mutex mutex;
  std::condition_variable all_answered;
  std::vector<std::uint64_t> positions;
  for (int i = 0; i < kEvents; ++i) {
    store->log().append_async("events", {event_of("e" + std::to_string(i))}, Durability::durable,
                              [&](AppendAnswer answer) {
                                const std::lock_guard lock(mutex);
                                positions.push_back(std::get<0>(answer).front().position->low);
                                if (positions.size() == kEvents) all_answered.notify_one();
                              });
  }
  std::unique_lock lock(mutex);
  all_answered.wait(lock, [&] { return positions.size() == kEvents; });
  for (std::size_t i = 0; i < kEvents; ++i) ASSERT_EQ(positions[i], i + 1);
  EXPECT_LT(figure(*store, "commits_total"), kEvents / 4);
}

TEST(SqliteStore, RefusalOfOneOperationDoesNotTouchItsNeighbours) {
  const TempDirectory directory;
  const auto store = open_store(options_for(directory.file("events.db")));
  std::mutex mutex;
  std::condition_variable answered;
  int stored = 0;
  int refused = 0;
  for (int i = 0; i < 100; ++i) {
    const char* stream = i % 2 == 0 ? "events" : "nowhere";
    store->log().append_async(stream, {event_of(std::to_string(i))}, Durability::durable, [&](AppendAnswer answer) {
      const std::lock_guard lock(mutex);
      const auto* error = std::get_if<Error>(&answer);
      error && error->code() == Errc::unknown_stream ? ++refused : ++stored;
      answered.notify_one();
    });
  }
  std::unique_lock lock(mutex);
  answered.wait(lock, [&] { return stored + refused == 100; });
  EXPECT_EQ(stored, 50);
  EXPECT_EQ(store->log().stream("events").events, 50u);
}

TEST(SqliteStore, PollsThatFindNothingDoNotCommit) {
  const TempDirectory directory;
  const auto store = open_store(options_for(directory.file("events.db")));
  store->ledger().ensure_group("g", from_beginning());
  const double before = figure(*store, "commits_total");
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(store->ledger().claim("g", {"c"}).deliveries.empty());
  EXPECT_EQ(figure(*store, "commits_total"), before);
}

TEST(SqliteStore, EachAnswerSaysTheLevelItReached) {
  const TempDirectory directory;
  const auto store = open_store(options_for(directory.file("events.db")));
  const auto append = [&](const char* id, Durability durability) {
    return store->log().append("events", std::vector{event_of(id)}, durability).front();
  };
  EXPECT_EQ(append("1", Durability::relaxed).durability, Durability::relaxed);
  EXPECT_EQ(append("2", Durability::relaxed).durability, Durability::relaxed);
  EXPECT_EQ(append("3", Durability::durable).durability, Durability::durable);
  EXPECT_EQ(append("4", Durability::relaxed).durability, Durability::relaxed);
  const double synced = figure(*store, "synced_commits_total");
  const AppendResult again = append("4", Durability::durable);
  EXPECT_EQ(again.status, AppendStatus::duplicate);
  EXPECT_EQ(again.durability, Durability::durable);
  EXPECT_EQ(figure(*store, "synced_commits_total"), synced + 1) << "a duplicate was vouched for without a sync";
}

TEST(SqliteStore, PositionsOfALostRelaxedTailAreNotUsedAgain) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  const std::string after_cut = directory.file("after.db");
  auto store = open_store(options_for(path));
  store->ledger().ensure_group("g", from_beginning());
  store->log().append("events", std::vector{event_of("0")}, Durability::relaxed);
  copy_store(path, after_cut);
  const auto lost = store->log().append("events", std::vector{event_of("1")}, Durability::relaxed).front();
  EXPECT_EQ(lost.position, Position(2));

  const auto reopened = open_store(options_for(after_cut));
  const auto next = reopened->log().append("events", std::vector{event_of("2")}).front();
  EXPECT_GT(*next.position, *lost.position);
  EXPECT_EQ(reopened->ledger().group("g").lag.ahead, 2u) << "the skipped range is not ahead";
  EXPECT_EQ(reopened->log().read("events", {}).events.size(), 2u);
  const auto claimed = reopened->ledger().claim("g", {"c"});
  ASSERT_EQ(claimed.deliveries.size(), 2u);
  EXPECT_EQ(claimed.deliveries[1].event.id, "2");
  EXPECT_EQ(reopened->ledger().group("g").lag.ahead, 0u);
}

TEST(SqliteStore, ACleanEndGivesReservedPositionsBack) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  open_store(options_for(path))->log().append("events", std::vector{event_of("0")}, Durability::relaxed);
  const auto store = open_store(options_for(path));
  EXPECT_EQ(store->log().append("events", std::vector{event_of("1")}).front().position, Position(2));
}

TEST(SqliteStore, LeasesFromBeforeAReopenAreNeverGivenAgain) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  std::uint64_t before = 0;
  {
    const auto store = open_store(options_for(path));
    store->ledger().ensure_group("g", from_beginning());
    store->log().append("events", events_of("e", 2));
    before = store->ledger().claim("g", {"c", 1}).deliveries.at(0).lease.claim;
  }
  const auto store = open_store(options_for(path));
  const auto claimed = store->ledger().claim("g", {"c", 1});
  EXPECT_GT(claimed.deliveries.at(0).lease.claim, before);
  EXPECT_EQ(claimed.deliveries.at(0).position, Position(2)) << "the first claim still holds its lease";
}

TEST(SqliteStore, GroupsComeBackAsTheyWere) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  GroupSpec spec = from_beginning();
  spec.types = {"test.*", "other"};
  spec.order = OrderRule::parse("attribute:subject");
  spec.settings = GroupSettings{};
  spec.settings->retry.max_attempts = 9;
  spec.settings->expires = std::chrono::hours(5);
  const auto work = [&](Store& store) {
    store.ledger().ensure_group("g", spec);
    store.log().append("events", events_of("e", 10));
    const auto claimed = store.ledger().claim("g", {"c", 6}).deliveries;
    std::vector<Settlement> settlements;
    settlements.push_back({claimed[0].lease, Outcome::ack()});
    settlements.push_back(
        {claimed[1].lease, Outcome::retry("not now", FailureClass::handler, Milliseconds(3'600'000))});
    settlements.push_back({claimed[2].lease, Outcome::reject("never")});
    settlements.push_back({claimed[3].lease, Outcome::release()});
    EXPECT_TRUE(store.ledger().settle("g", settlements).empty());
  };
  GroupInfo before{"g", "events", {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  std::vector<PendingEvent> pending_before;
  {
    const auto store = open_store(options_for(path));
    work(*store);
    before = store->ledger().group("g");
    pending_before = store->ledger().pending("g", {}, 100);
  }
  const auto store = open_store(options_for(path));
  const GroupInfo after = store->ledger().group("g");
  EXPECT_EQ(after.types, before.types);
  EXPECT_EQ(after.order, before.order);
  EXPECT_EQ(after.settings, before.settings);
  EXPECT_EQ(after.cursor, before.cursor);
  EXPECT_EQ(after.lag.ahead, 4u);
  EXPECT_EQ(after.lag.in_flight, 2u);
  EXPECT_EQ(after.lag.waiting, 2u);
  EXPECT_EQ(after.dead, 1u);
  EXPECT_EQ(after.processed, 1u);
  const auto pending = store->ledger().pending("g", {}, 100);
  ASSERT_EQ(pending.size(), pending_before.size());
  for (std::size_t i = 0; i < pending.size(); ++i) {
    EXPECT_EQ(pending[i].position, pending_before[i].position);
    EXPECT_EQ(pending[i].state, pending_before[i].state);
    EXPECT_EQ(pending[i].lease, pending_before[i].lease);
    EXPECT_EQ(pending[i].attempt, pending_before[i].attempt);
    EXPECT_EQ(pending[i].last_error, pending_before[i].last_error);
  }
}

TEST(SqliteStore, TheTimeAStoreWasAwayDoesNotCountAgainstItsGroups) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  GroupSpec spec = from_beginning();
  spec.settings = GroupSettings{};
  spec.settings->expires = std::chrono::hours{24};
  {
    const auto store = open_store(options_for(path));
    store->ledger().ensure_group("kept", spec);
    store->ledger().ensure_group("unused", spec);
  }
  const std::string hours = std::to_string(3'600'000'000LL);
  // Off for 100 hours; of which moment "unused" had not been used for 30.
  sql(path, "UPDATE consumer_group SET last_seen = last_seen - 100 * " + hours);
  sql(path, "UPDATE consumer_group SET last_seen = last_seen - 30 * " + hours + " WHERE name = 'unused'");
  const auto store = open_store(options_for(path));
  const auto groups_now = [&] {
    std::string names;
    for (const GroupInfo& info : store->ledger().groups()) names += info.name.str() + " ";
    return names;
  };
  for (int i = 0; i < 500 && groups_now() != "kept "; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(groups_now(), "kept ");
}

TEST(SqliteStore, TrimmedIdsAreRemembered) {
  const TempDirectory directory;
  const auto store = open_store(options_for(directory.file("events.db")));
  store->log().append("events", events_of("e", 20'000));
  const auto trimmed = store->log().trim("events", [] {
    TrimRequest request;
    request.max_events = 5;
    return request;
  }());
  EXPECT_EQ(trimmed.removed, 19'995u);
  EXPECT_EQ(store->log().stream("events").events, 5u);
  const auto again = store->log().append("events", std::vector{event_of("e0")}).front();
  EXPECT_EQ(again.status, AppendStatus::duplicate);
  EXPECT_EQ(again.position, Position(1));
  Event other = event_of("e1");
  other.data = "other";
  EXPECT_EQ(store->log().append("events", std::vector{other}).front().status, AppendStatus::conflict);
  EXPECT_EQ(store->log().append("events", std::vector{event_of("new")}).front().position, Position(20'001));
}

TEST(SqliteStore, TheLogOfCommitsDoesNotGrowWithoutBound) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  const auto store = open_store(options_for(path));
  std::uintmax_t largest = 0;
  for (int batch = 0; batch < 300; ++batch) {
    std::vector<Event> events = events_of("b" + std::to_string(batch) + "-", 500);
    for (Event& event : events) event.data = std::string(1500, 'x');
    store->log().append("events", events, Durability::relaxed);
    largest = std::max(largest, std::filesystem::file_size(path + "-wal"));
  }
  EXPECT_LT(largest, 160u << 20) << "of more than 300 MB written; the writer is held at 128 MiB";
}

TEST(SqliteStore, AWatchHearsOfAnotherProcess) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  const auto store = open_store(options_for(path));
  std::mutex mutex;
  std::condition_variable heard;
  bool changed = false;
  const auto watch = store->log().watch([&] {
    const std::lock_guard lock(mutex);
    changed = true;
    heard.notify_one();
  });
  const auto tool = open_store(options_for(path, Access::tool));
  {
    const std::lock_guard lock(mutex);
    changed = false;
  }
  tool->log().append("events", std::vector{event_of("1")});
  std::unique_lock lock(mutex);
  EXPECT_TRUE(heard.wait_for(lock, std::chrono::seconds(10), [&] { return changed; }));
}

/// Four threads that append as fast as they are answered, each its own events.
class BusyAppenders {
 public:
  BusyAppenders(Store& store, const std::string& name) {
    for (int t = 0; t < 4; ++t) {
      threads_.emplace_back([this, &store, name = name + std::to_string(t) + "-"] {
        for (int i = 0; !stop_; ++i) store.log().append("events", std::vector{event_of(name + std::to_string(i))});
      });
    }
  }
  ~BusyAppenders() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

double commits_of(const Store& store) {
  for (const auto& figure : store.figures()) {
    if (figure.name == "commits_total") return figure.value;
  }
  return -1;
}

TEST(SqliteStore, AToolAndABusyOwnerTakeTurns) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  constexpr double kCommits = 200;
  int start[2];
  int busy[2];
  ASSERT_EQ(::pipe(start), 0);
  ASSERT_EQ(::pipe(busy), 0);
  const pid_t child = ::fork();  // before this process has threads
  if (child == 0) {
    char go = 0;
    if (::read(start[0], &go, 1) != 1) ::_exit(2);
    try {
      const auto tool = open_store(options_for(path, Access::tool));
      const BusyAppenders appenders(*tool, "tool");
      while (commits_of(*tool) < 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (::write(busy[1], "b", 1) != 1) ::_exit(3);
      while (commits_of(*tool) < kCommits) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } catch (const std::exception&) {
      ::_exit(4);
    }
    ::_exit(0);
  }
  const auto store = open_store(options_for(path));
  double beside = 0;
  int status = 0;
  {
    const BusyAppenders appenders(*store, "owner");
    EXPECT_EQ(::write(start[1], "g", 1), 1);
    char is_busy = 0;
    EXPECT_EQ(::read(busy[0], &is_busy, 1), 1);
    const double before = commits_of(*store);
    ::waitpid(child, &status, 0);
    beside = commits_of(*store) - before;
  }
  for (const int end : {start[0], start[1], busy[0], busy[1]}) ::close(end);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  // While both have something to write they alternate; what is allowed beyond that is time in which one had nothing
  // queued, and the tool's end.
  EXPECT_GE(beside, kCommits / 4);
  EXPECT_LE(beside, kCommits * 4);
}

TEST(SqliteStore, AFileTornByACheckpointThatWasCutOffIsNotTakenForDamaged) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  open_store(options_for(path));
  // The first page was moved, those it counts were not: they are still in the log of commits, which is read later.
  ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  EXPECT_EQ(store::sqlite::inspect_file(path), store::sqlite::FileState::usable);
}

TEST(SqliteStore, PublishersWaitWhileCompletionsAreNotTaken) {
  const TempDirectory directory;
  const auto store = open_store(options_for(directory.file("events.db")));
  Event large = event_of("large");
  large.data = std::string(1 << 20, 'x');
  store->log().append("events", std::vector{large});  // what follows are duplicates: they weigh, but write nothing
  constexpr int kPosts = 400;
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  std::atomic<int> posted{0};
  std::atomic<int> done{0};
  std::thread publisher([&] {
    for (int i = 0; i < kPosts; ++i) {
      store->log().append_async("events", {large}, Durability::durable, [&, released](const AppendAnswer& answer) {
        released.wait();
        if (std::holds_alternative<std::vector<AppendResult>>(answer)) ++done;
      });
      ++posted;
    }
  });
  // It stands still once what is queued and what is not taken weigh as much as they may.
  for (int before = -1; before != posted;) {
    before = posted;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
  EXPECT_LT(posted, kPosts);
  release.set_value();
  publisher.join();
  while (done < kPosts) std::this_thread::yield();
}

TEST(SqliteStore, WhatTheFileSaysCanBeReadWithSql) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  const auto store = open_store(options_for(path));
  store->ledger().ensure_group("g", from_beginning());
  store->log().append("events", events_of("e", 3));
  const auto claimed = store->ledger().claim("g", {"somebody"}).deliveries;
  store->ledger().settle("g", std::vector<Settlement>{{claimed[0].lease, Outcome::reject("bad")}});
  EXPECT_EQ(sql(path, "SELECT count(*) FROM \"log:events\""), "3");
  EXPECT_EQ(sql(path, "SELECT CAST(data AS TEXT) FROM \"log:events\" WHERE position = 2"), "data of e1");
  EXPECT_EQ(sql(path, "SELECT positions FROM claims WHERE \"group\" = 'g'"), "2-3");
  EXPECT_EQ(sql(path, "SELECT reason FROM dead_letters"), "rejected: bad");
  EXPECT_EQ(sql(path, "SELECT dead FROM groups"), "1");
}

TEST(SqliteStore, CallsAfterTheEndAnswerStoppedAndQueuedOnesFinish) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  std::atomic<int> answered{0};
  {
    const auto store = open_store(options_for(path));
    for (int i = 0; i < 500; ++i) {
      store->log().append_async("events", {event_of(std::to_string(i))}, Durability::durable, [&](AppendAnswer answer) {
        if (std::holds_alternative<std::vector<AppendResult>>(answer)) ++answered;
      });
    }
  }
  EXPECT_EQ(answered, 500);
  EXPECT_EQ(open_store(options_for(path))->log().stream("events").events, 500u);
}

}  // namespace
}  // namespace millrace
