// SPDX-License-Identifier: Apache-2.0
#include "store/redis/pipeline.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace millrace::store::redis {
namespace {

constexpr std::size_t kPlenty = 1 << 20;
const Script kScript{"demo", "return 1", std::string(40, 'a')};

Steady at(int ms) {
  return Steady(Milliseconds(1'000'000 + ms));
}
Reply text(const std::string& value) {
  return {.kind = Reply::Kind::text, .text = value};
}
Reply number(std::int64_t value) {
  return {.kind = Reply::Kind::integer, .integer = value};
}
Reply error(const std::string& value) {
  return {.kind = Reply::Kind::error, .text = value};
}

/// What happened, in order: "a=OK", "b!outcome_unknown".
class RedisPipeline : public ::testing::Test {
 protected:
  RequestPtr request(const std::string& name, bool writes = true, int queued_at = 0) {
    auto made = std::make_unique<Request>();
    made->bytes = name + ";";
    made->operation = name;
    made->writes = writes;
    made->patience = Milliseconds(500);
    made->queued_at = at(queued_at);
    made->done = [this, name](std::variant<std::vector<Reply>, Error> outcome) {
      if (const auto* failure = std::get_if<Error>(&outcome)) {
        happened.push_back(name + "!" + std::string(to_string(failure->code())));
        last_message = failure->message();
        return;
      }
      std::string all = name + "=";
      for (const Reply& reply : std::get<std::vector<Reply>>(outcome)) all += reply.text;
      happened.push_back(all);
    };
    return made;
  }
  RequestPtr script_request(const std::string& name) {
    RequestPtr made = request(name);
    made->script = &kScript;
    made->bytes = "*4\r\n$7\r\nEVALSHA\r\n$40\r\n" + kScript.sha1 + "\r\n";
    made->script_args = made->bytes.size();
    made->bytes += name + ";";
    return made;
  }
  std::string eval(const std::string& name) { return "*4\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n" + name + ";"; }
  std::string evalsha(const std::string& name) { return script_request(name)->bytes; }

  void connect() { pipeline.on_connected(); }
  std::string take(int ms = 0, std::size_t limit = kPlenty) {
    return std::string(pipeline.take_output(limit, at(ms)).view());
  }
  void lose(int ms = 0) {
    pipeline.on_down(Error(Errc::unavailable, "connect to", "h", "cut"), at(ms));
    pipeline.fail_lost();
  }

