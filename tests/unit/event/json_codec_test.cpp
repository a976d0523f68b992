// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/codec.hpp"
#include "millrace/error.hpp"
#include "random_event.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using testing_support::RandomEvents;

/// An event whose further members are these.
std::string with(std::string_view members) {
  return R"({"specversion":"1.0","id":"1","source":"/s","type":"t")" +
         (members.empty() ? "" : "," + std::string(members)) + "}";
}

struct Refusal {
  std::string object;
  std::string message;
};

Refusal refusal(std::string_view text) {
  try {
    decode_json(text);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_event);
    EXPECT_EQ(error.operation(), "decode event");
    return {error.object(), error.message()};
  }
}

TEST(DecodeJson, ReadsTheExampleOfTheSpecification) {
  const Event event = decode_json(R"({
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "C234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/json",
    "data" : {
        "appinfoA" : "abc",
        "appinfoB" : 123,
        "appinfoC" : true
    }
})");
  EXPECT_EQ(event.id, "C234-1234-1234");
  EXPECT_EQ(event.source, "/mycontext");
  EXPECT_EQ(event.type, "com.example.someevent");
  EXPECT_EQ(event.subject, "");
  EXPECT_EQ(event.time, "2018-04-05T17:31:00Z");
  EXPECT_EQ(event.datacontenttype, "application/json");
  ASSERT_EQ(event.extensions.size(), 2U);
  EXPECT_EQ(event.extensions[0], (Extension{"comexampleextension1", std::string("value")}));
  EXPECT_EQ(event.extensions[1], (Extension{"comexampleothervalue", 5}));
  ASSERT_TRUE(event.data);
  EXPECT_THAT(*event.data, StartsWith("{\n        \"appinfoA\" : \"abc\","));
  EXPECT_EQ(event.data->back(), '}');
}

TEST(DecodeJson, DataFollowsItsContentType) {
  struct Expected {
    std::string type;
    std::optional<std::string> data;
  };
  const struct {
    const char* members;
    Expected expected;
  } cases[] = {
      {"", {"", std::nullopt}},
      {R"("data":null)", {"", std::nullopt}},
      {R"("data_base64":null)", {"", std::nullopt}},
      {R"("data":null,"data_base64":"YQ==")", {"", "a"}},
      {R"("data":1,"data_base64":null)", {"application/json", "1"}},
      {R"("data":{})", {"application/json", "{}"}},
      {R"("data":"text")", {"application/json", "\"text\""}},
      {R"("data":"\u0041")", {"application/json", "\"\\u0041\""}},
      {R"("data":  [ 1 , 2 ]  )", {"application/json", "[ 1 , 2 ]"}},
      {R"("data":true )", {"application/json", "true"}},
      {R"("data":1e400)", {"application/json", "1e400"}},
      {R"("data":-0.10)", {"application/json", "-0.10"}},
      {R"("data":123456789012345678901234567890)", {"application/json", "123456789012345678901234567890"}},
      {R"("data":{"a":1,"a":2})", {"application/json", R"({"a":1,"a":2})"}},
      {R"("data":{"data":["}",{"data":"\\"}]})", {"application/json", R"({"data":["}",{"data":"\\"}]})"}},
      {R"("d\u0061ta":{"x":1})", {"application/json", R"({"x":1})"}},
      {R"("a":"{","b":"\"data\":9","data":7)", {"application/json", "7"}},
      {R"("data":7,"z":"last")", {"application/json", "7"}},
      {R"("datacontenttype":"application/json","data":"s")", {"application/json", "\"s\""}},
      {R"("data":"s","datacontenttype":"APPLICATION/JSON;charset=utf-8")", {"APPLICATION/JSON;charset=utf-8", "\"s\""}},
      {R"("datacontenttype":"text/json","data":"s")", {"text/json", "\"s\""}},
      {R"("datacontenttype":"application/vnd.a+JSON ; x=y","data":{"a":1})",
       {"application/vnd.a+JSON ; x=y", R"({"a":1})"}},
      {R"("datacontenttype":"text/plain","data":"a\n\u00e9\"\ud83d\ude00\u0000")",
       {"text/plain", std::string("a\n\xC3\xA9\"\xF0\x9F\x98\x80\0", 10)}},
      {R"("data":"<much/>","datacontenttype":"application/xml")", {"application/xml", "<much/>"}},
      {R"("datacontenttype":"text/plain","data":"")", {"text/plain", ""}},
      {R"("datacontenttype":"application/jsonx","data":"s")", {"application/jsonx", "s"}},
      {R"("datacontenttype":"application/xjson","data":"s")", {"application/xjson", "s"}},
      {R"("datacontenttype":"text/plain","data":null)", {"text/plain", std::nullopt}},
      {R"("data_base64":"")", {"", ""}},
      {R"("data_base64":"AP8=")", {"", std::string("\0\xFF", 2)}},
      {R"("data_base64":"AP\/\/","datacontenttype":"application/octet-stream")",
       {"application/octet-stream", std::string("\0\xFF\xFF", 3)}},
      {R"("data_base64":"e30=","datacontenttype":"application/json")", {"application/json", "{}"}},
  };
  for (const auto& c : cases) {
    const Event event = decode_json(with(c.members));
    EXPECT_EQ(event.datacontenttype, c.expected.type) << c.members;
    EXPECT_EQ(event.data, c.expected.data) << c.members;
    EXPECT_EQ(decode_json(encode_json(event)), event) << c.members;
  }
}

