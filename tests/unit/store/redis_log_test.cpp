// SPDX-License-Identifier: Apache-2.0

// The log on a real server: appending, reading, finding, and what neighbours do to it.

#include <future>
#include <mutex>

#include "redis_log_support.hpp"
#include "store/common.hpp"

namespace millrace::test {
namespace {

using store::redis::Purpose;

TEST_F(RedisLogTest, IsReadableByEveryClientOfRedis) {
  Event event = event_of("1", "order.placed", "k");
  event.extensions = {{"number", std::int32_t{5}}};
  const Position first = put(event);
  put(event_of("2"));
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 2);
  const Reply entries = neighbour({"XRANGE", "events:all:stream", "-", "+", "COUNT", "1"});
  EXPECT_EQ(entries.items[0].items[0].text, id(first));
  std::vector<std::string> fields;
  for (const Reply& field : entries.items[0].items[1].items) fields.push_back(field.text);
  EXPECT_EQ(fields, (std::vector<std::string>{"n", "1", "id", "1", "source", "/test", "type", "order.placed", "subject",
                                              "k", "ce_number:int", "5", "data", "data of 1"}));
}

TEST_F(RedisLogTest, AStreamWithoutEventsAnswersItsNeighbours) {
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 0);
  EXPECT_TRUE(neighbour({"XINFO", "GROUPS", "events:all:stream"}).as_array().empty());
  const StreamInfo info = log().stream("events");
  EXPECT_EQ(info.events, 0U);
  EXPECT_EQ(info.first, Position{});
  EXPECT_EQ(info.last, Position{});
  EXPECT_GT(info.created_at, Timestamp{});
}

TEST_F(RedisLogTest, AnswersDuplicatesAndConflictsWithinOneBatchAndLater) {
  Event other = event_of("a");
  other.data = "other";
  const auto answers = append({event_of("a"), event_of("a"), event_of("b"), other});
  EXPECT_EQ(answers[0].status, AppendStatus::stored);
  EXPECT_EQ(answers[1].status, AppendStatus::duplicate);
  EXPECT_EQ(answers[1].position, answers[0].position);
  EXPECT_EQ(answers[2].status, AppendStatus::stored);
  EXPECT_EQ(answers[3].status, AppendStatus::conflict);
  EXPECT_FALSE(answers[3].position);
  EXPECT_EQ(append({event_of("b")})[0].position, answers[2].position);
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 2);
}

TEST_F(RedisLogTest, EventsOfAnyFieldsStandBesideEachOther) {
  std::vector<Event> events;
  std::size_t bytes = 0;
  for (int i = 0; i < 24; ++i) {
    Event event = event_of(std::to_string(i), "t", i % 2 == 0 ? "key" : "");
    if (i % 3 == 0) event.time = "2026-11-20T21:33:59.123456789+01:00";
    if (i % 4 == 0) event.extensions = {{"number", std::int32_t{i}}, {"yes", true}, {"tenantid", std::string("t")}};
    if (i % 5 == 0) event.data.reset();
    if (i % 5 == 1) event.data = "";
    bytes += store::event_bytes(event);
    events.push_back(std::move(event));
  }
  const auto answers = append(events);
  const Page page = read({.limit = 100});
  ASSERT_EQ(page.events.size(), events.size());
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(page.events[i].event, events[i]) << i;
    EXPECT_EQ(answers[i].status, AppendStatus::stored) << i;
    EXPECT_EQ(answers[i].position, page.events[i].position) << i;
  }
  EXPECT_EQ(stream_field("bytes"), std::to_string(bytes));
}

TEST_F(RedisLogTest, PositionsInARowAreToldBesideOtherAnswers) {
  const Position before = put(event_of("5"));
  std::vector<Event> events;
  for (const char* id : {"1", "2", "3", "2", "5", "6", "7"}) events.push_back(event_of(id));
  events[4].type = "another";  // so that it conflicts
  events.push_back(event_of("5"));
  events.push_back(event_of("8"));
  const auto answers = append(events);
  ASSERT_EQ(answers.size(), 9U);
  const Page page = read();
  ASSERT_EQ(page.events.size(), 7U);
  const auto at = [&page](std::size_t i) { return std::optional(page.events[i].position); };
  EXPECT_EQ(answers[0].position, at(1));
  EXPECT_EQ(answers[1].position, at(2));
  EXPECT_EQ(answers[2].position, at(3));
  EXPECT_EQ(answers[3].position, at(2));
  EXPECT_EQ(answers[3].status, AppendStatus::duplicate);
  EXPECT_EQ(answers[4].status, AppendStatus::conflict);
  EXPECT_FALSE(answers[4].position);
  EXPECT_EQ(answers[5].position, at(4));
  EXPECT_EQ(answers[6].position, at(5));
  EXPECT_EQ(answers[7].position, std::optional(before));
  EXPECT_EQ(answers[8].position, at(6));
}

