// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/codec.hpp"
#include "millrace/error.hpp"
#include "random_event.hpp"

namespace millrace {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing_support::RandomEvents;
using Headers = std::vector<HttpHeader>;

Headers with(const Headers& more) {
  Headers headers = {{"ce-specversion", "1.0"}, {"ce-id", "1"}, {"ce-source", "/s"}, {"ce-type", "t"}};
  headers.insert(headers.end(), more.begin(), more.end());
  return headers;
}

std::string refused(const Headers& headers, std::string_view body = {}) {
  try {
    decode_http_binary(headers, body);
    return "nothing";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_event);
    EXPECT_EQ(error.operation(), "decode event");
    return error.object();
  }
}

TEST(DecodeHttpBinary, ReadsTheExampleOfTheSpecification) {
  const Event event = decode_http_binary(Headers{{"Host", "webhook.example.com"},
                                                 {"ce-specversion", "1.0"},
                                                 {"CE-Type", "com.example.someevent"},
                                                 {"Ce-Time", "2018-04-05T03:56:24Z"},
                                                 {"ce-id", "1234-1234-1234"},
                                                 {"ce-source", "/mycontext/subcontext"},
                                                 {"ce-ComExampleExtension1", "value"},
                                                 {"CONTENT-TYPE", " application/json; charset=utf-8 "},
                                                 {"Content-Length", "7"}},
                                         "{\"a\":1}");
  EXPECT_EQ(event.id, "1234-1234-1234");
  EXPECT_EQ(event.source, "/mycontext/subcontext");
  EXPECT_EQ(event.type, "com.example.someevent");
  EXPECT_EQ(event.time, "2018-04-05T03:56:24Z");
  EXPECT_EQ(event.datacontenttype, "application/json; charset=utf-8");
  EXPECT_EQ(event.extensions, (std::vector<Extension>{{"comexampleextension1", std::string("value")}}));
  EXPECT_EQ(event.data, "{\"a\":1}");
}

TEST(DecodeHttpBinary, UnquotesOnceThenDecodesPercentOnce) {
  const struct {
    const char* value;
    const char* expected;
  } cases[] = {
      {"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \xE2\x82\xAC \xF0\x9F\x98\x80"},
      {"%e2%82%ac", "\xE2\x82\xAC"},
      {"%41%62c", "Abc"},
      {"%2541", "%41"},
      {"%25", "%"},
      {"a+b", "a+b"},
      {"  trimmed\t", "trimmed"},
      {"two words", "two words"},
      {"\"quoted words\"", "quoted words"},
      {"\"a \\\"b\\\" \\\\ c\"", "a \"b\" \\ c"},
      {"\"%20\"", " "},
      {"\"\\%41\"", "A"},
      {"%22a%22", "\"a\""},
      {"a\"b", "a\"b"},
      {"a\\b", "a\\b"},
      {"\xE2\x82\xAC", "\xE2\x82\xAC"},
      {"%20", " "},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(decode_http_binary(with({{"ce-subject", c.value}}), "").subject, c.expected) << c.value;
  }
}

TEST(DecodeHttpBinary, NamesTheAttributeThatBreaksARule) {
  const struct {
    Headers more;
    const char* object;
  } cases[] = {
      {{{"ce-subject", "%C0%A0"}}, "subject"},
      {{{"ce-subject", "%ED%A0%80"}}, "subject"},
      {{{"ce-subject", "%E2%82"}}, "subject"},
      {{{"ce-subject", "\xFF"}}, "subject"},
      {{{"ce-subject", "100%"}}, "subject"},
      {{{"ce-subject", "%4"}}, "subject"},
      {{{"ce-subject", "%zz"}}, "subject"},
      {{{"ce-subject", "%0A"}}, "subject"},
      {{{"ce-subject", "%00"}}, "subject"},
      {{{"ce-subject", ""}}, "subject"},
      {{{"ce-subject", "\""}}, "subject"},
      {{{"ce-subject", "\"open"}}, "subject"},
      {{{"ce-subject", "\"open\\\""}}, "subject"},
      {{{"ce-subject", "\"a\" b"}}, "subject"},
      {{{"ce-id", "2"}}, "id"},
      {{{"CE-ID", "1"}}, "id"},
      {{{"ce-specversion", "1.0"}}, "specversion"},
      {{{"ce-word", "a"}, {"Ce-Word", "b"}}, "word"},
      {{{"Content-Type", "a/b"}, {"content-type", "a/b"}}, "datacontenttype"},
      {{{"Content-Type", "json"}}, "datacontenttype"},
      {{{"Content-Type", ""}}, "datacontenttype"},
      {{{"ce-datacontenttype", "a/b"}}, "datacontenttype"},
      {{{"Content-Type", "a/b"}, {"CE-DataContentType", "a/b"}}, "datacontenttype"},
      {{{"ce-data", "x"}}, "data"},
      {{{"ce-data_base64", "x"}}, "data_base64"},
      {{{"ce-a-b", "x"}}, "a-b"},
      {{{"ce-", "x"}}, ""},
      {{{"ce-time", "now"}}, "time"},
      {{{"ce-dataschema", "x"}}, "dataschema"},
  };
  for (const auto& c : cases) EXPECT_EQ(refused(with(c.more)), c.object) << c.more[0].first << ": " << c.more[0].second;
}

