// SPDX-License-Identifier: Apache-2.0
#include "daemon/access.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "daemon/router.hpp"
#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

using testing::HasSubstr;

/// What each call asks, a second time and by hand: a call that is new, or asks for less, has to be judged here, too.
const std::map<std::string, std::pair<Needs, Reach>>& judged() {
  static const std::map<std::string, std::pair<Needs, Reach>> table{
      {"POST /v1/streams/{stream}/events", {Needs::publish, Reach::stream}},
      {"GET /v1/streams/{stream}/events", {Needs::consume, Reach::stream}},
      {"GET /v1/streams/{stream}/tail", {Needs::consume, Reach::stream}},
      {"GET /v1/streams", {Needs::token, Reach::handler}},
      {"POST /v1/streams", {Needs::admin, Reach::handler}},
      {"POST /v1/streams/{stream}/retention", {Needs::admin, Reach::stream}},
      {"PATCH /v1/streams/{stream}/retention", {Needs::admin, Reach::stream}},
      {"POST /v1/streams/{stream}/trim", {Needs::admin, Reach::stream}},
      {"DELETE /v1/streams/{stream}/events", {Needs::admin, Reach::stream}},
      {"GET /v1/groups", {Needs::consume, Reach::handler}},
      {"POST /v1/groups", {Needs::consume, Reach::handler}},
      {"GET /v1/groups/{group}", {Needs::consume, Reach::group}},
      {"DELETE /v1/groups/{group}", {Needs::admin, Reach::group}},
      {"POST /v1/groups/{group}/claim", {Needs::consume, Reach::handler}},
      {"POST /v1/groups/{group}/ack", {Needs::consume, Reach::group}},
      {"POST /v1/groups/{group}/retry", {Needs::consume, Reach::group}},
      {"POST /v1/groups/{group}/reject", {Needs::consume, Reach::group}},
      {"POST /v1/groups/{group}/release", {Needs::consume, Reach::group}},
      {"POST /v1/groups/{group}/extend", {Needs::consume, Reach::group}},
      {"POST /v1/groups/{group}/settings", {Needs::admin, Reach::group}},
      {"POST /v1/groups/{group}/seek", {Needs::admin, Reach::group}},
      {"POST /v1/groups/{group}/skip", {Needs::admin, Reach::group}},
      {"POST /v1/groups/{group}/pause", {Needs::admin, Reach::group}},
      {"POST /v1/groups/{group}/resume", {Needs::admin, Reach::group}},
      {"GET /v1/groups/{group}/pending", {Needs::consume, Reach::group}},
      {"GET /v1/groups/{group}/dead-letters", {Needs::consume, Reach::group}},
      {"DELETE /v1/groups/{group}/dead-letters", {Needs::admin, Reach::group}},
      {"POST /v1/groups/{group}/dead-letters/redrive", {Needs::admin, Reach::group}},
      {"POST /v1/groups/{group}/replay", {Needs::consume, Reach::group}},
      {"GET /v1/replays", {Needs::admin, Reach::store}},
      {"GET /v1/replays/{id}", {Needs::admin, Reach::store}},
      {"PUT /v1/replays/{id}", {Needs::admin, Reach::store}},
      {"DELETE /v1/replays/{id}", {Needs::admin, Reach::store}},
      {"POST /v1/access-tokens", {Needs::consume, Reach::handler}},
      {"GET /v1/events", {Needs::consume, Reach::handler}},
      {"POST /v1/backup", {Needs::admin, Reach::store}},
      {"GET /v1/schemas", {Needs::token, Reach::nothing}},
      {"DELETE /v1/schemas", {Needs::admin, Reach::store}},
      {"GET /v1/stats", {Needs::admin, Reach::store}},
      {"GET /v1/doctor", {Needs::admin, Reach::store}},
      {"GET /health", {Needs::nothing, Reach::nothing}},
      {"GET /health/events", {Needs::metrics, Reach::handler}},
      {"GET /ready", {Needs::nothing, Reach::nothing}},
      {"GET /metrics", {Needs::metrics, Reach::store}},
  };
  return table;
}

