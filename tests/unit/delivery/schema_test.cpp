// SPDX-License-Identifier: Apache-2.0
// Events are brought up to date on their way to a handler.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <span>
#include <stdexcept>
#include <thread>

#include "delivery/upcasting.hpp"
#include "millrace/subscription.hpp"

namespace millrace {
namespace test {

/// The guide's second example, by its newer shape.
struct QualityAssessed {
  std::string text;
};

}  // namespace test

template <>
struct EventCodec<test::QualityAssessed> {
  static constexpr const char* type = "quality.assessed";
  static constexpr std::int32_t version = 2;
  static void encode(const test::QualityAssessed& quality, Event& event) {
    event.data = quality.text;
    event.datacontenttype = "application/json";
    event.subject = "abc";
  }
  static test::QualityAssessed decode(const Event& event) {
    if (!event.data) throw std::runtime_error("no data to decode");
    return {*event.data};
  }
};

namespace {

using test::QualityAssessed;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr Milliseconds kLong{20'000};

class SchemaDelivery : public testing::Test {
 protected:
  std::unique_ptr<Store> store_ = open_store("memory:");
  std::mutex mutex_;
  std::vector<std::string> seen_;  ///< what handlers got, as "version data"

  void publish(const std::string& type, const std::string& json, std::int32_t version = 1) {
    EventBuilder builder(type, "/test");
    if (version != 1) builder.extension("dataversion", version);
    put(builder.json(json).build());
  }
  Position put(const Event& event) {
    return store_->log().append(kDefaultStream, std::span(&event, 1)).at(0).position.value();
  }
  static std::shared_ptr<SchemaRegistry> guide() {
    auto schemas = std::make_shared<SchemaRegistry>();
    schemas->upcast("asset.discovered", 1,
                    {SchemaChange::rename("/path", "file_path"), SchemaChange::add("/tags", "[]")});
    schemas->upcast("quality.assessed", 1, [](Event& event) {
      if (event.data == "{}") throw std::runtime_error("an assessment without a score");
      event.data->insert(event.data->size() - 1, R"(,"provider":"brisque","confidence":0.8)");
    });
    return schemas;
  }
  static SubscriptionOptions options(std::shared_ptr<const SchemaRegistry> schemas) {
    SubscriptionOptions o{.group = "g", .start = Start::beginning()};
    o.settings.retry.handler_backoff = {Milliseconds{1}, Milliseconds{2}};
    o.settings.retry.max_attempts = 2;
    o.schemas = std::move(schemas);
    return o;
  }
  Handler collect() {
    return [this](const Delivery& delivery) {
      const std::lock_guard lock(mutex_);
      seen_.push_back(std::to_string(data_version(delivery.event)) + ' ' + delivery.event.data.value_or("-"));
      return Outcome::ack();
    };
  }
  std::vector<std::string> reasons() {
    std::vector<std::string> out;
    for (const DeadLetter& letter : store_->ledger().dead_letters("g", {})) out.push_back(letter.reason);
    return out;
  }
};

TEST_F(SchemaDelivery, HandlersGetTheCurrentShapeAndTheLogKeepsTheOldOne) {
  publish("asset.discovered", R"({"path":"/x"})");
  publish("quality.assessed", R"({"score":1.10})");
  publish("asset.discovered", R"({"file_path":"/y","tags":["t"]})", 2);
  Subscription subscription(*store_, options(guide()), collect());
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_THAT(seen_, ElementsAre(R"(2 {"file_path":"/x","tags":[]})",
                                 R"(2 {"score":1.10,"provider":"brisque","confidence":0.8})",
                                 R"(2 {"file_path":"/y","tags":["t"]})"));
  EXPECT_EQ(store_->log().read(kDefaultStream, {}).events.at(0).event.data, R"({"path":"/x"})");
}

TEST_F(SchemaDelivery, AsyncHandlersMayLookAtTheEventUntilTheyAnswer) {
  publish("asset.discovered", R"({"path":"/x"})");
  std::thread later;
  const auto handler = [&](const Delivery& delivery, HandlerDone done) {
    later = std::thread([&, done = std::move(done)] {
      collect()(delivery);
      done(Outcome::ack());
    });
  };
  Subscription subscription(*store_, options(guide()), AsyncHandler(handler));
  ASSERT_TRUE(subscription.drain(kLong));
  later.join();
  EXPECT_THAT(seen_, ElementsAre(R"(2 {"file_path":"/x","tags":[]})"));
}

TEST_F(SchemaDelivery, WhatCannotBeUpcastIsAFailureWithItsReason) {
  publish("quality.assessed", "{}");
  publish("asset.discovered", R"({"path":"/x","file_path":"/y"})");
  publish("asset.discovered", "{}", 3);
  publish("asset.discovered", "{}", 2);
  Subscription subscription(*store_, options(guide()), collect());
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_THAT(seen_, ElementsAre("2 {}"));
  EXPECT_THAT(reasons(), ElementsAre(HasSubstr("from version 1 to 2 failed: an assessment without a score"),
                                     HasSubstr("rename /path to file_path: there is a member of that name already"),
                                     HasSubstr("the event has version 3, newer than")));
  EXPECT_THAT(reasons().front(), HasSubstr("gave up after 2 attempts"));
}

TEST_F(SchemaDelivery, TheGroupsPinHoldsForItsHandlers) {
  publish("asset.discovered", R"({"path":"/x"})");
  publish("asset.discovered", "{}", 2);
  publish("other", "{}", 2);
  auto o = options(guide());
  o.settings.max_dataversion = 1;
  Subscription subscription(*store_, o, collect());
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_THAT(seen_, ElementsAre(R"(1 {"path":"/x"})"));
  EXPECT_THAT(reasons(), testing::Each(HasSubstr("newer than max_dataversion = 1")));
  EXPECT_EQ(reasons().size(), 2U);
}

TEST_F(SchemaDelivery, APinNeedsNoRegistry) {
  publish("other", "{}");
  publish("other", "{}", 2);
  auto o = options(nullptr);
  o.settings.max_dataversion = 1;
  Subscription subscription(*store_, o, collect());
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_THAT(seen_, ElementsAre("1 {}"));
  EXPECT_EQ(reasons().size(), 1U);
}

TEST_F(SchemaDelivery, ATypedHandlerGetsDecodedEventsOfItsTypeOnly) {
  publish("quality.assessed", R"({"score":1})");
  publish("asset.discovered", "{}");
  const Position typed = put(make_event("/test", QualityAssessed{R"({"score":2})"}));
  std::vector<Position> positions;
  Subscription subscription(*store_, options(guide()), [&](const QualityAssessed& quality, const Delivery& delivery) {
    const std::lock_guard lock(mutex_);
    seen_.push_back(quality.text);
    positions.push_back(delivery.position);
    return Outcome::ack();
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_THAT(seen_, ElementsAre(R"({"score":1,"provider":"brisque","confidence":0.8})", R"({"score":2})"));
  EXPECT_THAT(positions, ElementsAre(Position{1}, typed));
  const Event published = store_->log().read(kDefaultStream, {}).events.at(2).event;
  EXPECT_EQ(published.type, "quality.assessed");
  EXPECT_EQ(data_version(published), 2);
  EXPECT_EQ(published.subject, "abc");
  EXPECT_EQ(store_->ledger().group("g").types, std::vector<std::string>{"quality.assessed"});
}

TEST_F(SchemaDelivery, ATypedHandlerIsGivenItsOwnVersionThoughANewerOneIsKnown) {
  publish("quality.assessed", R"({"score":1})");
  publish("quality.assessed", R"({"score":3})", 3);
  auto schemas = guide();
  schemas->upcast("quality.assessed", 2, {SchemaChange::remove("/score")});
  Subscription subscription(*store_, options(schemas), [&](const QualityAssessed& quality) {
    const std::lock_guard lock(mutex_);
    seen_.push_back(quality.text);
    return Outcome::ack();
  });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_THAT(seen_, ElementsAre(R"({"score":1,"provider":"brisque","confidence":0.8})"));
  EXPECT_THAT(reasons(), ElementsAre(HasSubstr("the event has version 3, newer than")));
}

TEST_F(SchemaDelivery, WhatACodecCannotTakeIsAFailureWithItsReason) {
  publish("quality.assessed", "{}");
  publish("asset.discovered", "{}", 2);
  put(EventBuilder("quality.assessed", "/test").extension("dataversion", 2).build());
  auto o = options(nullptr);
  o.types = {"*"};
  Subscription subscription(*store_, o, [](const QualityAssessed&) noexcept { return Outcome::ack(); });
  ASSERT_TRUE(subscription.drain(kLong));
  EXPECT_THAT(reasons(), ElementsAre(HasSubstr("the event has version 1, the handler takes 2"),
                                     HasSubstr("the handler takes quality.assessed"), HasSubstr("no data to decode")));
}

TEST_F(SchemaDelivery, TheStoreRemembersWhichStepsAProgramHas) {
  auto schemas = guide();
  schemas->add({"asset.discovered", 2, "with tags"}).upcast_in_program("elsewhere", 1);
  schemas->upcast("with/slash", 4, std::vector<SchemaChange>{});
  { const Subscription subscription(*store_, options(schemas), collect()); }
  std::vector<std::string> steps;
  store_->kv().set("millrace/schema/odd", "");
  store_->kv().set("millrace/schema/odd/x", "");
  for (const auto& step : delivery::recorded_steps(store_->kv())) {
    steps.push_back(step.type + ' ' + std::to_string(step.from) + ' ' + step.description);
  }
  EXPECT_THAT(steps, ElementsAre("asset.discovered 1 with tags", "quality.assessed 1 ", "with/slash 4 "));
}

TEST_F(SchemaDelivery, AnAuditFindsWhatWouldFailWithProgramsUpcasters) {
  publish("quality.assessed", R"({"score":1})");
  publish("quality.assessed", "{}");
  publish("asset.discovered", "{}");
  std::vector<Position> failed;
  const auto note = [&](const SchemaFailure& failure) { failed.push_back(failure.position); };
  const auto counts = audit_schemas(*store_, kDefaultStream, *guide(), {}, note);
  EXPECT_THAT(failed, ElementsAre(Position{2}));
  EXPECT_EQ(counts.events, 3U);
  EXPECT_EQ(counts.upcast, 2U);
  EXPECT_EQ(audit_schemas(*store_, kDefaultStream, *guide(), {"asset.*"}).events, 1U);
}

}  // namespace
}  // namespace millrace