TEST_F(RedisLogTest, KeepsSourcesApartThatShareAnId) {
  std::vector<Event> events;
  for (int source = 0; source < 5; ++source) {
    events.push_back(event_of("1"));
    events.back().source = "/" + std::to_string(source);
  }
  const auto answers = append(events);
  append({event_of("2")});
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(answers[i].status, AppendStatus::stored);
    const auto again = append({events[i]});
    EXPECT_EQ(again[0].status, AppendStatus::duplicate);
    EXPECT_EQ(again[0].position, answers[i].position);
    const auto found = log().find("events", "1", events[i].source);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].stored.position, answers[i].position);
  }
  ASSERT_EQ(log().find("events", "1").size(), 5U);
  Event conflict = events[3];
  conflict.data = "x";
  EXPECT_EQ(append({conflict})[0].status, AppendStatus::conflict);

  TrimRequest some;
  some.up_to = answers[2].position;
  EXPECT_EQ(log().trim("events", some).removed, 3U);
  const auto found = log().find("events", "1");
  ASSERT_EQ(found.size(), 5U);
  EXPECT_TRUE(found[2].trimmed_at && !found[3].trimmed_at);
  for (const Event& event : events) EXPECT_EQ(append({event})[0].status, AppendStatus::duplicate);
  some.up_to = answers[4].position;
  EXPECT_EQ(log().trim("events", some).removed, 2U);
  for (const Event& event : events) EXPECT_EQ(append({event})[0].status, AppendStatus::duplicate);
  EXPECT_EQ(number({"HLEN", "millrace:stream:events:ids"}), 1) << "only 2 is in the log";
  EXPECT_EQ(number({"EXISTS", "millrace:stream:events:ids:1"}), 0);
}