  std::vector<std::string> happened;
  std::string last_message;
  Pipeline pipeline{"server", Milliseconds(100), 2};
};
using Happened = std::vector<std::string>;

TEST_F(RedisPipeline, AnswersBelongToTheRequestsInTheirOrder) {
  connect();
  pipeline.push(request("a"));
  RequestPtr two = request("b");
  two->commands = 2;
  pipeline.push(std::move(two));
  EXPECT_EQ(take(), "a;b;");
  EXPECT_EQ(take(), "");
  pipeline.on_reply(text("1"), at(1));
  pipeline.on_reply(text("2"), at(1));
  EXPECT_EQ(happened, Happened{"a=1"});
  pipeline.on_reply(text("3"), at(1));
  EXPECT_EQ(happened, (Happened{"a=1", "b=23"}));
  EXPECT_EQ(pipeline.in_flight(), 0U);
}

TEST_F(RedisPipeline, SendsWholeRequestsUpToTheLimit) {
  connect();
  for (const char* name : {"aa", "bb", "cc"}) pipeline.push(request(name));
  EXPECT_EQ(take(0, 7), "aa;bb;");
  EXPECT_EQ(take(0, 1), "cc;");
}

TEST_F(RedisPipeline, ALargeRequestIsSentAloneAndNotCopied) {
  connect();
  const std::string name_of_large = "one with more than a few bytes";
  RequestPtr large = request(name_of_large, false);
  const char* const bytes = large->bytes.data();
  for (const char* name : {"b", "c"}) pipeline.push(request(name));
  pipeline.push(std::move(large));
  pipeline.push(request("d"));
  EXPECT_EQ(take(0, 6), "b;c;");
  const Output out = pipeline.take_output(6, at(0));
  EXPECT_EQ(out.view(), name_of_large + ";");
  EXPECT_EQ(out.view().data(), bytes);
  EXPECT_EQ(take(0, 6), "d;");
  lose();
  EXPECT_EQ(out.view(), name_of_large + ";") << "who is writing it still may";
  connect();
  EXPECT_EQ(take(0, 6), name_of_large + ";") << "a read is sent once more";
  pipeline.on_reply(text("1"), at(1));
  EXPECT_EQ(happened.back(), name_of_large + "=1");
}

TEST_F(RedisPipeline, ALargeScriptThatWasLostIsSentWithItsText) {
  connect();
  pipeline.push(script_request("a"));
  EXPECT_EQ(take(0, 1), evalsha("a"));
  pipeline.on_reply(error("NOSCRIPT x"), at(1));
  EXPECT_EQ(take(0, 1), eval("a"));
}

TEST_F(RedisPipeline, KnowsHowLongTheOldestWaits) {
  EXPECT_EQ(pipeline.oldest(), std::nullopt);
  const auto push = [this](const char* name, int ms) {
    RequestPtr made = request(name);
    made->queued_at = at(ms);
    pipeline.push(std::move(made));
  };
  push("a", 5);
  push("b", 7);
  EXPECT_EQ(pipeline.oldest(), at(5));
  connect();
  take(9, 1);
  EXPECT_EQ(pipeline.oldest(), at(5)) << "it was sent, and has no answer";
  pipeline.on_reply(text("1"), at(10));
  EXPECT_EQ(pipeline.oldest(), at(7));
}

TEST_F(RedisPipeline, AWriteThatWasSentHasAnUnknownOutcomeOneThatWasNotWaits) {
  connect();
  pipeline.push(request("sent"));
  take();
  pipeline.push(request("waits"));
  lose();
  EXPECT_EQ(happened, Happened{"sent!outcome_unknown"});
  connect();
  EXPECT_EQ(take(), "waits;");
}

TEST_F(RedisPipeline, AReadIsSentOnceMoreAndGoesFirst) {
  connect();
  pipeline.push(request("read", false));
  take();
  pipeline.push(request("later"));
  lose();
  EXPECT_EQ(happened, Happened{});
  connect();
  EXPECT_EQ(take(), "read;later;");
  lose();
  EXPECT_EQ(happened, (Happened{"read!unavailable", "later!outcome_unknown"}));
}

TEST_F(RedisPipeline, WhoLostSomethingHearsOfItInTurnsAndBeforeAnythingIsSent) {
  connect();
  for (const char* name : {"a", "b", "c"}) pipeline.push(request(name));
  take();
  pipeline.push(request("next"));
  pipeline.on_down(Error(Errc::unavailable, "connect to", "h", "cut"), at(1));
  connect();
  EXPECT_EQ(happened, Happened{}) << "all at once would keep others waiting";
  EXPECT_EQ(pipeline.in_flight(), 3U);
  EXPECT_EQ(pipeline.oldest(), at(0));
  EXPECT_LT(pipeline.next_deadline(), at(1)) << "at once";
  EXPECT_FALSE(pipeline.on_time(at(1), 2));
  EXPECT_EQ(happened, (Happened{"a!outcome_unknown", "b!outcome_unknown"}));
  EXPECT_EQ(take(1), "") << "its answer could come before c has heard";
  EXPECT_FALSE(pipeline.on_time(at(1), 2));
  EXPECT_EQ(happened.back(), "c!outcome_unknown");
  EXPECT_EQ(pipeline.in_flight(), 0U);
  EXPECT_EQ(take(1), "next;");
}

TEST_F(RedisPipeline, WhatHasWaitedTooLongHearsOfItInTurns) {
  connect();
  for (const char* name : {"a", "b"}) pipeline.push(request(name));
  take(0);
  for (const char* name : {"c", "d"}) pipeline.push(request(name));
  pipeline.on_bytes(at(400));
  EXPECT_FALSE(pipeline.on_time(at(500), 3));
  EXPECT_EQ(happened, (Happened{"c!unavailable", "d!unavailable", "a!outcome_unknown"}));
  EXPECT_EQ(pipeline.next_deadline(), at(500)) << "due at once";
  EXPECT_FALSE(pipeline.on_time(at(500), 3));
  EXPECT_EQ(happened.back(), "b!outcome_unknown");
}

TEST_F(RedisPipeline, WithoutAConnectionWaitsForTheConnectTimeoutOnly) {
  lose();
  pipeline.push(request("a", true, 0));
  pipeline.push(request("b", true, 50));
  EXPECT_EQ(pipeline.next_deadline(), at(100));
  EXPECT_FALSE(pipeline.on_time(at(99)));
  EXPECT_EQ(happened, Happened{});
  EXPECT_FALSE(pipeline.on_time(at(100)));
  EXPECT_EQ(happened, Happened{"a!unavailable"});
  EXPECT_NE(last_message.find("cut"), std::string::npos) << "why there is none: " << last_message;
  EXPECT_EQ(pipeline.next_deadline(), at(150));
}

TEST_F(RedisPipeline, ASilentServerIsGivenUp) {
  connect();
  pipeline.push(request("write"));
  pipeline.push(request("read", false));
  take(10);
  EXPECT_EQ(pipeline.next_deadline(), at(510));
  EXPECT_FALSE(pipeline.on_time(at(509)));
  EXPECT_TRUE(pipeline.on_time(at(510)));
  EXPECT_EQ(happened, (Happened{"write!outcome_unknown", "read!unavailable"}));
  EXPECT_NE(last_message.find("timed out"), std::string::npos);
  lose(510);
  EXPECT_EQ(happened.size(), 2U) << "nobody is told twice";
}

TEST_F(RedisPipeline, ASlowServerIsKeptAndItsLateAnswersAreThrownAway) {
  connect();
  pipeline.push(request("slow"));
  take(0);
  pipeline.on_bytes(at(400));
  EXPECT_FALSE(pipeline.on_time(at(500)));
  pipeline.push(request("next", true, 500));
  take(500);
  pipeline.on_reply(text("late"), at(600));
  pipeline.on_reply(text("ok"), at(601));
  EXPECT_EQ(happened, (Happened{"slow!outcome_unknown", "next=ok"}));
}

TEST_F(RedisPipeline, TheLateHalfOfAnAnswerIsThrownAwayToo) {
  connect();
  RequestPtr two = request("two");
  two->commands = 2;
  pipeline.push(std::move(two));
  take(0);
  pipeline.on_reply(text("1"), at(100));
  EXPECT_FALSE(pipeline.on_time(at(500)));
  pipeline.push(request("next", true, 500));
  take(500);
  pipeline.on_reply(text("2"), at(501));
  pipeline.on_reply(text("ok"), at(502));
  EXPECT_EQ(happened, (Happened{"two!outcome_unknown", "next=ok"}));
}

TEST_F(RedisPipeline, WhatIsNotTakenByTheServerInTimeWasNotSent) {
  connect();
  pipeline.push(request("a"));
  EXPECT_FALSE(pipeline.on_time(at(500)));
  EXPECT_EQ(happened, Happened{"a!unavailable"});
}

TEST_F(RedisPipeline, SendsTheTextOfALostScriptOnceForAll) {
  connect();
  for (const char* name : {"a", "b", "c"}) pipeline.push(script_request(name));
  EXPECT_EQ(take(), evalsha("a") + evalsha("b") + evalsha("c"));
  for (int i = 0; i < 3; ++i) pipeline.on_reply(error("NOSCRIPT No matching script."), at(1));
  pipeline.push(script_request("d"));
  EXPECT_EQ(take(), eval("a") + evalsha("b") + evalsha("c") + evalsha("d"));
  for (const char* answer : {"1", "2", "3", "4"}) pipeline.on_reply(text(answer), at(2));
  EXPECT_EQ(happened, (Happened{"a=1", "b=2", "c=3", "d=4"}));
}

TEST_F(RedisPipeline, SendsTheTextAgainWhenItIsLostAgain) {
  connect();
  pipeline.push(script_request("a"));
  take();
  pipeline.on_reply(error("NOSCRIPT x"), at(1));
  EXPECT_EQ(take(), eval("a"));
  pipeline.on_reply(text("1"), at(1));
  pipeline.push(script_request("b"));
  EXPECT_EQ(take(), evalsha("b"));
  pipeline.on_reply(error("NOSCRIPT x"), at(1));
  EXPECT_EQ(take(), eval("b"));
}

TEST_F(RedisPipeline, GivesUpOnAServerThatAlwaysLosesItsScripts) {
  connect();
  pipeline.push(script_request("a"));
  int sent = 0;
  while (!take().empty() && sent < 100) {
    ++sent;
    pipeline.on_reply(error("NOSCRIPT x"), at(1));
  }
  EXPECT_LT(sent, 10);
  EXPECT_EQ(happened, Happened{"a=NOSCRIPT x"});
}

TEST_F(RedisPipeline, AScriptThatWasNotKnownIsNotLostWithTheConnection) {
  connect();
  pipeline.push(script_request("a"));
  take();
  pipeline.on_reply(error("NOSCRIPT x"), at(1));
  lose(1);
  EXPECT_EQ(happened, Happened{});
  connect();
  EXPECT_EQ(take(2), eval("a"));
}

TEST_F(RedisPipeline, AWriteThatTooFewReplicasHaveHasAnUnknownOutcome) {
  connect();
  for (const char* name : {"enough", "few", "refused"}) {
    RequestPtr made = request(name);
    made->commands = 2;
    made->confirm = true;
    pipeline.push(std::move(made));
  }
  take();
  pipeline.on_reply(text("OK"), at(1));
  pipeline.on_reply(number(2), at(1));
  pipeline.on_reply(text("OK"), at(1));
  pipeline.on_reply(number(1), at(1));
  pipeline.on_reply(error("OOM no"), at(1));
  pipeline.on_reply(number(0), at(1));
  EXPECT_EQ(happened, (Happened{"enough=OK", "few!outcome_unknown", "refused=OOM no"}));
}

TEST_F(RedisPipeline, StoppingFailsWhatWasNotSent) {
  connect();
  pipeline.push(request("sent"));
  take();
  pipeline.push(request("waits"));
  pipeline.fail_unsent(Error(Errc::stopped, "", "", "closed"));
  EXPECT_EQ(happened, Happened{"waits!stopped"});
  pipeline.on_reply(text("OK"), at(1));
  EXPECT_EQ(happened, (Happened{"waits!stopped", "sent=OK"}));
}

}  // namespace
}  // namespace millrace::store::redis
