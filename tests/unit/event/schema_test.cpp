// SPDX-License-Identifier: Apache-2.0
#include "millrace/schema.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "millrace/codec.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;
using Need = SchemaRegistry::Need;

Event event_of(std::string type, std::string data, std::optional<std::int32_t> version = {}) {
  Event event;
  event.id = "1";
  event.source = "/test";
  event.type = std::move(type);
  event.datacontenttype = "application/json";
  event.data = std::move(data);
  if (version) event.set_extension("dataversion", *version);
  return event;
}

std::string failure(const SchemaRegistry& schemas, const Event& event, std::optional<std::int32_t> max = {}) {
  try {
    return "made " + encode_json(schemas.upcast(event, max));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::upcast_failed);
    EXPECT_EQ(error.object(), event.type);
    return error.message();
  }
}

/// The guide's two examples.
SchemaRegistry guide() {
  SchemaRegistry schemas;
  schemas.add({"asset.discovered", 2, "Added tags field"})
      .upcast("asset.discovered", 1, {SchemaChange::rename("/path", "file_path"), SchemaChange::add("/tags", "[]")});
  schemas.add({"quality.assessed", 2, "Added provider tracking"})
      .upcast("quality.assessed", 1,
              {SchemaChange::add("/provider", "\"brisque\""), SchemaChange::add("/confidence", "0.8")});
  return schemas;
}

TEST(Schema, TheGuidesExamplesAreBroughtUpToDate) {
  const auto schemas = guide();
  EXPECT_EQ(schemas.upcast(event_of("asset.discovered", R"({"asset_id":"a","path":"/x.jpg"})")),
            event_of("asset.discovered", R"({"asset_id":"a","file_path":"/x.jpg","tags":[]})", 2));
  EXPECT_EQ(schemas.upcast(event_of("quality.assessed", R"({"score":71.50})")),
            event_of("quality.assessed", R"({"score":71.50,"provider":"brisque","confidence":0.8})", 2));
}

TEST(Schema, WhatIsCurrentOrUnknownStaysAsItIs) {
  const auto schemas = guide();
  const Event current = event_of("asset.discovered", "{ \"path\" : 1 }", 2);
  EXPECT_EQ(schemas.upcast(current), current);
  EXPECT_EQ(schemas.need(current), Need::nothing);
  const Event unknown = event_of("order.placed", "{}", 7);
  EXPECT_EQ(schemas.upcast(unknown), unknown);
  Event odd = event_of("order.placed", "{}");
  odd.set_extension("dataversion", std::string("old"));
  EXPECT_EQ(schemas.upcast(odd), odd);
  EXPECT_EQ(schemas.need(odd), Need::nothing);
}

TEST(Schema, StepsRunOneAfterTheOtherDeclaredOrInCode) {
  SchemaRegistry schemas;
  std::string seen;
  schemas.upcast("t", 1, {SchemaChange::rename("/a", "b")});
  schemas.upcast("t", 2, [&seen](Event& event) {
    seen += std::to_string(data_version(event));
    event.subject = "s";
    event.data = "[" + *event.data + "]";
  });
  schemas.upcast("t", 3, std::vector<SchemaChange>{});
  Event expected = event_of("t", R"([{"b":1}])", 4);
  expected.subject = "s";
  EXPECT_EQ(schemas.upcast(event_of("t", R"({"a":1})")), expected);
  EXPECT_EQ(seen, "2");
  Event from_http = event_of("t", R"({"b":1})");
  from_http.set_extension("dataversion", std::string("2"));
  EXPECT_EQ(schemas.upcast(from_http), expected);
}

TEST(Schema, AMissingStepSaysWhichOne) {
  SchemaRegistry schemas;
  schemas.add({"t", 3}).upcast("t", 1, std::vector<SchemaChange>{});
  EXPECT_THAT(failure(schemas, event_of("t", "{}")), HasSubstr("no step from version 2 to 3"));
  EXPECT_EQ(schemas.need(event_of("t", "{}")), Need::steps);
}