TEST(Access, EveryCallIsJudged) {
  for (const Route& route : routes()) {
    const std::string name = std::string(route.method) + ' ' + std::string(route.path);
    const auto found = judged().find(name);
    ASSERT_NE(found, judged().end()) << name << " is new: what may ask for it?";
    EXPECT_EQ(route.needs, found->second.first) << name;
    EXPECT_EQ(route.reach, found->second.second) << name;
  }
  EXPECT_EQ(routes().size(), judged().size());
}

TEST(Access, WhatReachesAStreamOrGroupHasItInItsPath) {
  for (const Route& route : routes()) {
    if (route.reach == Reach::stream) {
      EXPECT_NE(route.path.find("{stream}"), std::string::npos) << route.path;
    }
    if (route.reach == Reach::group) {
      EXPECT_NE(route.path.find("{group}"), std::string::npos) << route.path;
    }
  }
}

TEST(Access, AScopeIsGoodForItselfAndAdminForAll) {
  const Principal publisher{"p", {Scope::publish}, {}};
  EXPECT_TRUE(publisher.may(Needs::nothing) && publisher.may(Needs::token) && publisher.may(Needs::publish));
  EXPECT_FALSE(publisher.may(Needs::consume) || publisher.may(Needs::metrics) || publisher.may(Needs::admin));
  const Principal consumer{"c", {Scope::consume, Scope::metrics}, {}};
  EXPECT_TRUE(consumer.may(Needs::consume) && consumer.may(Needs::metrics));
  EXPECT_FALSE(consumer.may(Needs::publish) || consumer.may(Needs::admin));
  const Principal admin{"a", {Scope::admin}, {}};
  EXPECT_TRUE(admin.may(Needs::publish) && admin.may(Needs::consume) && admin.may(Needs::metrics) &&
              admin.may(Needs::admin));
}

TEST(Access, ARefusalNamesTokenAndWhatIsMissing) {
  const std::vector<std::string> patterns{"orders*"};
  const Principal who{"shop", {Scope::consume}, PatternList(patterns)};
  const auto refusal = [](const std::function<void()>& ask) -> std::string {
    try {
      ask();
      return "allowed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::permission_denied);
      return error.operation() + '|' + error.object() + '|' + error.message();
    }
  };
  EXPECT_EQ(refusal([&] { check_stream(&who, "orders-eu"); }), "allowed");
  EXPECT_THAT(refusal([&] { check_stream(&who, "payments"); }), HasSubstr("shop|payments|"));
  EXPECT_THAT(refusal([&] { check_scope(&who, Needs::publish); }), HasSubstr("lacks the scope publish"));
  EXPECT_THAT(refusal([&] { check_store(&who); }), HasSubstr("whole store"));
  EXPECT_EQ(refusal([&] {
              check_store(nullptr);
              check_stream(nullptr, "payments");
              check_scope(nullptr, Needs::admin);
            }),
            "allowed");
}

TEST(Access, OnlyTheWholeSecretIsTheToken) {
  Config config;
  config.server.token = "master";
  config.tokens = {{"one", "secret-1", {Scope::consume}, {}}, {"two", "secret-2", {Scope::publish}, {"a"}}};
  const Tokens tokens(config);
  const auto owner = [&](const std::string& header) -> std::string {
    http::Request request;
    request.headers = {{"Authorization", header}};
    const Principal* who = tokens.owner(request);
    return who == nullptr ? "nobody" : who->name;
  };
  EXPECT_EQ(owner("Bearer secret-1"), "one");
  EXPECT_EQ(owner("bearer  secret-2"), "two");
  EXPECT_EQ(owner("Bearer master"), "server.token");
  for (const char* wrong : {"", "Bearer", "Bearer ", "secret-1", "Basic secret-1", "Bearer secret-", "Bearer secret-12",
                            "Bearer Secret-1", "Bearer secret-1 "}) {
    EXPECT_EQ(owner(wrong), "nobody") << wrong;
  }
  EXPECT_EQ(tokens.owner(http::Request{}), nullptr);
  EXPECT_FALSE(Tokens(Config{}).asked());
}

}  // namespace
}  // namespace millrace::daemon