TEST_F(RedisLogTest, TakesLargeBatchesInOneStep) {
  const auto events = events_of("e", 5'000);
  const auto answers = append(events);
  ASSERT_EQ(answers.size(), events.size());
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 5'000);
  EXPECT_EQ(number({"HLEN", "millrace:stream:events:ids"}), 5'000);
  EXPECT_EQ(text({"HGET", "millrace:stream:events:ids", "e4999"}).substr(0, id(*answers[4'999].position).size()),
            id(*answers[4'999].position));
  Page page = read({.limit = 10'000, .max_scan = 10'000});
  ASSERT_EQ(page.events.size(), events.size());
  EXPECT_TRUE(page.at_end);
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(page.events[i].event, events[i]);
}

TEST_F(RedisLogTest, RefusesAnUnknownStreamAndWritesNothing) {
  EXPECT_EQ(code_of([&] { log().append("nowhere", std::vector{event_of("1")}, {}); }), Errc::unknown_stream);
  EXPECT_EQ(code_of([&] { log().read("nowhere", {}); }), Errc::unknown_stream);
  EXPECT_EQ(code_of([&] { log().stream("nowhere"); }), Errc::unknown_stream);
  EXPECT_EQ(number({"EXISTS", "nowhere:all:stream", "millrace:stream:nowhere"}), 0);
}

TEST_F(RedisLogTest, SendsWhatQueuesTogether) {
  constexpr int kCount = 2'000;
  std::mutex mutex;
  std::vector<std::pair<int, AppendAnswer>> answered;
  std::promise<void> all;
  const auto calls = [&] {
    return number(
        {"EVAL",
         "local i = redis.call('INFO', 'commandstats') return tonumber(string.match(i, 'evalsha:calls=(%d+)') or 0)",
         "0"});
  };
  const auto before = calls();
  neighbour({"CLIENT", "PAUSE", "500", "WRITE"});  // they queue, however slowly they come
  for (int i = 0; i < kCount; ++i) {
    log().append_async("events", {event_of(std::to_string(i))}, {}, [&, i](AppendAnswer answer) {
      const std::lock_guard lock(mutex);
      answered.emplace_back(i, std::move(answer));
      if (answered.size() == kCount) all.set_value();
    });
  }
  ASSERT_EQ(all.get_future().wait_for(std::chrono::seconds{60}), std::future_status::ready);
  Position last;
  for (int i = 0; i < kCount; ++i) {
    ASSERT_EQ(answered[static_cast<std::size_t>(i)].first, i) << "one publisher's appends stay in order";
    const auto& results = std::get<std::vector<AppendResult>>(answered[static_cast<std::size_t>(i)].second);
    ASSERT_EQ(results.size(), 1U);
    ASSERT_EQ(results[0].status, AppendStatus::stored);
    ASSERT_GT(*results[0].position, last);
    last = *results[0].position;
  }
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), kCount);
  EXPECT_LT(calls() - before, kCount / 4);
}

TEST_F(RedisLogTest, AnswersEachOfACombinedCallForItself) {
  std::vector<std::future<AppendAnswer>> answers;
  for (int i = 0; i < 300; ++i) {
    auto promise = std::make_shared<std::promise<AppendAnswer>>();
    answers.push_back(promise->get_future());
    Event event = event_of(std::to_string(i / 3));
    if (i % 3 == 2) event.data = "other";
    log().append_async(StreamName(i % 50 == 49 ? "nowhere" : "events"), {event}, {},
                       [promise](AppendAnswer answer) { promise->set_value(std::move(answer)); });
  }
  for (int i = 0; i < 300; ++i) {
    const AppendAnswer answer = answers[static_cast<std::size_t>(i)].get();
    if (i % 50 == 49) {
      ASSERT_EQ(std::get<Error>(answer).code(), Errc::unknown_stream);
    } else if (i % 50 != 48 && i % 50 != 0 && i % 50 != 1 && i % 50 != 47) {  // whose neighbours went elsewhere
      const AppendStatus expected[] = {AppendStatus::stored, AppendStatus::duplicate, AppendStatus::conflict};
      EXPECT_EQ(std::get<std::vector<AppendResult>>(answer)[0].status, expected[i % 3]) << i;
    }
  }
}

TEST_F(RedisLogTest, ACompletionMayAppend) {
  std::promise<void> done;
  std::function<void(int)> next = [&](int left) {
    log().append_async("events", {event_of(std::to_string(left))}, {}, [&, left](AppendAnswer answer) {
      if (std::holds_alternative<Error>(answer) || left == 0) return done.set_value();
      next(left - 1);
    });
  };
  next(50);
  ASSERT_EQ(done.get_future().wait_for(std::chrono::seconds{30}), std::future_status::ready);
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 51);
}

TEST_F(RedisLogTest, AnswersEveryQueuedAppendWhenItStops) {
  std::atomic<int> answered{0};
  for (int i = 0; i < 1'000; ++i) {
    log().append_async("events", {event_of(std::to_string(i))}, {}, [&](AppendAnswer) { ++answered; });
  }
  log_->stop();
  EXPECT_EQ(answered, 1'000);
  EXPECT_EQ(code_of([&] { put(event_of("late")); }), Errc::stopped);
}

TEST_F(RedisLogTest, OutOfMemoryStoresNothing) {
  put(event_of("1"));
  neighbour({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_EQ(code_of([&] { append(events_of("x", 100)); }), Errc::store_full);
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 1);
  EXPECT_EQ(number({"HLEN", "millrace:stream:events:ids"}), 1);
  TrimRequest all;
  all.max_events = 0;
  EXPECT_EQ(log().trim("events", all).removed, 1U) << "what makes room goes on";
  neighbour({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(append(events_of("x", 100)).size(), 100U);
}

TEST_F(RedisLogTest, GoesOnAfterTheScriptCacheIsLost) {
  put(event_of("1"));
  neighbour({"SCRIPT", "FLUSH"});
  EXPECT_EQ(append({event_of("2")})[0].status, AppendStatus::stored);
}

TEST_F(RedisLogTest, RefusesAKeyThatIsSomethingElse) {
  neighbour({"SET", "mine:all:stream", "x"});
  std::string text;
  EXPECT_EQ(code_of([&] { log().create_stream("mine"); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("mine:all:stream"), std::string::npos) << text;
  neighbour({"DEL", "events:all:stream"});
  neighbour({"SET", "events:all:stream", "x"});
  EXPECT_EQ(code_of([&] { put(event_of("1")); }), Errc::corrupt);
  EXPECT_EQ(code_of([&] { read(); }), Errc::corrupt);
}

TEST(RedisReplicas, AnAppendIsAnsweredWhenTheyHaveIt) {
  RedisServer master({.tcp = true, .settings = {{"appendonly", "no"}, {"repl-diskless-sync-delay", "0"}}});
  RedisServer replica(
      {.settings = {{"appendonly", "no"}, {"replicaof", "127.0.0.1 " + std::to_string(master.port())}}});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
  while (master.cli({"INFO", "replication"}).find("state=online") == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the replica never came";
    std::this_thread::sleep_for(Milliseconds{20});
  }
  store::redis::Client client(store::redis::parse_redis_url(master.url("durability=memory&replicas=1&timeout=4000")));
  store::redis::RedisLog log(client, {});
  log.create_stream("events");
  const auto stored = log.append("events", std::vector{event_of("1")}, {});
  EXPECT_EQ(stored[0].status, AppendStatus::stored);
  replica.suspend();
  std::string text;
  EXPECT_EQ(code_of([&] { log.append("events", std::vector{event_of("2")}, {}); }, &text), Errc::outcome_unknown);
  EXPECT_NE(text.find("replicas"), std::string::npos) << text;
  std::promise<AppendAnswer> answered;
  log.append_async("events", {event_of("3")}, {}, [&](AppendAnswer answer) { answered.set_value(std::move(answer)); });
  EXPECT_TRUE(std::holds_alternative<Error>(answered.get_future().get())) << "a completion is told the same";
  replica.resume();
  const auto again = log.append("events", std::vector{event_of("2"), event_of("3")}, {});
  EXPECT_EQ(again[0].status, AppendStatus::duplicate) << "it was stored, and now the replica has it";
  EXPECT_EQ(again[1].status, AppendStatus::duplicate);
}

// ---- Positions ----

TEST_F(RedisLogTest, PositionsGoOnWhenTheClockWentBack) {
  neighbour({"XADD", "events:all:stream", "1999999999999-4194302", "type", "foreign"});
  EXPECT_EQ(put(event_of("1")), (Position{1999999999999, 4194303}));
  EXPECT_EQ(put(event_of("2")), (Position{2000000000000, 0})) << "no sequence number beyond 22 bits";
  EXPECT_EQ(put(event_of("3")), (Position{2000000000000, 1}));
  EXPECT_EQ(ids(), (std::vector<std::string>{"1999999999999-4194302", "1", "2", "3"}));
}

TEST_F(RedisLogTest, AnEntryBeyondWhatFitsEndsTheStreamWithoutLoss) {
  put(event_of("1"));
  neighbour({"XADD", "events:all:stream", "9999999999999999-0", "type", "foreign"});
  std::string text;
  EXPECT_EQ(code_of([&] { append({event_of("2"), event_of("3")}); }, &text), Errc::corrupt);
  EXPECT_NE(text.find("9999999999999999-0"), std::string::npos) << text;
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 2);
  EXPECT_EQ(ids(), std::vector<std::string>{"1"});
  EXPECT_EQ(append({event_of("1")})[0].status, AppendStatus::duplicate);
}

TEST_F(RedisLogTest, PositionsGoOnBehindWhatTheServerLost) {
  std::vector<std::vector<std::string>> commands{{"FLUSHALL"}};
  for (const char* key : {"events:all:stream", "millrace:stream:events", "millrace:streams"}) {
    commands.push_back({"RESTORE", key, "0", text({"DUMP", key})});
  }
  neighbour({"XADD", "events:all:stream", "1999999999999-5", "type", "foreign"});  // the clock is set back later
  const Position lost = put(event_of("1"));
  for (const auto& command : commands) neighbour(command);
  EXPECT_GT(put(event_of("2")), lost);
}

TEST_F(RedisLogTest, NoPositionIsUsedTwiceAfterTheKeyWasDeleted) {
  neighbour({"XADD", "events:all:stream", "1999999999999-5", "type", "foreign"});
  const Position before = put(event_of("1"));
  neighbour({"DEL", "events:all:stream"});
  const Position position = put(event_of("2"));
  EXPECT_GT(position, before);
  const Page page = read({.after = Position{1999999999999, 5}});
  EXPECT_EQ(page.gap, position) << "who read before is told";
  ASSERT_EQ(page.events.size(), 1U);
  EXPECT_EQ(log().stream("events").trimmed_to, before);
}

TEST_F(RedisLogTest, AStreamThatIsGoneIsMadeAgain) {
  const Position before = put(event_of("1"));
  neighbour({"FLUSHALL"});
  const Position position = put(event_of("1"));
  EXPECT_GT(position, before);
  EXPECT_EQ(read({.after = before}).gap, position);
  EXPECT_FALSE(read().gap);
  neighbour({"FLUSHALL"});
  EXPECT_TRUE(read().events.empty());
  neighbour({"FLUSHALL"});
  EXPECT_EQ(log().stream("events").events, 0U);
  EXPECT_EQ(code_of([&] { log().stream("others"); }), Errc::unknown_stream);
}

TEST_F(RedisLogTest, TakesOnAStreamThatOthersWrite) {
  neighbour({"XADD", "theirs:all:stream", "5-0", "type", "a"});
  neighbour({"XADD", "theirs:all:stream", "5-1", "type", "b"});
  log().create_stream("theirs");
  const auto stored = log().append("theirs", std::vector{event_of("1")}, {});
  const Page page = log().read("theirs", {.after = Position{5, 0}});
  EXPECT_FALSE(page.gap);
  ASSERT_EQ(page.events.size(), 2U);
  EXPECT_EQ(page.events[0].event.type, "b");
  EXPECT_EQ(page.events[1].position, stored[0].position);
  EXPECT_EQ(code_of([&] { log().create_stream("theirs"); }), Errc::already_exists);
}

// ---- Reading ----

TEST_F(RedisLogTest, ReadsOnInPagesOfAnySize) {
  const auto events = events_of("e", 1'500);
  append(events);
  for (const std::size_t limit : {1UL, 128UL, 129UL, 700UL}) {
    Position after;
    std::size_t seen = 0;
    while (true) {
      const Page page = read({.after = after, .limit = limit});
      for (const StoredEvent& stored : page.events) ASSERT_EQ(stored.event.id, events[seen++].id);
      after = page.next;
      if (page.at_end) break;
      ASSERT_EQ(page.events.size(), limit);
    }
    EXPECT_EQ(seen, events.size());
    EXPECT_TRUE(read({.after = after, .limit = limit}).at_end);
  }
  const Page last = read({.limit = 1'500});
  EXPECT_TRUE(last.at_end) << "a page that ends with the log says so";
  const Page scanned = read({.limit = 10, .max_scan = 1'000, .types = {"other"}});
  EXPECT_TRUE(scanned.events.empty() && !scanned.at_end);
  EXPECT_TRUE(read({.after = scanned.next, .limit = 10, .max_scan = 1'000, .types = {"other"}}).at_end);
}

TEST_F(RedisLogTest, ReadsBetweenTimes) {
  const Position first = put(event_of("1"));
  std::this_thread::sleep_for(Milliseconds{3});
  const Position second = put(event_of("2"));
  const Timestamp at = store::redis::time_of(second);
  EXPECT_EQ(ids({.since = at}), std::vector<std::string>{"2"});
  EXPECT_EQ(ids({.until = at}), std::vector<std::string>{"1"});
  EXPECT_TRUE(read({.until = at}).at_end);
  EXPECT_EQ(ids({.until = at + std::chrono::microseconds{1}}), (std::vector<std::string>{"1", "2"}));
  EXPECT_EQ(log().position_before("events", at), first);
  EXPECT_EQ(log().position_before("events", at + std::chrono::hours{1}), second);
  EXPECT_EQ(log().position_before("events", Timestamp{}), Position{});
  const Page none = read({.since = at + std::chrono::hours{1}});
  EXPECT_TRUE(none.events.empty() && none.at_end);
  EXPECT_FALSE(read({.after = none.next}).gap);
}

TEST_F(RedisLogTest, TellsAGapThatANeighbourMade) {
  const auto answers = append(events_of("e", 10));
  const auto at = [&](std::size_t i) { return *answers[i].position; };
  neighbour({"XTRIM", "events:all:stream", "MAXLEN", "6"});
  EXPECT_EQ(read({.after = at(1)}).gap, at(4)) << "removed at the front";
  EXPECT_EQ(read({.after = at(3)}).gap, at(4)) << "nobody knows any more that nothing stood between them";
  EXPECT_FALSE(read({.after = at(4)}).gap);
  EXPECT_FALSE(read().gap);
  neighbour({"XDEL", "events:all:stream", id(at(6)), id(at(7))});
  EXPECT_EQ(read({.after = at(5)}).gap, at(8)) << "removed in the middle";
  EXPECT_EQ(ids({.after = at(5)}), (std::vector<std::string>{"e8", "e9"}));
  EXPECT_FALSE(read({.after = at(8)}).gap);
}

TEST_F(RedisLogTest, AnErasedEventIsNoGap) {
  const auto answers = append(events_of("e", 5));
  ASSERT_TRUE(log().erase("events", "/test", "e0"));
  ASSERT_TRUE(log().erase("events", "/test", "e2"));
  EXPECT_EQ(ids(), (std::vector<std::string>{"e0", "e1", "e2", "e3", "e4"}));
  for (const AppendResult& answer : answers) EXPECT_FALSE(read({.after = *answer.position}).gap);
  EXPECT_EQ(ids({.after = *answers[1].position, .limit = 2}), (std::vector<std::string>{"e2", "e3"}));
}

TEST_F(RedisLogTest, MapsForeignEntriesAndSetsAsideTheRest) {
  put(event_of("1"));
  neighbour({"XADD", "events:all:stream", "*", "event_type", "created", "who", "me"});
  const std::string odd = text({"XADD", "events:all:stream", "*", "hello", "world"});
  put(event_of("2"));
  const Page page = read();
  ASSERT_EQ(page.events.size(), 3U);
  EXPECT_EQ(page.events[1].event.type, "created");
  EXPECT_EQ(page.events[1].event.data, R"({"who":"me"})");
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while (log_->set_aside("events") == 0) ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  read();
  EXPECT_EQ(log_->set_aside("events"), 1U) << "counted once";
  EXPECT_NE(text({"HGET", "millrace:stream:events:aside", odd}).find("type"), std::string::npos);
  EXPECT_EQ(log().stream("events").events, 4U);
  EXPECT_EQ(text({"EVAL", "local e = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1) return e[1][2][2]", "1",
                  "events:all:stream"}),
            "4")
      << "n counts what others added, too";
}

TEST_F(RedisLogTest, FindsWhatANeighbourRemovedAsGone) {
  const Position position = put(event_of("1"));
  neighbour({"XDEL", "events:all:stream", id(position)});
  const auto found = log().find("events", "1");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].stored.position, position);
  EXPECT_TRUE(found[0].trimmed_at);
}

TEST_F(RedisLogTest, WhatANeighbourRemovedIsStoredWhenItIsAppendedAgain) {
  const auto positions = append(events_of("e", 4));
  Event same_id = event_of("e0");
  same_id.source = "/other";
  const Position others = put(same_id);
  neighbour({"XDEL", "events:all:stream", id(*positions[0].position), id(*positions[1].position)});
  ASSERT_TRUE(log().erase("events", "/test", "e3"));
  const auto again = append(events_of("e", 4));
  EXPECT_EQ(again[0].status, AppendStatus::stored) << "among others of its id";
  EXPECT_EQ(again[1].status, AppendStatus::stored);
  EXPECT_EQ(again[2].status, AppendStatus::duplicate);
  EXPECT_EQ(again[3].status, AppendStatus::duplicate) << "an erased event is there";
  EXPECT_EQ(ids(), (std::vector<std::string>{"e2", "e3", "e0", "e0", "e1"}));
  for (const AppendResult& answer : append(events_of("e", 4))) EXPECT_EQ(answer.status, AppendStatus::duplicate);
  EXPECT_EQ(append({same_id})[0].position, others);
  EXPECT_EQ(log().find("events", "e0", "/test").at(0).stored.position, again[0].position);
  neighbour({"DEL", "events:all:stream"});
  EXPECT_EQ(append({event_of("e1")})[0].status, AppendStatus::stored);
}

TEST_F(RedisLogTest, TellsWhatItHas) {
  std::vector<Event> events = events_of("e", 3);
  const auto answers = append(events);
  StreamInfo info = log().stream("events");
  std::uint64_t bytes = 0;
  for (const Event& event : events) bytes += store::event_bytes(event);
  EXPECT_EQ(info.bytes, bytes);
  EXPECT_EQ(info.events, 3U);
  EXPECT_EQ(info.first, answers[0].position);
  EXPECT_EQ(info.last, answers[2].position);
  EXPECT_EQ(info.oldest, store::redis::time_of(info.first));
  EXPECT_EQ(info.durable_to, Position{}) << "nothing is on disk here";
  log().create_stream("a");
  const auto all = log().streams();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].name, StreamName("a"));
  EXPECT_EQ(all[1].events, 3U);
}

}  // namespace
}  // namespace millrace::test