TEST(DecodeJson, NamesTheAttributeThatBreaksARule) {
  const struct {
    const char* members;
    const char* object;
    const char* message;
  } cases[] = {
      {R"("id":"2")", "id", "twice"},
      {R"("specversion":"1.0")", "specversion", "twice"},
      {R"("subject":null,"subject":"x")", "subject", "twice"},
      {R"("subject":"x","subject":null)", "subject", "twice"},
      {R"("ext":1,"ext":2)", "ext", "twice"},
      {R"("ext":null,"ext":2)", "ext", "twice"},
      {R"("ext":null,"e\u0078t":null)", "ext", "twice"},
      {R"("data":1,"data":1)", "data", "twice"},
      {R"("subject":"")", "subject", "empty"},
      {R"("time":"")", "time", "empty"},
      {R"("datacontenttype":"")", "datacontenttype", "empty"},
      {R"("dataschema":"")", "dataschema", "empty"},
      {R"("subject":1)", "subject", "a string"},
      {R"("subject":true)", "subject", "not a boolean"},
      {R"("subject":{})", "subject", "not an object"},
      {R"("subject":["a"])", "subject", "not an array"},
      {R"("time":1.5)", "time", "a string"},
      {R"("time":"today")", "time", "RFC 3339"},
      {R"("datacontenttype":"json")", "datacontenttype", "RFC 2046"},
      {R"("dataschema":"/relative")", "dataschema", "absolute URI"},
      {R"("ext":1.5)", "ext", "integer"},
      {R"("ext":1.0)", "ext", "integer"},
      {R"("ext":1e2)", "ext", "integer"},
      {R"("ext":2147483648)", "ext", "integer"},
      {R"("ext":-2147483649)", "ext", "integer"},
      {R"("ext":9223372036854775808)", "ext", "integer"},
      {R"("ext":99999999999999999999999)", "ext", "integer"},
      {R"("ext":{"a":1})", "ext", "not an object"},
      {R"("ext":[])", "ext", "not an array"},
      {R"("ext":"a\nb")", "ext", "control character U+000A"},
      {R"("ext":"\u007f")", "ext", "control character U+007F"},
      {R"("ext":"\u0085")", "ext", "control character U+0085"},
      {R"("ext":"\ufffe")", "ext", "noncharacter U+FFFE"},
      {R"("ext":"\udbff\udfff")", "ext", "noncharacter U+10FFFF"},
      {R"("Ext":1)", "Ext", "lower-case"},
      {R"("":1)", "", "lower-case"},
      {R"("a-b":1)", "a-b", "lower-case"},
      {R"("a_b":"x")", "a_b", "lower-case"},
      {R"("caf\u00e9":"x")", "caf\xC3\xA9", "lower-case"},
      {R"("data":1,"data_base64":"YQ==")", "data_base64", "beside data"},
      {R"("data_base64":"","data":"")", "data_base64", "beside data"},
      {R"("data_base64":1)", "data_base64", "a string"},
      {R"("data_base64":{})", "data_base64", "a string"},
      {R"("data_base64":"YQ")", "data_base64", "base64"},
      {R"("data_base64":"YQ=")", "data_base64", "base64"},
      {R"("data_base64":"Y===")", "data_base64", "base64"},
      {R"("data_base64":"====")", "data_base64", "base64"},
      {R"("data_base64":"YR==")", "data_base64", "base64"},
      {R"("data_base64":"YW==YQ==")", "data_base64", "base64"},
      {R"("data_base64":"YQ==\n")", "data_base64", "base64"},
      {R"("data_base64":"Y Q=")", "data_base64", "base64"},
      {R"("data_base64":"-_-_")", "data_base64", "base64"},
      {R"("datacontenttype":"text/plain","data":1)", "data", "JSON string"},
      {R"("data":{},"datacontenttype":"application/xml")", "data", "JSON string"},
      {R"("data":[],"datacontenttype":"text/plain")", "data", "JSON string"},
      {R"("data":true,"datacontenttype":"text/plain")", "data", "JSON string"},
  };
  for (const auto& c : cases) {
    const Refusal found = refusal(with(c.members));
    EXPECT_EQ(found.object, c.object) << c.members;
    EXPECT_THAT(found.message, HasSubstr(c.message)) << c.members;
  }
}

