// SPDX-License-Identifier: Apache-2.0
#include "store/redis/entry.hpp"

#include <gtest/gtest.h>

#include "sqlite_test_support.hpp"
#include "store/common.hpp"

namespace millrace::test {
namespace {

using namespace store::redis;

Reply text_of(std::string text) {
  return {.kind = Reply::Kind::text, .text = std::move(text)};
}

Reply entry_of(const std::string& id, const std::vector<std::string>& words) {
  Reply fields{.kind = Reply::Kind::array};
  for (const std::string& word : words) fields.items.push_back(text_of(word));
  return {.kind = Reply::Kind::array, .items = {text_of(id), std::move(fields)}};
}

/// As the append script writes it.
Reply stored(const Event& event, const std::string& n = "7") {
  std::vector<std::string> words{"n", n};
  encode_fields(event, words);
  return entry_of("1526919030474-55", words);
}

Event full_event() {
  Event event = event_of("1", "order.placed", "k");
  event.time = "2026-11-20T21:33:59.123456789+01:00";
  event.datacontenttype = "application/json";
  event.dataschema = "https://example.org/schema";
  event.extensions = {{"tenantid", std::string("gr\xC3\xBC\xC3\x9F dich")},
                      {"number", std::int32_t{-5}},
                      {"yes", true},
                      {"no", false},
                      {"digits", std::string("12")},
                      {"truth", std::string("true")}};
  return event;
}

TEST(RedisPosition, KeepsItsOrderInOneNumber) {
  const Position positions[] = {{0, 0},       {0, 1}, {1, 0}, {1, kSequenceEnd - 1}, {2, 0}, {1526919030474, 55},
                                kLastPosition};
  for (std::size_t i = 0; i < std::size(positions); ++i) {
    EXPECT_EQ(unpack(pack(positions[i])), positions[i]);
    if (i == 0) continue;
    EXPECT_LT(pack(positions[i - 1]), pack(positions[i]));
  }
}

TEST(RedisPosition, RefusesWhatDoesNotFit) {
  std::string text;
  EXPECT_EQ(code_of([] { pack({5, kSequenceEnd}, "read"); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("5-4194304"), std::string::npos) << text;
  EXPECT_EQ(code_of([] { pack({kMillisecondsEnd, 0}); }), Errc::invalid_argument);
}

TEST(RedisPosition, HasOneText) {
  EXPECT_EQ(id_of({0, 5}), "0-5");
  EXPECT_EQ(parse_id("1526919030474-55"), (Position{1526919030474, 55}));
  for (const char* bad : {"", "5", "5-", "-5", "05-1", "5-1 ", "5-+1", "18446744073709551616-0"}) {
    EXPECT_FALSE(parse_id(bad)) << bad;
  }
  EXPECT_EQ(code_of([] { position_of("junk", "cursor"); }), Errc::corrupt);
}

TEST(RedisPosition, OfATimeIsTheLastBeforeIt) {
  const Timestamp at{std::chrono::milliseconds{1000}};
  EXPECT_EQ(last_before(at), (Position{999, kSequenceEnd - 1}));
  EXPECT_EQ(last_before(at + std::chrono::microseconds{1}), (Position{1000, kSequenceEnd - 1}));
  EXPECT_EQ(last_before(Timestamp{}), Position{});
  EXPECT_EQ(last_before(Timestamp::max()), kLastPosition);
}

TEST(RedisEntry, KeepsEveryAttributeAndTheTypesOfExtensions) {
  const Entry entry = decode(stored(full_event()), "events:all:stream");
  ASSERT_TRUE(entry.event) << entry.aside;
  EXPECT_EQ(*entry.event, full_event());
  EXPECT_EQ(entry.position, (Position{1526919030474, 55}));
  EXPECT_EQ(entry.n, 7U);
  EXPECT_EQ(decode_entry(stored(full_event())).stored_at, Timestamp{std::chrono::milliseconds{1526919030474}});
}

TEST(RedisEntry, TellsNoDataFromEmptyAndKeepsAnyBytes) {
  Event event = full_event();
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  for (const auto& data : {std::optional<std::string>(), std::optional<std::string>(""), std::optional(bytes)}) {
    event.data = data;
    EXPECT_EQ(decode_entry(stored(event)).event, event);
  }
}

TEST(RedisEntry, IsReadableAsFields) {
  std::vector<std::string> words;
  Event event = event_of("1", "t", "");
  event.extensions = {{"number", std::int32_t{-5}}, {"yes", true}, {"tenantid", std::string("t")}};
  encode_fields(event, words);
  EXPECT_EQ(words, (std::vector<std::string>{"id", "1", "source", "/test", "type", "t", "ce_number:int", "-5",
                                             "ce_yes:bool", "true", "ce_tenantid", "t", "data", "data of 1"}));
}

TEST(RedisEntry, OfAnotherProducerWhoKnowsTheFormatIsCheckedAndHasNoCount) {
  const Entry good = decode(entry_of("1-1", {"id", "1", "source", "/s", "type", "t", "data", "x"}), "k");
  ASSERT_TRUE(good.event);
  EXPECT_FALSE(good.n);
  const Entry bad = decode(entry_of("1-1", {"id", "1", "source", "/s", "type", "t", "time", "yesterday"}), "k");
  EXPECT_FALSE(bad.event);
  EXPECT_NE(bad.aside.find("time"), std::string::npos) << bad.aside;
  const Entry untyped =
      decode(entry_of("1-1", {"id", "1", "source", "/s", "type", "t", "n", "1", "ce_x:int", "one"}), "k");
  EXPECT_FALSE(untyped.event);
}

TEST(RedisEntry, MapsTheFieldsOfAnotherProducer) {
  const std::string trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const Entry entry = decode(entry_of("1526919030474-55", {"type", "event", "event_type", "created", "timestamp",
                                                           "1526919030474", "trace_id", trace, "component", "a \"b\""}),
                             "events:all:stream");
  ASSERT_TRUE(entry.event) << entry.aside;
  EXPECT_EQ(entry.event->type, "created");
  EXPECT_EQ(entry.event->id, "1526919030474-55");
  EXPECT_EQ(entry.event->source, "redis:events:all:stream");
  EXPECT_EQ(entry.event->time, "2018-05-21T16:10:30.474000Z");
  EXPECT_EQ(entry.event->attribute("traceparent"), trace);
  EXPECT_EQ(entry.event->data, R"({"type":"event","component":"a \"b\""})");
  EXPECT_EQ(entry.event->datacontenttype, "application/json");
  EXPECT_FALSE(entry.n);
}

TEST(RedisEntry, TakesTheOlderShapeOfAnotherProducer) {
  const Entry entry = decode(
      entry_of("1-1", {"type", "log", "id", "abc", "timestamp", "2026-01-01T00:00:00Z", "trace_id", "t-1"}), "k");
  ASSERT_TRUE(entry.event) << entry.aside;
  EXPECT_EQ(entry.event->type, "log");
  EXPECT_EQ(entry.event->id, "abc");
  EXPECT_EQ(entry.event->time, "2026-01-01T00:00:00Z");
  EXPECT_EQ(entry.event->attribute("traceid"), "t-1");
  EXPECT_FALSE(entry.event->data);
  EXPECT_TRUE(decode(entry_of("1-1", {"type", "log", "trace_id", ""}), "k").event) << "an empty value means none";
}

TEST(RedisEntry, TheKindOfALogGoesBeforeItsClass) {
  const Entry entry = decode(entry_of("1-1", {"type", "log", "log_type", "http_request", "level", "INFO"}), "k");
  ASSERT_TRUE(entry.event) << entry.aside;
  EXPECT_EQ(entry.event->type, "http_request");
  EXPECT_EQ(entry.event->data, R"({"type":"log","level":"INFO"})");
}

TEST(RedisEntry, SetsAsideWhatCannotBeAnEvent) {
  const auto reason = [](const Reply& reply) {
    const Entry entry = decode(reply, "k");
    EXPECT_FALSE(entry.event);
    return entry.aside;
  };
  EXPECT_NE(reason(entry_of("1-1", {"message", "hello"})).find("event_type"), std::string::npos);
  EXPECT_NE(reason(entry_of("1-1", {"type", "t", "x", "\xFF"})).find("UTF-8"), std::string::npos);
  EXPECT_NE(reason(entry_of("1-1", {"type", "t", "x", "1", "x", "2"})).find("twice"), std::string::npos);
  EXPECT_NE(reason(entry_of("1-1", {"type", "t", "timestamp", "yesterday"})).find("time"), std::string::npos);
  EXPECT_NE(reason(entry_of("1-4194304", {"type", "t"})).find("2^22"), std::string::npos);
  EXPECT_NE(reason(entry_of("99999999999999-1", {"type", "t"})).find("2^41"), std::string::npos);
  EXPECT_EQ(code_of([] { decode_entry(entry_of("1-1", {"message", "hello"})); }), Errc::corrupt);
  EXPECT_EQ(code_of([] { decode(text_of("x"), "k"); }), Errc::corrupt);
  EXPECT_EQ(code_of([] { decode(entry_of("1-1", {"odd"}), "k"); }), Errc::corrupt);
}

TEST(RedisEntry, FollowsADeclaredMapping) {
  ForeignMapping mapping;
  mapping.type = {"kind"};
  mapping.source = {"component"};
  mapping.subject = {"order"};
  mapping.validate();
  const Entry entry =
      decode(entry_of("1-1", {"kind", "k", "type", "x", "component", "/c", "order", "7"}), "k", mapping);
  ASSERT_TRUE(entry.event) << entry.aside;
  EXPECT_EQ(entry.event->type, "k");
  EXPECT_EQ(entry.event->source, "/c");
  EXPECT_EQ(entry.event->subject, "7");
  EXPECT_EQ(entry.event->data, R"({"type":"x"})");
}

TEST(RedisEntry, RefusesAMappingThatMeansNothing) {
  ForeignMapping mapping;
  mapping.type.clear();
  EXPECT_EQ(code_of([&] { mapping.validate(); }), Errc::invalid_argument);
  mapping = {};
  mapping.subject = {"id"};
  std::string text;
  EXPECT_EQ(code_of([&] { mapping.validate(); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("subject"), std::string::npos) << text;
  mapping = {};
  mapping.source = {""};
  EXPECT_EQ(code_of([&] { mapping.validate(); }), Errc::invalid_argument);
}

TEST(RedisEntry, LeavesAShellWhenErased) {
  Event event = full_event();
  store::mark_erased(event, Timestamp{std::chrono::seconds{1}});
  const Position position{1526919030474, 55};
  const std::string member = encode_shell(position, 9, event);
  EXPECT_TRUE(member.starts_with(shell_prefix(position)));
  const Entry shell = decode_shell(member);
  EXPECT_EQ(shell.position, position);
  EXPECT_EQ(shell.n, 9U);
  EXPECT_EQ(shell.event, event);
  EXPECT_LT(shell_prefix({999, 4194303}), shell_prefix({1000, 0}));
  EXPECT_LT(shell_prefix({1000, 9}), shell_prefix({1000, 10}));
  for (const char* bad : {"", "x", "1-1", "1-1 {", "1-1 [1]", "1-1 [\"id\"]"}) {
    EXPECT_EQ(code_of([&] { decode_shell(bad); }), Errc::corrupt) << bad;
  }
}

}  // namespace
}  // namespace millrace::test
