// SPDX-License-Identifier: Apache-2.0

// What the writer decides by itself: the disk floor, and ids that run out.

#include "base/time.hpp"
#include "sqlite_test_support.hpp"
#include "store/sqlite/append.hpp"
#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {
namespace {

using test::code_of;
using test::event_of;

class SqliteWriter : public testing::Test {
 protected:
  SqliteWriter() {
    open_store(test::options_for(path_));  // makes the file
    lock_ = std::make_unique<LockFile>(path_);
  }
  std::unique_ptr<Writer> start(Writer::Options options) {
    options.path = path_;
    options.incarnation = 100;
    auto writer = std::make_unique<Writer>(options, *lock_, clock_);
    writer->start();
    return writer;
  }
  static void append(Writer& writer, const std::string& id) {
    const StreamName name = "events";
    const std::vector<Event> events{event_of(id)};
    Append operation(writer, name, events, Durability::durable);
    writer.wait_for(operation);
  }
  std::unique_ptr<Writer> with_free(std::uint64_t free, std::uint64_t total, std::uint64_t floor) {
    Writer::Options options;
    options.min_free_bytes = floor;
    options.space = [free, total](const std::string&) { return DiskSpace{free, total}; };
    return start(options);
  }

  const test::TempDirectory directory_;
  const std::string path_ = directory_.file("events.db");
  std::unique_ptr<LockFile> lock_;
  const StoreClock clock_;
};

TEST_F(SqliteWriter, BelowTheFloorAppendsAreRefusedAndTheRestGoesOn) {
  const auto writer = with_free(99, 1'000'000, 100);
  std::string text;
  EXPECT_EQ(code_of([&] { append(*writer, "1"); }, &text), Errc::store_full);
  EXPECT_NE(text.find("min_free"), std::string::npos) << text;
  EXPECT_EQ(writer->call(true, [](State& state) { return state.streams().size(); }), 2U);
}

TEST_F(SqliteWriter, TheFloorIsNeverMoreThanATwentiethOfTheDisk) {
  append(*with_free(50, 1'000, 1ULL << 40), "1");
  EXPECT_EQ(code_of([&] { append(*with_free(49, 1'000, 1ULL << 40), "2"); }), Errc::store_full);
}

TEST_F(SqliteWriter, AFloorOfZeroIsNone) {
  append(*with_free(0, 1'000, 0), "1");
}

TEST_F(SqliteWriter, IdsThatRunOutGoOnUnderANewIncarnation) {
  Writer::Options options;
  options.last_id = 0xFFFF'FFF0;
  const auto before = start(options);
  const auto id = [](Writer& writer) { return writer.call(false, [](State& state) { return state.new_id(); }); };
  const std::uint64_t first = id(*before);
  EXPECT_EQ(first & 0xFFFF'FFFF, 1U) << "a new count";
  EXPECT_EQ(first >> 32, std::stoull(test::sql(path_, "SELECT value FROM meta WHERE key = 'incarnation'")))
      << "under an incarnation that is recorded";
  EXPECT_EQ(id(*before), first + 1);
}

}  // namespace
}  // namespace millrace::store::sqlite
