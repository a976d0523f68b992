// SPDX-License-Identifier: Apache-2.0
#include "daemon/router.hpp"

#include <gtest/gtest.h>

#include <set>

#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

TEST(Router, FindsACallAndDecodesItsPath) {
  const Match found = match(routes(), "POST", "/v1/groups/a%2Eb/claim");
  ASSERT_NE(found.route, nullptr);
  EXPECT_EQ(found.route->path, "/v1/groups/{group}/claim");
  EXPECT_EQ(found.path.at("group"), "a.b");
}

TEST(Router, TellsAWrongMethodFromAWrongPath) {
  const Match method = match(routes(), "PUT", "/v1/streams/events/events");
  EXPECT_EQ(method.route, nullptr);
  EXPECT_EQ(method.allowed, "POST, GET, HEAD, DELETE");
  const Match path = match(routes(), "GET", "/v1/nothing");
  EXPECT_EQ(path.route, nullptr);
  EXPECT_TRUE(path.allowed.empty());
}

TEST(Router, AnEmptySegmentIsNoName) {
  EXPECT_TRUE(match(routes(), "GET", "/v1/groups/").allowed.empty());
}

TEST(Router, AnswersHeadWhereItAnswersGet) {
  EXPECT_NE(match(routes(), "HEAD", "/health").route, nullptr);
  EXPECT_EQ(match(routes(), "HEAD", "/v1/groups/g/claim").route, nullptr);
}

TEST(Router, NoCallStandsTwiceInTheTable) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const Route& route : routes()) EXPECT_TRUE(seen.emplace(route.method, route.path).second) << route.path;
}

TEST(Query, NamesUnknownAndRepeatedParameters) {
  const std::vector<std::string_view> known{"after", "types"};
  const std::vector<std::pair<std::string, std::string>> unknown{{"filter", "x"}};
  try {
    Query query(unknown, known);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.object(), "filter");
    EXPECT_NE(error.message().find("after, types"), std::string::npos);
  }
  const std::vector<std::pair<std::string, std::string>> twice{{"after", "1"}, {"after", "2"}};
  EXPECT_THROW(static_cast<void>(Query(twice, known).text("after")), Error);
}

TEST(Query, SplitsListsOutsideOfPatterns) {
  EXPECT_EQ(split_list("a.*,{b,c}.d,[x,y]", "types"), (std::vector<std::string>{"a.*", "{b,c}.d", "[x,y]"}));
  EXPECT_EQ(split_list("a\\,b,c", "types"), (std::vector<std::string>{"a\\,b", "c"}));
  EXPECT_THROW(split_list("a,", "types"), Error);
  EXPECT_THROW(split_list("", "types"), Error);
}

TEST(Query, ChecksNumbers) {
  const std::vector<std::string_view> known{"limit"};
  for (const char* bad : {"0", "11", "x", "1x", "", "-1", "99999999999999999999"}) {
    const std::vector<std::pair<std::string, std::string>> pairs{{"limit", bad}};
    EXPECT_THROW(static_cast<void>(Query(pairs, known).number("limit", 5, {1, 10})), Error) << bad;
  }
  const std::vector<std::pair<std::string, std::string>> good{{"limit", "10"}};
  EXPECT_EQ(Query(good, known).number("limit", 5, {1, 10}), 10U);
}

TEST(Members, NamesWhatIsUnknownOrOfTheWrongType) {
  const auto object_of = [](const char* body) -> std::string {
    try {
      const Members members(body, {"max", "consumer", "leases"});
      static_cast<void>(members.number("max", {1, 10}));
      static_cast<void>(members.text("consumer"));
      static_cast<void>(members.texts("leases"));
    } catch (const Error& error) {
      return error.object();
    }
    return "";
  };
  EXPECT_EQ(object_of(""), "");
  EXPECT_EQ(object_of("{}"), "");
  EXPECT_EQ(object_of(R"({"max":3,"consumer":null,"leases":["a"]})"), "");
  EXPECT_EQ(object_of("{"), "body");
  EXPECT_EQ(object_of("[]"), "body");
  EXPECT_EQ(object_of(R"({"maxx":3})"), "maxx");
  EXPECT_EQ(object_of(R"({"max":"3"})"), "max");
  EXPECT_EQ(object_of(R"({"max":1.5})"), "max");
  EXPECT_EQ(object_of(R"({"max":-1})"), "max");
  EXPECT_EQ(object_of(R"({"max":11})"), "max");
  EXPECT_EQ(object_of(R"({"consumer":1})"), "consumer");
  EXPECT_EQ(object_of(R"({"leases":[1]})"), "leases");
}

}  // namespace
}  // namespace millrace::daemon
