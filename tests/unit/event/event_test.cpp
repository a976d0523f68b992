// SPDX-License-Identifier: Apache-2.0
#include "millrace/event.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;

Event minimal() {
  Event event;
  event.id = "1";
  event.source = "/s";
  event.type = "t";
  return event;
}

/// The attribute that validate refuses, or "".
std::string refused(const Event& event) {
  try {
    validate(event);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_event);
    EXPECT_FALSE(error.message().empty());
    return error.object();
  }
}

TEST(Event, AttributesAreReachedByName) {
  Event event = minimal();
  event.set_extension("flag", true);
  event.set_extension("count", -7);
  event.set_extension("word", std::string("w"));
  event.set_extension("count", 8);
  EXPECT_EQ(event.extensions.size(), 3U);
  EXPECT_EQ(event.attribute("id"), "1");
  EXPECT_EQ(event.attribute("source"), "/s");
  EXPECT_EQ(event.attribute("type"), "t");
  EXPECT_EQ(event.attribute("specversion"), "1.0");
  EXPECT_EQ(event.attribute("subject"), std::nullopt);
  EXPECT_EQ(event.attribute("flag"), "true");
  EXPECT_EQ(event.attribute("count"), "8");
  EXPECT_EQ(event.attribute("word"), "w");
  EXPECT_EQ(event.attribute("nothing"), std::nullopt);
  EXPECT_EQ(event.extension("nothing"), nullptr);
  ASSERT_NE(event.extension("flag"), nullptr);
  EXPECT_EQ(to_string(AttributeValue(false)), "false");
  EXPECT_EQ(to_string(AttributeValue(INT32_MIN)), "-2147483648");
}

TEST(Validate, NamesTheAttributeThatBreaksARule) {
  const struct {
    std::string expected;
    void (*spoil)(Event&);
  } cases[] = {
      {"", [](Event&) {}},
      {"id", [](Event& e) { e.id = ""; }},
      {"source", [](Event& e) { e.source = ""; }},
      {"type", [](Event& e) { e.type = ""; }},
      {"id", [](Event& e) { e.id = "a\nb"; }},
      {"id", [](Event& e) { e.id = std::string("\0", 1); }},
      {"id", [](Event& e) { e.id = "\x7F"; }},
      {"id", [](Event& e) { e.id = "\xC2\x80"; }},
      {"id", [](Event& e) { e.id = "\xC2\x9F"; }},
      {"", [](Event& e) { e.id = "\xC2\xA0"; }},
      {"id", [](Event& e) { e.id = "\xEF\xBF\xBE"; }},      // U+FFFE
      {"id", [](Event& e) { e.id = "\xEF\xB7\x90"; }},      // U+FDD0
      {"id", [](Event& e) { e.id = "\xF4\x8F\xBF\xBF"; }},  // U+10FFFF
      {"", [](Event& e) { e.id = "\xEF\xBF\xBD"; }},        // U+FFFD
      {"id", [](Event& e) { e.id = "\xED\xA0\x80"; }},      // a surrogate
      {"id", [](Event& e) { e.id = "\xC0\xA0"; }},          // overlong
      {"type", [](Event& e) { e.type = "\x01"; }},
      {"source", [](Event& e) { e.source = "has space"; }},
      {"source", [](Event& e) { e.source = "/%zz"; }},
      {"source", [](Event& e) { e.source = "/\xC3\xA9"; }},
      {"", [](Event& e) { e.source = "https://github.com/cloudevents"; }},
      {"", [](Event& e) { e.source = "mailto:cncf-wg-serverless@lists.cncf.io"; }},
      {"", [](Event& e) { e.source = "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"; }},
      {"", [](Event& e) { e.source = "/sensors/tn-1234567/alerts"; }},
      {"", [](Event& e) { e.source = "1-555-123-4567"; }},
      {"subject", [](Event& e) { e.subject = "\r"; }},
      {"", [](Event& e) { e.subject = "any thing \xF0\x9F\x98\x80"; }},
      {"time", [](Event& e) { e.time = "yesterday"; }},
      {"time", [](Event& e) { e.time = "2018-04-05"; }},
      {"", [](Event& e) { e.time = "2018-04-05T17:31:00+02:00"; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "json"; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "text/"; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "/json"; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "a/b c"; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "a/b; c"; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "a/b; c="; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "a/b; c=\"d"; }},
      {"datacontenttype", [](Event& e) { e.datacontenttype = "a/b, c/d"; }},
      {"", [](Event& e) { e.datacontenttype = "a/b; c=\"d; \\\" e\" ;f=g"; }},
      {"", [](Event& e) { e.datacontenttype = "application/vnd.x+json;charset=utf-8"; }},
      {"dataschema", [](Event& e) { e.dataschema = "/relative"; }},
      {"dataschema", [](Event& e) { e.dataschema = "schema.json"; }},
      {"", [](Event& e) { e.dataschema = "https://h.example/s.json#/definitions/a"; }},
      {"", [](Event& e) { e.dataschema = "urn:x:y"; }},
      {"Bad", [](Event& e) { e.set_extension("Bad", true); }},
      {"", [](Event& e) { e.set_extension("averylongextensionnamethatisonlyadvisedagainst", true); }},
      {"", [](Event& e) { e.set_extension("0", true); }},
      {"a_b", [](Event& e) { e.set_extension("a_b", true); }},
      {"data", [](Event& e) { e.set_extension("data", true); }},
      {"id", [](Event& e) { e.set_extension("id", true); }},
      {"specversion", [](Event& e) { e.set_extension("specversion", std::string("1.0")); }},
      {"word", [](Event& e) { e.set_extension("word", std::string("a\tb")); }},
      {"", [](Event& e) { e.set_extension("word", std::string()); }},
      {"twice",
       [](Event& e) {
         e.extensions = {{"twice", true}, {"other", 1}, {"twice", true}};
       }},
      {"", [](Event& e) { e.data = std::string("\0\xFF", 2); }},
  };
  for (const auto& c : cases) {
    Event event = minimal();
    c.spoil(event);
    EXPECT_EQ(refused(event), c.expected) << "case " << &c - cases;
  }
  Event nameless = minimal();
  nameless.extensions.push_back({"", true});
  EXPECT_THROW(validate(nameless), Error);
}