TEST(DecodeHttpBinary, NeedsTheRequiredAttributes) {
  const Headers all = with({});
  const char* const names[] = {"specversion", "id", "source", "type"};
  for (std::size_t i = 0; i < all.size(); ++i) {
    Headers headers = all;
    headers.erase(headers.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_EQ(refused(headers), names[i]);
  }
  Headers old = all;
  old[0].second = "0.3";
  EXPECT_EQ(refused(old), "specversion");
  EXPECT_EQ(refused({}), "specversion");
}

TEST(DecodeHttpBinary, LetsTheIdBeAbsentWhenAsked) {
  Headers headers = with({});
  headers.erase(headers.begin() + 1);
  EXPECT_EQ(decode_http_binary(headers, "", false).id, "");
  headers.pop_back();
  EXPECT_THROW(decode_http_binary(headers, "", false), Error);
}

TEST(DecodeHttpBinary, TellsNoDataFromEmptyData) {
  EXPECT_EQ(decode_http_binary(with({}), "").data, std::nullopt);
  EXPECT_EQ(decode_http_binary(with({{"Content-Type", "text/plain"}}), "").data, "");
  const Event untyped = decode_http_binary(with({}), std::string_view("\0\xFF", 2));
  EXPECT_EQ(untyped.data, std::string("\0\xFF", 2));
  EXPECT_EQ(untyped.datacontenttype, "");
}

TEST(DecodeHttpBinary, LeavesTheBodyAlone) {
  const std::string body = " {\r\n not json";
  EXPECT_EQ(decode_http_binary(with({{"Content-Type", "application/json"}}), body).data, body);
}

TEST(EncodeHttpBinary, EncodesWhatHeadersCannotCarry) {
  Event event;
  event.id = "1";
  event.source = "/s?a=b#c";
  event.type = "Euro \xE2\x82\xAC \xF0\x9F\x98\x80";
  event.subject = "\"50%\"~!";
  event.datacontenttype = "text/plain; charset=\"utf-8\"";
  event.extensions = {{"flag", true}, {"n", -1}, {"none", std::string()}};
  event.data = std::string("\0x", 2);
  const HttpMessage message = encode_http_binary(event);
  const Headers expected = {{"ce-specversion", "1.0"},
                            {"ce-id", "1"},
                            {"ce-source", "/s?a=b#c"},
                            {"ce-type", "Euro%20%E2%82%AC%20%F0%9F%98%80"},
                            {"ce-subject", "%2250%25%22~!"},
                            {"ce-flag", "true"},
                            {"ce-n", "-1"},
                            {"ce-none", ""},
                            {"Content-Type", "text/plain; charset=\"utf-8\""}};
  EXPECT_EQ(message.headers, expected);
  EXPECT_EQ(message.body, *event.data);
}

TEST(EncodeHttpBinary, WritesNoContentTypeThatIsNotThere) {
  const Event event = decode_http_binary(with({}), "bytes");
  const HttpMessage message = encode_http_binary(event);
  EXPECT_THAT(message.headers, Not(Contains(Pair("Content-Type", testing::_))));
  EXPECT_EQ(message.body, "bytes");
}

TEST(EncodeHttpBinary, IsReadBackAsTheSameEvent) {
  RandomEvents random(42);
  for (int i = 0; i < 20'000; ++i) {
    const Event event = random.event(true);
    const HttpMessage message = encode_http_binary(event);
    for (const auto& [name, value] : message.headers) {
      for (const char c : value) ASSERT_TRUE(c >= 0x20 && c < 0x7F) << name << ": " << value;
    }
    ASSERT_EQ(decode_http_binary(message.headers, message.body), event);
  }
}

TEST(DecodeHttpBinary, AnswersRandomHeadersWithAnEventOrAnError) {
  RandomEvents random(43);
  for (int i = 0; i < 20'000; ++i) {
    HttpMessage message = encode_http_binary(random.event(true));
    auto& [name, value] = message.headers[random.below(message.headers.size())];
    std::string& target = random.chance(30) ? name : value;
    if (random.chance(50) || target.empty()) {
      target = random.chance(50) ? random.bytes() : "ce-" + random.text();
    } else {
      target[random.below(target.size())] = static_cast<char>(random.below(256));
    }
    try {
      validate(decode_http_binary(message.headers, message.body));
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Errc::invalid_event);
    }
  }
}

}  // namespace
}  // namespace millrace