TEST(DecodeJson, NeedsTheRequiredAttributes) {
  const struct {
    const char* text;
    const char* object;
  } cases[] = {
      {R"({})", "specversion"},
      {R"({"id":"1","source":"/s","type":"t"})", "specversion"},
      {R"({"specversion":null,"id":"1","source":"/s","type":"t"})", "specversion"},
      {R"({"specversion":"0.3","id":"1","source":"/s","type":"t"})", "specversion"},
      {R"({"specversion":"1.0.2","id":"1","source":"/s","type":"t"})", "specversion"},
      {R"({"specversion":1.0,"id":"1","source":"/s","type":"t"})", "specversion"},
      {R"({"specversion":"1.0","source":"/s","type":"t"})", "id"},
      {R"({"specversion":"1.0","id":null,"source":"/s","type":"t"})", "id"},
      {R"({"specversion":"1.0","id":"","source":"/s","type":"t"})", "id"},
      {R"({"specversion":"1.0","id":5,"source":"/s","type":"t"})", "id"},
      {R"({"specversion":"1.0","id":"1","type":"t"})", "source"},
      {R"({"specversion":"1.0","id":"1","source":"a b","type":"t"})", "source"},
      {R"({"specversion":"1.0","id":"1","source":"/s"})", "type"},
      {R"({"specversion":"1.0","id":"1","source":"/s","type":""})", "type"},
      {R"([])", "json"},
      {R"("text")", "json"},
      {R"(1)", "json"},
      {R"(18446744073709551615)", "json"},
      {R"(1.5)", "json"},
      {R"(null)", "json"},
      {R"(true)", "json"},
      {R"([["a"],{"b":1},2,null,true])", "json"},
  };
  for (const auto& c : cases) EXPECT_EQ(refusal(c.text).object, c.object) << c.text;
}

TEST(DecodeJson, RefusesWhatIsNotJsonAndSaysWhere) {
  const std::string event = with("");
  const std::string cases[] = {"",
                               "   ",
                               "{",
                               event + "x",
                               event + event,
                               event + ",",
                               "\xEF\xBB\xBF" + event,
                               with(R"("a":01)"),
                               with(R"("a":.5)"),
                               with(R"("a":+1)"),
                               with(R"("a":0x1)"),
                               with(R"("a":NaN)"),
                               with(R"("a":Infinity)"),
                               with(R"("a":tru)"),
                               with(R"("a":'x')"),
                               with(R"(a:1)"),
                               with(R"("a" 1)"),
                               with(R"("a":1,)"),
                               with(R"("a":"\x41")"),
                               with(R"("a":"\u12")"),
                               with(R"("a":"\ud800")"),
                               with(R"("a":"\udc00")"),
                               with(R"("a":"\ud800\u0041")"),
                               with("\"a\":\"\n\""),
                               with("\"a\":\"\xFF\""),
                               with("\"a\":\"\xC0\xA0\""),
                               with("\"a\":\"\xED\xA0\x80\""),
                               with("\"data\":{\"a\":\"\xFF\"}"),
                               with(R"("data":{"a":[1,]})"),
                               with(R"("data":{"a":"\ud800"})"),
                               with(R"("a":1 /* no */)"),
                               with(R"("a":1 // no)"),
                               with(R"("data":[}])")};
  for (const std::string& text : cases) {
    const Refusal found = refusal(text);
    EXPECT_EQ(found.object, "json") << text;
    EXPECT_THAT(found.message, HasSubstr(" at byte ")) << text;
  }
  EXPECT_THAT(refusal(R"({"a" 1})").message, HasSubstr("at byte 5"));
  EXPECT_THAT(refusal("").message, HasSubstr("ends too early at byte 0"));
  EXPECT_THAT(refusal("{} x").message, HasSubstr("something follows the value at byte 3"));
}

TEST(DecodeJson, TakesWhiteSpaceAroundEverything) {
  EXPECT_EQ(decode_json(" \t\r\n{ \"specversion\"\n:\t\"1.0\" , \"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"} \n"),
            decode_json(with("")));
}