TEST(DataVersion, IsOneUnlessSaid) {
  Event event = minimal();
  EXPECT_EQ(data_version(event), 1);
  event.set_extension("dataversion", 3);
  EXPECT_EQ(data_version(event), 3);
  event.set_extension("dataversion", std::string("12"));
  EXPECT_EQ(data_version(event), 12);
  for (const AttributeValue& bad : {AttributeValue(0), AttributeValue(-1), AttributeValue(true),
                                    AttributeValue(std::string("")), AttributeValue(std::string("x")),
                                    AttributeValue(std::string("1.5")), AttributeValue(std::string("2147483648"))}) {
    event.set_extension("dataversion", bad);
    EXPECT_THROW(data_version(event), Error) << to_string(bad);
  }
}

TEST(EventBuilder, FillsInIdAndTime) {
  const auto before = wall_now();
  const EventBuilder builder = EventBuilder("order.placed", "/shop").subject("order-42").json(R"({"total":12})");
  const Event event = builder.build();
  EXPECT_EQ(event.id.size(), 36U);
  EXPECT_EQ(event.id[14], '7');
  EXPECT_EQ(event.time.size(), std::string("2026-11-20T21:33:59.123456789Z").size());
  EXPECT_GE(parse_rfc3339(event.time).value(), before);
  EXPECT_EQ(event.type, "order.placed");
  EXPECT_EQ(event.source, "/shop");
  EXPECT_EQ(event.subject, "order-42");
  EXPECT_EQ(event.datacontenttype, "application/json");
  EXPECT_EQ(event.data, R"({"total":12})");
  EXPECT_NE(builder.build().id, event.id);
}

TEST(EventBuilder, TakesEverythingGiven) {
  const Event event = EventBuilder("t", "/s")
                          .id("7")
                          .time("2018-04-05T17:31:00Z")
                          .dataschema("urn:x:y")
                          .extension("n", 5)
                          .partition_key("k")
                          .text("hello")
                          .build();
  EXPECT_EQ(event.id, "7");
  EXPECT_EQ(event.time, "2018-04-05T17:31:00Z");
  EXPECT_EQ(event.dataschema, "urn:x:y");
  EXPECT_EQ(event.attribute("n"), "5");
  EXPECT_EQ(event.attribute("partitionkey"), "k");
  EXPECT_EQ(event.datacontenttype, "text/plain; charset=utf-8");
  EXPECT_EQ(event.data, "hello");
}

TEST(EventBuilder, RefusesWhatBreaksARule) {
  EXPECT_THROW((void)EventBuilder("", "/s").build(), Error);
  try {
    (void)EventBuilder("t", "not a uri").build();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.object(), "source");
    EXPECT_THAT(error.what(), HasSubstr("build event source: must be a URI-reference"));
  }
}

}  // namespace
}  // namespace millrace