TEST(Schema, ThereIsNoWayBack) {
  const auto schemas = guide();
  EXPECT_THAT(failure(schemas, event_of("asset.discovered", "{}", 3)),
              HasSubstr("the event has version 3, newer than the newest that is known and not deprecated = 2"));
  EXPECT_THAT(failure(schemas, event_of("asset.discovered", "{}", 2), 1),
              HasSubstr("the event has version 2, newer than max_dataversion = 1"));
  EXPECT_THAT(failure(schemas, event_of("unknown", "{}", 2), 1), HasSubstr("newer than max_dataversion = 1"));
  EXPECT_THAT(failure({}, event_of("unknown", "{}", 2), 1), HasSubstr("newer than max_dataversion = 1"));
}

TEST(Schema, APinEndsTheWayEarly) {
  SchemaRegistry schemas;
  schemas.upcast("t", 1, {SchemaChange::add("/b", "1")}).upcast("t", 2, {SchemaChange::add("/c", "1")});
  EXPECT_EQ(schemas.upcast(event_of("t", "{}"), 2), event_of("t", R"({"b":1})", 2));
  EXPECT_EQ(schemas.upcast(event_of("t", "{}"), 1), event_of("t", "{}"));
  EXPECT_EQ(schemas.upcast(event_of("t", "{}"), 9), event_of("t", R"({"b":1,"c":1})", 3));
  EXPECT_EQ(schemas.upcast(event_of("unknown", "{}"), 1), event_of("unknown", "{}"));
}

TEST(Schema, ADeprecatedVersionIsReadButNotGiven) {
  SchemaRegistry schemas;
  schemas.add({"t", 1, "", true}).add({"t", 2}).add({"t", 3, "a mistake", true});
  EXPECT_EQ(schemas.current("t"), 2);
  schemas.upcast("t", 1, std::vector<SchemaChange>{}).upcast("t", 2, std::vector<SchemaChange>{});
  EXPECT_EQ(data_version(schemas.upcast(event_of("t", "{}"))), 2);
  EXPECT_EQ(schemas.current("u"), std::nullopt);
  schemas.add({"u", 1, "", true});
  EXPECT_EQ(schemas.current("u"), 1);
}

TEST(Schema, AThrowingUpcasterKeepsItsText) {
  SchemaRegistry schemas;
  schemas.upcast("t", 1, [](Event&) { throw std::runtime_error("no width"); });
  schemas.upcast("u", 1, [](Event&) { throw 5; });
  EXPECT_EQ(failure(schemas, event_of("t", "{}")), "the step from version 1 to 2 failed: no width");
  EXPECT_THAT(failure(schemas, event_of("u", "{}")), HasSubstr("no std::exception"));
}

TEST(Schema, AnUpcasterMustNotChangeWhichEventItIs) {
  const auto with = [](const Upcaster& upcaster) {
    SchemaRegistry schemas;
    schemas.upcast("t", 1, upcaster);
    return failure(schemas, event_of("t", "{}"));
  };
  EXPECT_THAT(with([](Event& e) { e.id = "2"; }), HasSubstr("changed the event's id"));
  EXPECT_THAT(with([](Event& e) { e.source = "/2"; }), HasSubstr("changed the event's source"));
  EXPECT_THAT(with([](Event& e) { e.type = "u"; }), HasSubstr("changed the event's type"));
  EXPECT_THAT(with([](Event& e) { e.time = "noon"; }), HasSubstr("time: must be a date-time"));
  EXPECT_THAT(with([](Event& e) { e.set_extension("dataversion", 9); }), HasSubstr("\"dataversion\":2"));
}

TEST(Schema, DeclaredChangesNeedJson) {
  const auto schemas = guide();
  Event event = event_of("asset.discovered", "{}");
  event.data.reset();
  EXPECT_EQ(failure(schemas, event), "the step from version 1 to 2 failed: it has no data");
  event.data = "<a/>";
  event.datacontenttype = "text/xml";
  EXPECT_THAT(failure(schemas, event), HasSubstr("its data is text/xml"));
  event.datacontenttype = "application/json";
  EXPECT_THAT(failure(schemas, event), HasSubstr("its data is not JSON"));
}

