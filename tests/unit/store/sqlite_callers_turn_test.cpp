// SPDX-License-Identifier: Apache-2.0

// A caller who finds the writer asleep takes its place for one transaction.

#include <future>
#include <mutex>
#include <thread>

#include "base/time.hpp"
#include "sqlite_test_support.hpp"
#include "store/sqlite/append.hpp"
#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {
namespace {

class CallersTurn : public testing::Test {
 protected:
  CallersTurn() {
    open_store(test::options_for(path_));  // makes the file
    lock_ = std::make_unique<LockFile>(path_);
    Writer::Options options;
    options.path = path_;
    options.incarnation = 100;
    writer_ = std::make_unique<Writer>(options, *lock_, clock_);
    writer_->start();
  }
  void append(const std::string& id) {
    const StreamName name = "events";
    const std::vector<Event> events{test::event_of(id)};
    Append operation(*writer_, name, events, Durability::durable);
    EXPECT_EQ(writer_->wait_for(operation), Durability::durable);
  }
  /// Until the writer sleeps: only then is the next call a caller's own.
  void run_on_own_thread() {
    const auto self = std::this_thread::get_id();
    while (writer_->call(false, [](State&) { return std::this_thread::get_id(); }) != self) std::this_thread::yield();
  }

  const test::TempDirectory directory_;
  const std::string path_ = directory_.file("events.db");
  std::unique_ptr<LockFile> lock_;
  const StoreClock clock_;
  std::unique_ptr<Writer> writer_;
};

TEST_F(CallersTurn, WatchersMayWaitForWhatThePublisherHolds) {
  std::mutex shared;
  std::promise<void> told;
  std::once_flag once;
  const auto watch = writer_->watch([&] {
    const std::lock_guard lock(shared);
    std::call_once(once, [&] { told.set_value(); });
  });
  run_on_own_thread();
  {
    const std::lock_guard lock(shared);
    append("1");
  }
  told.get_future().get();
}

TEST_F(CallersTurn, OthersQueueMeanwhileAndAreCommittedAfterIt) {
  run_on_own_thread();
  std::promise<void> inside, leave;
  std::thread first([&] {
    writer_->call(true, [&](State&) {
      inside.set_value();
      leave.get_future().wait();
    });
  });
  inside.get_future().wait();
  std::vector<std::thread> others;
  for (int i = 0; i < 8; ++i) others.emplace_back([&, i] { append(std::to_string(i)); });
  leave.set_value();
  first.join();
  for (auto& other : others) other.join();
  EXPECT_EQ(test::sql(path_, "SELECT count(*) || '|' || max(position) FROM events_1"), "8|8");
}

TEST_F(CallersTurn, StoppingWaitsForIt) {
  run_on_own_thread();
  std::promise<void> inside, leave;
  std::atomic<bool> done{false};
  std::thread caller([&] {
    writer_->call(true, [&](State&) {
      inside.set_value();
      leave.get_future().wait();
      done = true;
    });
  });
  inside.get_future().wait();
  std::thread stopping([&] { writer_->stop(); });
  leave.set_value();
  stopping.join();
  EXPECT_TRUE(done);
  caller.join();
}

}  // namespace
}  // namespace millrace::store::sqlite
