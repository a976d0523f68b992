// SPDX-License-Identifier: Apache-2.0

// Trimming and erasing on a real server.

#include "redis_log_support.hpp"
#include "store/common.hpp"

namespace millrace::test {
namespace {

TrimRequest up_to(Position position, bool force = false) {
  TrimRequest request;
  request.up_to = position;
  request.force = force;
  return request;
}

TEST_F(RedisLogTest, TrimKeepsWhatALiveGroupNeeds) {
  const auto answers = append(events_of("e", 10));
  const auto at = [&](std::size_t i) { return *answers[i].position; };
  group("slow", at(7), at(5));
  group("slower", at(2));
  group("gone", {}, {}, {"expires", "60"});
  TrimResult result = log().trim("events", up_to(at(9)));
  EXPECT_EQ(result.removed, 3U);
  EXPECT_EQ(result.trimmed_to, at(2));
  ASSERT_EQ(result.kept.size(), 2U);
  EXPECT_EQ(result.kept[0].group, GroupName("slow"));
  EXPECT_EQ(result.kept[0].events, 5U);
  EXPECT_EQ(result.kept[1].group, GroupName("slower"));
  EXPECT_EQ(result.kept[1].events, 7U);
  group("slower", at(9));
  result = log().trim("events", up_to(at(9)));
  EXPECT_EQ(result.removed, 2U);
  EXPECT_EQ(result.trimmed_to, at(4));
  EXPECT_EQ(ids(), (std::vector<std::string>{"e5", "e6", "e7", "e8", "e9"}));
  EXPECT_EQ(text({"HGET", "millrace:group:slow", "version"}), "1") << "nothing the groups know has changed";
}

TEST_F(RedisLogTest, AForcedTrimTellsTheGroups) {
  const auto answers = append(events_of("e", 3));
  group("slow", {});
  const TrimResult result = log().trim("events", up_to(*answers[1].position, true));
  EXPECT_EQ(result.removed, 2U);
  EXPECT_TRUE(result.kept.empty());
  EXPECT_EQ(text({"HGET", "millrace:group:slow", "forget_up_to"}), id(*answers[1].position));
  EXPECT_NE(text({"HGET", "millrace:group:slow", "version"}), "1");
}

TEST_F(RedisLogTest, ADryRunSaysWhatATrimDoes) {
  const auto answers = append(events_of("e", 20));
  group("slow", *answers[4].position);
  TrimRequest request;
  request.max_events = 8;
  request.dry_run = true;
  for (const bool force : {false, true}) {
    request.force = force;
    const TrimResult dry = log().trim("events", request);
    EXPECT_EQ(number({"XLEN", "events:all:stream"}), 20);
    EXPECT_EQ(dry.removed, force ? 12U : 5U);
    EXPECT_EQ(dry.trimmed_to, *answers[force ? 11 : 4].position);
    EXPECT_EQ(dry.kept.size(), force ? 0U : 1U);
  }
  EXPECT_FALSE(log().stream("events").last_trim_at);
  EXPECT_EQ(text({"HGET", "millrace:group:slow", "version"}), "1");
}

TEST_F(RedisLogTest, LargeTrimsGoInSlices) {
  std::vector<AppendResult> answers;
  for (int i = 0; i < 4; ++i) {
    const auto some = append(events_of("e" + std::to_string(i) + "-", 1'000));
    answers.insert(answers.end(), some.begin(), some.end());
  }
  TrimRequest request;
  request.max_events = 500;
  const TrimResult result = log().trim("events", request);
  EXPECT_EQ(result.removed, 3'500U);
  EXPECT_EQ(result.trimmed_to, *answers[3'499].position);
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 500);
  EXPECT_EQ(number({"HLEN", "millrace:stream:events:ids"}), 500);
  EXPECT_EQ(append({event_of("e0-0")})[0].position, answers[0].position) << "known after it was trimmed";
  const StreamInfo info = log().stream("events");
  EXPECT_EQ(info.last_trim.removed, 3'500U);
  EXPECT_EQ(info.last_trim.trimmed_to, result.trimmed_to);
  EXPECT_TRUE(info.last_trim_at);
  EXPECT_EQ(info.first, *answers[3'500].position);
}

TEST_F(RedisLogTest, TrimsToACountAcrossErasedAndForeignEntries) {
  append(events_of("a", 1'500));
  ASSERT_TRUE(log().erase("events", "/test", "a1200"));
  for (int i = 0; i < 10; ++i) neighbour({"XADD", "events:all:stream", "*", "type", "foreign"});
  append(events_of("b", 1'000));
  TrimRequest request;
  request.max_events = 1'005;
  EXPECT_EQ(log().trim("events", request).removed, 1'505U);
  EXPECT_EQ(log().stream("events").events, 1'005U);
  EXPECT_EQ(number({"ZCARD", "millrace:stream:events:erased"}), 0);
}

TEST_F(RedisLogTest, TrimsByBytesAndByAge) {
  append(events_of("e", 10));
  TrimRequest by_bytes;
  by_bytes.max_bytes = log().stream("events").bytes - 1;
  EXPECT_EQ(log().trim("events", by_bytes).removed, 1U);
  TrimRequest by_age;
  by_age.max_age = std::chrono::seconds{3600};
  EXPECT_EQ(log().trim("events", by_age).removed, 0U);
  by_age.max_age = std::chrono::seconds{0};
  std::this_thread::sleep_for(Milliseconds{2});
  EXPECT_EQ(log().trim("events", by_age).removed, 9U);
  EXPECT_EQ(log().stream("events").bytes, 0U);
}

TEST_F(RedisLogTest, RemembersTrimmedIdsForDedupKeep) {
  open({.dedup_keep = std::chrono::seconds{1}});
  const Position first = put(event_of("1"));
  EXPECT_EQ(log().trim("events", up_to(first)).removed, 1U);
  EXPECT_EQ(append({event_of("1")})[0].position, first);
  Event other = event_of("1");
  other.data = "other";
  EXPECT_EQ(append({other})[0].status, AppendStatus::conflict);
  EXPECT_EQ(log().find("events", "1").size(), 1U);
  const std::string day = *stream_field("days");
  EXPECT_GT(number({"TTL", "millrace:stream:events:trimmed:" + day}), 0) << "Redis drops it by itself";
  std::this_thread::sleep_for(Milliseconds{1'100});
  EXPECT_TRUE(log().find("events", "1").empty());
  const auto anew = append({event_of("1")});
  EXPECT_EQ(anew[0].status, AppendStatus::stored);
  EXPECT_GT(anew[0].position, first);
}

TEST_F(RedisLogTest, ANeighboursTrimIsNoObstacle) {
  const auto answers = append(events_of("e", 10));
  neighbour({"XTRIM", "events:all:stream", "MAXLEN", "5"});
  const TrimResult result = log().trim("events", up_to(*answers[7].position));
  EXPECT_EQ(result.removed, 3U) << "what was there";
  EXPECT_EQ(result.trimmed_to, *answers[7].position);
  EXPECT_EQ(log().stream("events").events, 2U);
  neighbour({"DEL", "events:all:stream"});
  EXPECT_EQ(log().trim("events", up_to(*answers[9].position)).removed, 0U);
}

TEST_F(RedisLogTest, RetentionMakesRoomWhenThereIsNone) {
  append(events_of("e", 10));
  neighbour({"CONFIG", "SET", "maxmemory", "1"});
  log().set_retention("events", {.max_events = 3});
  log_->start_retention();
  for (int i = 0; i < 400 && log().stream("events").events != 3; ++i) {
    std::this_thread::sleep_for(Milliseconds{50});
  }
  EXPECT_EQ(log().stream("events").events, 3U);
}

TEST_F(RedisLogTest, RetentionIsAppliedByOneProcessAtATime) {
  append(events_of("e", 10));
  Retention retention;
  retention.max_events = 4;
  neighbour({"SET", "millrace:stream:events:trimmer", "another process"});
  EXPECT_EQ(log().set_retention("events", retention).retention, retention);
  log_->start_retention();
  log().create_stream("proof");  // its retention is applied while events' is somebody else's
  log().append("proof", events_of("p", 10), {});
  log().set_retention("proof", retention);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  const auto soon = [&](const char* stream, std::uint64_t events) {
    while (log().stream(stream).events != events && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(Milliseconds{5});
    }
    return log().stream(stream).events == events;
  };
  EXPECT_TRUE(soon("proof", 4));
  EXPECT_EQ(log().stream("events").events, 10U);
  neighbour({"DEL", "millrace:stream:events:trimmer"});
  EXPECT_TRUE(soon("events", 4));
  while (neighbour({"EXISTS", "millrace:stream:events:trimmer"}).as_integer() != 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the lease is given back";
  }
  EXPECT_EQ(log().stream("events").retention, retention);
  EXPECT_NE(stream_field("retention")->find("applied_at"), std::string::npos);
  EXPECT_EQ(log_->retention_figures().failures, 0U);
}

// ---- Erasing ----

TEST_F(RedisLogTest, AnErasedEventIsInNoAnswerOfRedis) {
  Event secret = event_of("secret");
  secret.data = "the-secret-itself";
  append({event_of("before"), secret, event_of("after")});
  const auto position = log().erase("events", "/test", "secret");
  ASSERT_TRUE(position);
  neighbour({"HSET", "millrace:group:unrelated:events", id(*position), "x"});
  EXPECT_EQ(number({"XLEN", "events:all:stream"}), 2);
  EXPECT_EQ(neighbour({"XRANGE", "events:all:stream", id(*position), id(*position)}).items.size(), 0U);
  const auto shells = neighbour({"ZRANGE", "millrace:stream:events:erased", "0", "-1"});
  ASSERT_EQ(shells.items.size(), 1U);
  EXPECT_EQ(shells.items[0].text.find("the-secret"), std::string::npos);
  const Page page = read();
  ASSERT_EQ(page.events.size(), 3U);
  EXPECT_TRUE(store::is_erased(page.events[1].event));
  EXPECT_EQ(page.events[1].position, *position);
  EXPECT_EQ(log().stream("events").events, 3U);
  secret.data = "whatever";
  EXPECT_EQ(append({secret})[0].status, AppendStatus::duplicate);
  EXPECT_EQ(log().erase("events", "/test", "secret"), position) << "twice is as once";
  EXPECT_EQ(read().events[1].event, page.events[1].event);
  EXPECT_FALSE(log().erase("events", "/other", "secret"));
}

TEST_F(RedisLogTest, CopiesOfAnErasedEventAreErased) {
  const auto answers = append({event_of("1"), event_of("2")});
  const std::string position = id(*answers[0].position);
  const std::string other = id(*answers[1].position);
  const auto netstring = [](const std::string& text) { return std::to_string(text.size()) + ":" + text + ","; };
  const auto copy = [&](const std::string& at, const Event& event) {
    std::string text = netstring(at);
    std::vector<std::string> words;
    store::redis::encode_fields(event, words);
    for (const std::string& word : words) text += netstring(word);
    return text;
  };
  group("g", {});
  neighbour(
      {"HSET", "millrace:group:g:events", position, copy(position, event_of("1")), other, copy(other, event_of("2"))});
  ASSERT_TRUE(log().erase("events", "/test", "1"));
  EXPECT_EQ(text({"HGET", "millrace:group:g:events", position}).find("data of 1"), std::string::npos);
  EXPECT_NE(text({"HGET", "millrace:group:g:events", other}).find("data of 2"), std::string::npos);
  EXPECT_NE(text({"HGET", "millrace:group:g", "version"}), "1") << "who holds the group in memory reads it again";

  EXPECT_EQ(log().trim("events", up_to(*answers[1].position, true)).removed, 2U);
  EXPECT_EQ(log().erase("events", "/test", "2"), answers[1].position) << "trimmed, but a group has a copy";
  EXPECT_EQ(text({"HGET", "millrace:group:g:events", other}).find("data of 2"), std::string::npos);
  EXPECT_EQ(append({event_of("2")})[0].status, AppendStatus::duplicate);
  neighbour({"DEL", "millrace:group:g:events"});
  EXPECT_FALSE(log().erase("events", "/test", "2")) << "nothing is left of it";
}

TEST_F(RedisLogTest, ACopyIsFoundWhenItsIdIsForgotten) {
  open({.dedup_keep = std::chrono::seconds{0}});
  const Position position = put(event_of("1"));
  group("g", position);
  neighbour(
      {"HSET", "millrace:group:g:events", id(position), "3:1-1,2:id,1:1,6:source,5:/test,4:type,1:t,4:data,6:secret,"});
  EXPECT_EQ(log().trim("events", up_to(position)).removed, 1U);
  neighbour({"HDEL", "millrace:group:g:events", id(position)});
  neighbour({"HSET", "millrace:group:g:events", "1-1", "3:1-1,2:id,1:1,6:source,5:/test,4:type,1:t,4:data,6:secret,"});
  EXPECT_EQ(log().erase("events", "/test", "1"), (Position{1, 1}));
  EXPECT_EQ(text({"HGET", "millrace:group:g:events", "1-1"}).find("secret"), std::string::npos);
}

}  // namespace
}  // namespace millrace::test