TEST(DecodeJson, NestsAsDeepAsTheLimitAndNoDeeper) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  const std::string deepest = with("\"data\":" + nested(kMaxJsonDepth - 1));
  const Event event = decode_json(deepest);
  EXPECT_EQ(event.data, nested(kMaxJsonDepth - 1));
  EXPECT_EQ(encode_json_batch(std::vector{event, event}),
            encode_json_batch(decode_json_batch("[" + deepest + "," + deepest + "]")));
  EXPECT_THAT(refusal(with("\"data\":" + nested(kMaxJsonDepth))).message, HasSubstr("256 levels"));
  EXPECT_EQ(refusal(std::string(1'000'000, '[')).object, "json");

  Event too_deep = event;
  too_deep.data = nested(kMaxJsonDepth);
  EXPECT_EQ(decode_json(encode_json(too_deep)), too_deep);  // goes as data_base64
}

TEST(DecodeJson, KeepsExtensionsAsTheyCame) {
  const Event event = decode_json(with(
      R"("zebra":"1","apple":1,"flag":true,"off":false,"low":-2147483648,"high":2147483647,"none":null,"empty":"")"));
  const std::vector<Extension> expected = {
      {"zebra", std::string("1")}, {"apple", 1},        {"flag", true},          {"off", false},
      {"low", INT32_MIN},          {"high", INT32_MAX}, {"empty", std::string()}};
  EXPECT_EQ(event.extensions, expected);
}

