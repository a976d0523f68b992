// SPDX-License-Identifier: Apache-2.0
#include "cli/publisher.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "cli/exit.hpp"

namespace millrace::cli {
namespace {

/// Answers what it was told to, in order; remembers what it was sent.
class ScriptedTarget : public Target {
 public:
  using Answer = std::function<http::Response(const http::Request&)>;
  std::deque<Answer> answers;
  std::vector<std::string> bodies;

  std::string name() const override { return "script"; }
  http::Response send(const http::Request& request) override {
    bodies.push_back(request.body);
    const Answer answer = answers.size() > 1 ? std::exchange(answers.front(), {}) : answers.front();
    if (answers.size() > 1) answers.pop_front();
    return answer(request);
  }
  void stream(const http::Request&, const std::function<bool(std::string_view)>&) override {
    FAIL() << "not asked for";
  }
};

http::Response results(const std::vector<std::pair<std::string, std::string>>& status_and_durability) {
  boost::json::array list;
  int position = 0;
  for (const auto& [status, durability] : status_and_durability) {
    list.push_back(boost::json::object{
        {"id", "x"}, {"status", status}, {"position", std::to_string(++position)}, {"durability", durability}});
  }
  return {200, {}, boost::json::serialize(boost::json::object{{"results", list}})};
}

http::Response problem(unsigned status, const std::string& code, bool retryable) {
  return {status,
          {},
          boost::json::serialize(boost::json::object{{"code", code}, {"detail", "because"}, {"retryable", retryable}})};
}

Event event(const std::string& id) {
  return EventBuilder("t", "/s").id(id).build();
}

class PublisherTest : public testing::Test {
 protected:
  ScriptedTarget target_;
  std::vector<Publisher::Result> seen_;
  Publisher publisher_{
      target_, {"events", "durable"}, [this](const Publisher::Result& result) { seen_.push_back(result); }};
};

TEST_F(PublisherTest, CountsOnlyWhatWasAnswered) {
  target_.answers = {[](const auto&) {
    return results({{"stored", "durable"}, {"duplicate", "relaxed"}, {"conflict", "durable"}});
  }};
  for (const char* id : {"a", "b", "c"}) publisher_.add(event(id), seen_.size() + 1);
  EXPECT_EQ(publisher_.counts().acknowledged(), 0U);
  publisher_.flush();
  EXPECT_EQ(publisher_.counts().stored, 1U);
  EXPECT_EQ(publisher_.counts().duplicates, 1U);
  EXPECT_EQ(publisher_.counts().conflicts, 1U);
  EXPECT_EQ(publisher_.counts().acknowledged(), 2U);
  EXPECT_EQ(publisher_.counts().durability, "relaxed");
  EXPECT_EQ(seen_.size(), 3U);
}

TEST_F(PublisherTest, AsksAgainWithTheSameIdsWhenTheOutcomeIsUnknown) {
  target_.answers = {
      [](const auto&) -> http::Response { throw Error(Errc::outcome_unknown, "send", "", "the connection broke"); },
      [](const auto&) { return problem(503, "unavailable", true); },
      [](const auto&) {
        return results({{"duplicate", "durable"}});
      }};
  publisher_.add(event("a"), 1);
  publisher_.flush();
  ASSERT_EQ(target_.bodies.size(), 3U);
  EXPECT_EQ(target_.bodies[0], target_.bodies[2]);
  EXPECT_EQ(publisher_.counts().duplicates, 1U);
}

TEST_F(PublisherTest, DoesNotWaitWhenNobodyWasEverThere) {
  target_.answers = {
      [](const auto&) -> http::Response { throw CannotConnect(Errc::unavailable, "send", "", "nobody"); }};
  publisher_.add(event("a"), 1);
  EXPECT_THROW(publisher_.flush(), CannotConnect);
  EXPECT_EQ(target_.bodies.size(), 1U);
}

TEST_F(PublisherTest, NamesTheLineThatTheDaemonRefused) {
  target_.answers = {[](const auto&) {
    return http::Response{
        400,
        {},
        R"({"code":"invalid_event","detail":"no","retryable":false,"errors":[{"index":1,"object":"type","detail":"too long"}]})"};
  }};
  publisher_.add(event("a"), 7);
  publisher_.add(event("b"), 9);
  try {
    publisher_.flush();
    FAIL() << "nothing was refused";
  } catch (const InvalidInput& error) {
    EXPECT_EQ(error.object(), "line 9");
    EXPECT_EQ(error.message(), "type: too long");
  }
  EXPECT_EQ(publisher_.counts().acknowledged(), 0U);
}

TEST_F(PublisherTest, SendsWholeBatchesInOrder) {
  target_.answers = {[](const http::Request& request) {
    const auto count = boost::json::parse(request.body).as_array().size();
    return results(std::vector<std::pair<std::string, std::string>>(count, {"stored", "durable"}));
  }};
  for (std::uint64_t line = 1; line <= 2500; ++line) publisher_.add(event(std::to_string(line)), line);
  publisher_.flush();
  EXPECT_EQ(target_.bodies.size(), 3U);
  EXPECT_EQ(publisher_.counts().stored, 2500U);
  EXPECT_EQ(publisher_.counts().last_line, 2500U);
  for (std::size_t i = 0; i < seen_.size(); ++i) ASSERT_EQ(seen_[i].line, i + 1);
}

TEST_F(PublisherTest, AnUnknownStreamIsNotTriedAgain) {
  target_.answers = {[](const auto&) { return problem(404, "unknown_stream", false); }};
  publisher_.add(event("a"), 1);
  try {
    publisher_.flush();
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(exit_code_of(error), kNotFound);
  }
  EXPECT_EQ(target_.bodies.size(), 1U);
}

}  // namespace
}  // namespace millrace::cli
