// SPDX-License-Identifier: Apache-2.0
#include "daemon/publish_body.hpp"

#include <gtest/gtest.h>

#include "daemon/tails.hpp"
#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

constexpr PublishLimits kLimits{100, 1000};

http::Request typed(const std::string& type, std::string body = {}) {
  http::Request request;
  request.headers = {{"Content-Type", type}};
  request.body = std::move(body);
  return request;
}

TEST(PublishMode, IsBinaryWithAnySpecversionElseByContentType) {
  http::Request binary = typed("application/cloudevents+json");
  binary.headers.emplace_back("CE-SpecVersion", "1.0");
  EXPECT_EQ(publish_mode(binary), PublishMode::binary);
  EXPECT_EQ(publish_mode(typed("Application/CloudEvents+JSON; charset=utf-8")), PublishMode::structured);
  EXPECT_EQ(publish_mode(typed("application/cloudevents-batch+json")), PublishMode::batch);
  EXPECT_EQ(publish_mode(typed("application/x-ndjson")), PublishMode::ndjson);
  for (const char* other : {"application/json", "application/cloudevents+xml", "text/plain", ""}) {
    EXPECT_THROW(publish_mode(typed(other)), UnsupportedMediaType) << other;
  }
}

TEST(IdempotencyKey, IsAQuotedStringOrABareToken) {
  EXPECT_EQ(parse_idempotency_key("\"a b\\\"c\\\\\""), "a b\"c\\");
  EXPECT_EQ(parse_idempotency_key("8e03978e-40d5-43e8-bc93-6894a57f9324"), "8e03978e-40d5-43e8-bc93-6894a57f9324");
  for (const char* bad : {"", "\"\"", "\"open", "\"a\"b", "a b", "a\"b", "\"a\\x\"", "a,b", "\x80"}) {
    EXPECT_THROW(parse_idempotency_key(bad), Error) << bad;
  }
}

TEST(PublishBody, AKeyStandsForTheMissingId) {
  http::Request request = typed("application/cloudevents+json", R"({"specversion":"1.0","source":"/s","type":"t"})");
  EXPECT_EQ(decode_publish(request, PublishMode::structured, kLimits).bad.size(), 1U);
  request.headers.emplace_back("Idempotency-Key", "\"k1\"");
  const Decoded decoded = decode_publish(request, PublishMode::structured, kLimits);
  ASSERT_EQ(decoded.events.size(), 1U);
  EXPECT_EQ(decoded.events[0].id, "k1");
}

TEST(PublishBody, AKeyDoesNotOverruleAnIdNorNameABatch) {
  http::Request request = typed("", R"({"specversion":"1.0","id":"i","source":"/s","type":"t"})");
  request.headers.emplace_back("Idempotency-Key", "k1");
  EXPECT_THROW(decode_publish(request, PublishMode::structured, kLimits), Error);
  EXPECT_THROW(decode_publish(request, PublishMode::ndjson, kLimits), Error);
}

TEST(PublishBody, NamesEachBadEventByItsIndex) {
  const std::string good = R"({"specversion":"1.0","id":"1","source":"/s","type":"t"})";
  const std::string no_source = R"({"specversion":"1.0","id":"1","type":"t"})";
  const std::string large =
      R"({"specversion":"1.0","id":"1","source":"/s","type":"t","data":")" + std::string(101, 'x') + "\"}";
  for (const auto& [mode, body] : {std::pair{PublishMode::batch, "[" + good + "," + no_source + "," + large + "]"},
                                   std::pair{PublishMode::ndjson, good + "\n\n" + no_source + "\r\n" + large}}) {
    const Decoded decoded = decode_publish(typed("", body), mode, kLimits);
    ASSERT_EQ(decoded.bad.size(), 2U);
    EXPECT_EQ(decoded.bad[0].index, 1U);
    EXPECT_EQ(decoded.bad[0].object, "source");
    EXPECT_EQ(decoded.bad[1].index, 2U);
    EXPECT_EQ(decoded.bad[1].code, Errc::too_large);
  }
}

TEST(PublishBody, AnEmptyBatchIsLegal) {
  const Decoded decoded = decode_publish(typed("", "[]"), PublishMode::batch, kLimits);
  EXPECT_TRUE(decoded.events.empty());
  EXPECT_TRUE(decoded.bad.empty());
}

TEST(ServerSentEvents, AreBlocksThatEndWithABlankLine) {
  Event event;
  event.id = "1";
  event.source = "/s";
  event.type = "t";
  event.data = "a\nb";
  event.datacontenttype = "text/plain";
  const std::string text = sse_event(Position(7), event);
  EXPECT_TRUE(text.starts_with("id: 7\ndata: {"));
  EXPECT_TRUE(text.ends_with("}\n\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);  // data stays on one line whatever is in it
  EXPECT_EQ(sse_id(Position(7)), "id: 7\n\n");
  EXPECT_EQ(sse_gap(Position(3), Position(9)), "event: gap\ndata: {\"after\":\"3\",\"first\":\"9\"}\n\n");
}

}  // namespace
}  // namespace millrace::daemon