TEST(DecodeJson, SurvivesLongStringsAndKeys) {
  const std::string text(200'000, 'x');
  EXPECT_EQ(decode_json(with("\"subject\":\"" + text + "\"")).subject, text);
  const std::string name(10'000, 'n');
  EXPECT_EQ(decode_json(with("\"" + name + "\":1")).attribute(name), "1");
  std::string many;
  for (int i = 0; i < 20'000; ++i) many += (i == 0 ? "\"e" : ",\"e") + std::to_string(i) + "\":" + std::to_string(i);
  EXPECT_EQ(decode_json(with(many)).extensions.size(), 20'000U);
}

TEST(DecodeJsonLenient, LetsIdAndSourceBeAbsent) {
  const Event event = decode_json_lenient(R"({"specversion":"1.0","type":"t","id":null})");
  EXPECT_EQ(event.id, "");
  EXPECT_EQ(event.source, "");
  EXPECT_EQ(event.type, "t");
  EXPECT_THROW(decode_json_lenient(R"({"specversion":"1.0"})"), Error);
  EXPECT_THROW(decode_json_lenient(R"({"type":"t"})"), Error);
  EXPECT_THROW(decode_json_lenient(R"({"specversion":"1.0","type":"t","id":""})"), Error);
  EXPECT_THROW(decode_json_lenient(R"({"specversion":"1.0","type":"t","source":"a b"})"), Error);
}

TEST(EncodeJson, WritesOneLineInAFixedOrder) {
  Event event;
  event.id = "1";
  event.source = "/s";
  event.type = "t";
  event.subject = "a\"b\\c\u2028";
  event.time = "2018-04-05T17:31:00Z";
  event.datacontenttype = "application/json";
  event.dataschema = "urn:x:y";
  event.extensions = {{"flag", true}, {"n", -5}, {"word", std::string("w")}};
  event.data = "{\r\n  \"a b\" : [ 1, \"x\\n \\\" y\" ],\n  \"c\" : null\n}\n";
  EXPECT_EQ(encode_json(event),
            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"subject\":\"a\\\"b\\\\c\u2028\","
            "\"time\":\"2018-04-05T17:31:00Z\",\"datacontenttype\":\"application/json\",\"dataschema\":\"urn:x:y\","
            "\"flag\":true,\"n\":-5,\"word\":\"w\",\"data\":{\"a b\":[1,\"x\\n \\\" y\"],\"c\":null}}");
}

TEST(EncodeJson, ChoosesTheFormOfData) {
  const struct {
    const char* type;
    std::string data;
    const char* expected;
  } cases[] = {
      {"application/json", "{\"a\": 1}", R"("data":{"a": 1})"},
      {"application/json", " 1e400 ", R"("data":1e400)"},
      {"application/json", "\"s\"", R"("data":"s")"},
      {"application/x+json;a=b", "[]", R"("data":[])"},
      {"application/json", "null", R"("data_base64":"bnVsbA==")"},
      {"application/json", "{", R"("data_base64":"ew==")"},
      {"application/json", "", R"("data_base64":"")"},
      {"application/json", "1,\"id\":\"2\"", R"("data_base64":"MSwiaWQiOiIyIg==")"},
      {"application/json", "\"\xFF\"", R"("data_base64":"Iv8i")"},
      {"text/plain", "a\nb", R"("data":"a\nb")"},
      {"text/plain", "{}", R"("data":"{}")"},
      {"text/plain", "", R"("data":"")"},
      {"text/plain", "\xFF", R"("data_base64":"/w==")"},
      {"", "text", R"("data_base64":"dGV4dA==")"},
      {"", "{}", R"("data_base64":"e30=")"},
      {"", "", R"("data_base64":"")"},
  };
  for (const auto& c : cases) {
    Event event;
    event.id = "1";
    event.source = "/s";
    event.type = "t";
    event.datacontenttype = c.type;
    event.data = c.data;
    const std::string text = encode_json(event);
    EXPECT_THAT(text, testing::EndsWith(std::string(",") + c.expected + "}")) << c.data;
    EXPECT_EQ(decode_json(text).datacontenttype, c.type);
  }
}

TEST(EncodeJson, IsReadBackAsTheSameEvent) {
  RandomEvents random(20261120);
  for (int i = 0; i < 20'000; ++i) {
    const Event event = random.event(false);
    const std::string text = encode_json(event);
    ASSERT_EQ(text.find_first_of("\r\n"), std::string::npos);
    ASSERT_EQ(decode_json(text), event) << text;
    std::string appended = "before";
    encode_json_to(event, appended);
    ASSERT_EQ(appended, "before" + text);
  }
}

TEST(JsonBatch, IsReadBackAsTheSameEvents) {
  RandomEvents random(7);
  for (int i = 0; i < 200; ++i) {
    std::vector<Event> events;
    for (std::size_t n = random.below(20); n > 0; --n) events.push_back(random.event(false));
    const std::string text = encode_json_batch(events);
    ASSERT_EQ(decode_json_batch(text), events) << text;
    const auto parts = split_json_array(text);
    ASSERT_EQ(parts.size(), events.size());
    for (std::size_t k = 0; k < parts.size(); ++k) ASSERT_EQ(decode_json(parts[k]), events[k]);
  }
}

TEST(JsonBatch, MayBeEmpty) {
  EXPECT_EQ(encode_json_batch({}), "[]");
  EXPECT_TRUE(decode_json_batch("[]").empty());
  EXPECT_TRUE(decode_json_batch(" [ ] ").empty());
}

TEST(JsonBatch, NamesTheFirstBadEvent) {
  const std::string good = with("");
  try {
    decode_json_batch("[" + good + " , " + with(R"("time":"x")") + "," + with(R"("time":"y")") + "]");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_event);
    EXPECT_EQ(error.object(), "[1].time");
  }
  for (const std::string& text : {good, std::string("null"), std::string("["), "[" + good + ",]", "[" + good + "]]"}) {
    try {
      decode_json_batch(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.object(), "json") << text;
    }
  }
}

TEST(SplitJsonArray, CutsWithoutJudging) {
  const std::vector<std::string> expected = {"1", "\"a,]\\\"\"", "{\"b\" : [1, 2]}", "[ ]", "null", "-1.5e3", "{}"};
  EXPECT_EQ(split_json_array(" [1 ,\"a,]\\\"\"\n, {\"b\" : [1, 2]} ,[ ],null,-1.5e3\t,{} ] "), expected);
  EXPECT_THROW(split_json_array("{}"), Error);
  EXPECT_THROW(split_json_array("[1,,2]"), Error);
}

TEST(DecodeJson, AnswersRandomDamageWithAnEventOrAnError) {
  RandomEvents random(99);
  int decoded = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = encode_json(random.event(false));
    for (std::size_t n = 1 + random.below(3); n > 0; --n) {
      const std::size_t at = random.below(text.size());
      switch (random.below(4)) {
        case 0:
          text[at] = static_cast<char>(random.below(256));
          break;
        case 1:
          text.erase(at, 1 + random.below(5));
          break;
        case 2:
          text.insert(at, 1, "{}[]\",:\\0 "[random.below(10)]);
          break;
        default:
          text.resize(at + 1);
      }
      if (text.empty()) break;
    }
    try {
      const Event event = decode_json(text);
      ++decoded;
      validate(event);
      ASSERT_EQ(decode_json(encode_json(event)), event) << text;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Errc::invalid_event) << text;
    }
    try {
      (void)decode_json_batch(text);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Errc::invalid_event) << text;
    }
  }
  EXPECT_GT(decoded, 100);
}

TEST(DecodeJson, AnswersRandomBytesWithAnError) {
  RandomEvents random(100);
  for (int i = 0; i < 20'000; ++i) EXPECT_THROW(decode_json(random.bytes()), Error);
}

}  // namespace
}  // namespace millrace
