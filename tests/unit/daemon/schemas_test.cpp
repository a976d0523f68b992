// SPDX-License-Identifier: Apache-2.0
#include "daemon/schemas.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>

#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Config::Schema step(std::string type, std::int32_t version, std::vector<SchemaChange> changes) {
  return {{std::move(type), version, {}, false}, SchemaRegistry::StepKind::declared, std::move(changes)};
}

class SchemasTest : public testing::Test {
 protected:
  std::unique_ptr<Store> store_ = open_store("memory:");
  std::vector<Config::Schema> declared_{
      step("asset.discovered", 2, {SchemaChange::rename("/path", "file_path"), SchemaChange::add("/tags", "[]")})};
  int published_ = 0;

  void publish(const std::string& type, const std::string& json, const std::string& subject = {}) {
    const Event event =
        EventBuilder(type, "/test").id(std::to_string(++published_)).subject(subject).json(json).build();
    store_->log().append(kDefaultStream, std::span(&event, 1));
  }
  void make_group(std::optional<std::int32_t> pin = {}) {
    GroupSpec spec{kDefaultStream, Start::beginning(), {}, {}, GroupSettings{}};
    spec.settings->max_dataversion = pin;
    spec.settings->retry.max_attempts = 1;
    store_->ledger().ensure_group("g", spec);
  }
  std::vector<std::string> claim(const Schemas& schemas) {
    ClaimRequest request;
    request.consumer = "c";
    std::vector<std::string> out;
    for (const Delivery& delivery : schemas.claim("g", request).deliveries) {
      out.push_back(delivery.event.id + ' ' + delivery.event.data.value_or("-"));
    }
    return out;
  }
};

TEST_F(SchemasTest, AClaimHandsOutTheCurrentShape) {
  publish("asset.discovered", R"({"path":"/x"})");
  publish("other", "{}");
  make_group();
  const Schemas schemas(*store_, declared_);
  EXPECT_THAT(claim(schemas), ElementsAre(R"(1 {"file_path":"/x","tags":[]})", "2 {}"));
}

TEST_F(SchemasTest, WhatCannotBeUpcastIsSettledAsAFailureAndTheRestGoesOn) {
  publish("asset.discovered", R"({"path":"/a"})");
  publish("asset.discovered", "[]", "key");
  publish("asset.discovered", R"({"path":"/b"})", "key");
  make_group();
  const Schemas schemas(*store_, declared_);
  EXPECT_THAT(claim(schemas), ElementsAre(R"(1 {"file_path":"/a","tags":[]})", R"(3 {"file_path":"/b","tags":[]})"));
  const auto dead = store_->ledger().dead_letters("g", {});
  ASSERT_EQ(dead.size(), 1U);
  EXPECT_EQ(dead[0].event.id, "2");
  EXPECT_THAT(dead[0].reason, HasSubstr("the step from version 1 to 2 failed"));
  EXPECT_EQ(store_->ledger().group("g").failures, 1U);
}

TEST_F(SchemasTest, AStepThatOnlyAProgramHasRefusesTheClaimAndReleasesAll) {
  store_->kv().set("millrace/schema/other/1", "with a number");
  publish("asset.discovered", "[]");
  publish("other", "{}");
  make_group();
  Schemas schemas(*store_, declared_);
  try {
    claim(schemas);
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::upcast_failed);
    EXPECT_EQ(error.object(), "other");
    EXPECT_THAT(error.message(), HasSubstr("position 2: the step from version 1 to 2 is known to a C++ program only"));
    EXPECT_THAT(error.message(), HasSubstr("declare it as [[schema]]"));
  }
  const GroupInfo group = store_->ledger().group("g");
  EXPECT_EQ(group.lag.in_flight, 0U);
  EXPECT_EQ(group.failures + group.crashes + group.dead, 0U);
  EXPECT_THAT(store_->ledger().pending("g", {}, 10), testing::Each(testing::Field(&PendingEvent::attempt, 0U)));

  declared_.push_back(step("other", 2, {SchemaChange::add("/n", "1")}));
  EXPECT_THAT(claim(Schemas(*store_, declared_)), ElementsAre(R"(2 {"n":1})")) << "a declared step holds";
}

TEST_F(SchemasTest, APinnedGroupIsServedTheOldShape) {
  store_->kv().set("millrace/schema/other/1", "");
  publish("asset.discovered", R"({"path":"/a"})");
  publish("other", "{}");
  make_group(1);
  EXPECT_THAT(claim(Schemas(*store_, declared_)), ElementsAre(R"(1 {"path":"/a"})", "2 {}"));
}

TEST_F(SchemasTest, ManyFailuresInARowLeaveTheRestForTheNextLook) {
  for (int i = 0; i < 1500; ++i) publish("asset.discovered", "[]");
  publish("asset.discovered", "{}");
  make_group();
  const Schemas schemas(*store_, declared_);
  ClaimRequest request;
  request.consumer = "c";
  const ClaimAnswer first = schemas.claim("g", request);
  EXPECT_THAT(first.deliveries, IsEmpty());
  EXPECT_EQ(first.next_due, Milliseconds{0});
  EXPECT_EQ(schemas.claim("g", request).deliveries.size(), 1U);
}

TEST_F(SchemasTest, StepsRecordedLaterAreSeenAfterARefresh) {
  Schemas schemas(*store_, declared_);
  EXPECT_EQ(schemas.registry()->current("other"), std::nullopt);
  store_->kv().set("millrace/schema/other/1", "with a number");
  schemas.refresh();
  EXPECT_EQ(schemas.registry()->current("other"), 2);
  EXPECT_THAT(schemas_json(*schemas.registry()),
              HasSubstr(R"({"type":"other","version":2,"description":"with a number","deprecated":false,)"
                        R"("current":true,"upcast":"program","changes":[]})"));
}

TEST_F(SchemasTest, AStepNoProgramHasAnyMoreIsForgottenOnPurpose) {
  store_->kv().set("millrace/schema/other/1", "with a number");
  Schemas schemas(*store_, declared_);
  publish("other", "{}");
  make_group();
  EXPECT_THROW((void)claim(schemas), Error) << "the step is in a program only";
  schemas.forget("other", 1);
  EXPECT_EQ(schemas.registry()->current("other"), std::nullopt);
  EXPECT_THAT(claim(schemas), ElementsAre("1 {}"));
  EXPECT_TRUE(store_->kv().scan("millrace/schema/other").empty());
  for (const std::string& type : {std::string("other"), std::string("asset.discovered"), std::string(600, 'x')}) {
    try {
      schemas.forget(type, 1);
      ADD_FAILURE() << type << " was there";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::not_found);
    }
  }
}

TEST_F(SchemasTest, ReadersSeeWhatFailsAsItWasStoredAndMarked) {
  const Schemas schemas(*store_, declared_);
  Event event = EventBuilder("asset.discovered", "/test").json("[\n]").build();
  schemas.show(event);
  EXPECT_EQ(event.data, "[\n]");
  EXPECT_EQ(data_version(event), 1);
  EXPECT_THAT(event.attribute("upcasterror"), testing::Optional(HasSubstr("is not an object")));
  EXPECT_NO_THROW(validate(event));
}

}  // namespace
}  // namespace millrace::daemon