TEST(Schema, AnErasedEventOnlyGetsItsVersion) {
  auto schemas = guide();
  schemas.upcast("asset.discovered", 2, [](Event& event) { event.data = event.data.value() + "!"; });
  Event event = event_of("asset.discovered", "");
  event.data.reset();
  event.set_extension(kErasedTime, std::string("2026-11-21T12:00:00Z"));
  Event expected = event;
  expected.set_extension("dataversion", 3);
  EXPECT_EQ(schemas.upcast(event), expected);
}

TEST(Schema, AStepThatOnlyAProgramHasIsToldApart) {
  SchemaRegistry schemas;
  schemas.upcast("t", 1, std::vector<SchemaChange>{}).upcast_in_program("t", 2);
  EXPECT_EQ(schemas.need(event_of("t", "{}")), Need::program);
  EXPECT_EQ(schemas.need(event_of("t", "{}"), 2), Need::steps);
  EXPECT_EQ(schemas.need(event_of("t", "{}", 3)), Need::nothing);
  EXPECT_THAT(failure(schemas, event_of("t", "{}")),
              HasSubstr("the step from version 2 to 3 is known to a C++ program"));
}

TEST(Schema, ADataversionThatIsNoneFails) {
  const auto schemas = guide();
  Event event = event_of("asset.discovered", "{}");
  event.set_extension("dataversion", std::string("two"));
  EXPECT_EQ(failure(schemas, event), "dataversion must be an integer of at least 1");
}

TEST(Schema, RegistrationsThatContradictAreRefused) {
  SchemaRegistry schemas;
  schemas.add({"t", 2});
  EXPECT_THROW(schemas.add({"t", 2}), Error);
  EXPECT_THROW(schemas.add({"t", 0}), Error);
  EXPECT_THROW(schemas.add({"", 1}), Error);
  schemas.upcast("t", 1, std::vector<SchemaChange>{});
  EXPECT_THROW(schemas.upcast_in_program("t", 1), Error);
  EXPECT_THROW(schemas.upcast("t", 2, Upcaster{}), Error);
  EXPECT_THROW(schemas.upcast("t", 2, {SchemaChange::remove("a")}), Error);
  EXPECT_EQ(schemas.current("t"), 2);
}

TEST(Schema, ListsWhatItKnows) {
  SchemaRegistry schemas = guide();
  schemas.upcast_in_program("asset.discovered", 2);
  const auto versions = schemas.versions();
  ASSERT_EQ(versions.size(), 5U);
  EXPECT_EQ(versions[0].schema.version, 1);
  EXPECT_EQ(versions[0].step, SchemaRegistry::StepKind::none);
  EXPECT_EQ(versions[1].schema.description, "Added tags field");
  EXPECT_EQ(versions[1].step, SchemaRegistry::StepKind::declared);
  EXPECT_EQ(versions[1].changes.size(), 2U);
  EXPECT_FALSE(versions[1].current);
  EXPECT_EQ(versions[2].step, SchemaRegistry::StepKind::program);
  EXPECT_TRUE(versions[2].current);
}

TEST(SchemaAudit, CountsWhatWouldFailAndWhatItCannotTry) {
  SchemaRegistry schemas = guide();
  schemas.upcast_in_program("t", 1);
  SchemaAudit audit(schemas);
  EXPECT_FALSE(audit.look(Position{1}, event_of("asset.discovered", "{}")));
  EXPECT_FALSE(audit.look(Position{2}, event_of("asset.discovered", "{}", 2)));
  EXPECT_FALSE(audit.look(Position{3}, event_of("t", "{}")));
  const auto failure = audit.look(Position{4}, event_of("asset.discovered", "[]"));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->position, Position{4});
  EXPECT_EQ(failure->version, 1);
  EXPECT_THAT(failure->reason, HasSubstr("not an object"));
  EXPECT_EQ(audit.counts().events, 4U);
  EXPECT_EQ(audit.counts().upcast, 1U);
  EXPECT_EQ(audit.counts().failed, 1U);
  EXPECT_EQ(audit.counts().in_program, 1U);
}

}  // namespace
}  // namespace millrace
