// SPDX-License-Identifier: Apache-2.0

// What goes back to the file system, and when; and what it costs the others.

#include "store/sqlite/house.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "sqlite_test_support.hpp"

namespace millrace::store::sqlite {
namespace {

using std::chrono::seconds;
using test::options_for;
using test::TempDirectory;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kFile = 1'000'000;

TEST(FreePages, AreGivenBackOnceTheyWereFreeForAWhile) {
  FreePages pages;
  const Clock::time_point start{seconds{1'000}};
  EXPECT_EQ(pages.surplus(0, 10'000, start), 0);
  EXPECT_EQ(pages.surplus(500'000, kFile, start + seconds{1}), 0) << "just freed: they may soon be used again";
  EXPECT_EQ(pages.surplus(500'000, kFile, start + seconds{6}), 0);
  EXPECT_EQ(pages.surplus(500'000, kFile, start + seconds{12}), 450'000) << "but a tenth of what is used";
}

TEST(FreePages, ThatWereNeededMeanwhileStay) {
  FreePages pages;
  Clock::time_point now{seconds{1'000}};
  for (int second = 0; second < 60; ++second, now += seconds{1}) {
    // Trimmed and filled again in turns: 200,000 pages freed every four seconds, and used until then.
    EXPECT_EQ(pages.surplus(200'000 - second % 4 * 50'000, kFile, now), 0) << second;
  }
}

TEST(FreePages, FewStayAsAReserve) {
  FreePages pages;
  Clock::time_point now{seconds{1'000}};
  for (int second = 0; second < 60; ++second, now += seconds{1}) {
    EXPECT_EQ(pages.surplus(FreePages::kReserve, 5'000, now), 0);
  }
}

TEST(SqliteHouse, FileShrinksSoonAfterABigTrimAndNobodyWaitsLong) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  const auto store = open_store(options_for(path));
  for (int batch = 0; batch < 10; ++batch) {
    std::vector<Event> events = test::events_of(std::to_string(batch) + "-", 1'000);
    for (Event& event : events) event.data = std::string(10'000, 'x');
    store->log().append(kDefaultStream, events);
  }
  store->log().create_stream("other");
  TrimRequest all;
  all.max_events = 10;
  std::atomic<bool> done{false};
  Clock::duration longest{0};
  // Somebody publishes all the while.
  std::thread appender([&] {
    for (int i = 0; !done; ++i) {
      const auto began = Clock::now();
      store->log().append("other", std::vector{test::event_of(std::to_string(i))});
      longest = std::max(longest, Clock::now() - began);
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  });
  EXPECT_EQ(store->log().trim(kDefaultStream, all).removed, 9'990U);
  const auto began = Clock::now();
  std::uintmax_t size = std::filesystem::file_size(path);
  while (size > (40 << 20) && Clock::now() - began < seconds{60}) {
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
    size = std::filesystem::file_size(path);
  }
  done = true;
  appender.join();
  EXPECT_LE(size, 40U << 20) << "after " << std::chrono::duration<double>(Clock::now() - began).count() << " s";
  EXPECT_LT(longest, seconds{2}) << "the longest anybody waited";  // loose: the disk of a busy machine has its moments
  RecordProperty("longest_append_ms",
                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(longest).count()));
  RecordProperty("shrunk_after_ms",
                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began).count()));
  std::printf("longest append %.1f ms, shrunk after %.1f s\n", std::chrono::duration<double>(longest).count() * 1e3,
              std::chrono::duration<double>(Clock::now() - began).count());
  EXPECT_EQ(test::sql(path, "PRAGMA integrity_check"), "ok");
}

TEST(SqliteHouse, IdsOfTrimmedEventsAreForgottenInTheEnd) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  auto options = options_for(path);
  options.dedup_keep = seconds{1};
  const auto store = open_store(options);
  store->log().append(kDefaultStream, test::events_of("", 12'000));
  TrimRequest all;
  all.max_events = 0;
  EXPECT_EQ(store->log().trim(kDefaultStream, all).removed, 12'000U);
  EXPECT_EQ(test::sql(path, "SELECT count(*) FROM trimmed_ids_1"), "12000");
  const auto began = Clock::now();
  while (test::sql(path, "SELECT count(*) FROM trimmed_ids_1") != "0" && Clock::now() - began < seconds{30}) {
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  EXPECT_EQ(test::sql(path, "SELECT count(*) FROM trimmed_ids_1"), "0");
}

}  // namespace
}  // namespace millrace::store::sqlite
