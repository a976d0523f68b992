// SPDX-License-Identifier: Apache-2.0
#include "http/message.hpp"

#include <gtest/gtest.h>

#include "http/problem.hpp"

namespace millrace::http {
namespace {

TEST(Message, DecodesAQueryInOrder) {
  const auto query = parse_query("a=1&b=x%20y+z&a=2&empty=&flag");
  const std::vector<std::pair<std::string, std::string>> expected{
      {"a", "1"}, {"b", "x y z"}, {"a", "2"}, {"empty", ""}, {"flag", ""}};
  EXPECT_EQ(query, expected);
}

TEST(Message, RefusesBrokenPercentEncoding) {
  for (const char* text : {"%", "%1", "%zz", "a%2"}) {
    try {
      percent_decode(text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
    }
  }
}

TEST(Message, PercentEncodingComesBack) {
  const std::string all = "a/b ?%&=+\n\xC3\xA9~-._";
  EXPECT_EQ(percent_decode(percent_encode(all)), all);
}

TEST(Message, FindsHeadersWithoutCase) {
  const std::vector<Header> headers{{"Content-Type", "a"}, {"X", "b"}};
  ASSERT_NE(find_header(headers, "content-type"), nullptr);
  EXPECT_EQ(*find_header(headers, "content-type"), "a");
  EXPECT_EQ(find_header(headers, "content"), nullptr);
}

TEST(Problem, EveryCodeHasItsStatus) {
  const std::vector<std::pair<Errc, unsigned>> table{
      {Errc::invalid_argument, 400}, {Errc::invalid_event, 400}, {Errc::too_large, 413},
      {Errc::unknown_stream, 404},   {Errc::unknown_group, 404}, {Errc::already_exists, 409},
      {Errc::group_mismatch, 409},   {Errc::not_found, 404},     {Errc::busy, 503},
      {Errc::store_full, 507},       {Errc::unavailable, 503},   {Errc::outcome_unknown, 503},
      {Errc::timed_out, 504},        {Errc::stopped, 503},       {Errc::permission_denied, 403},
      {Errc::read_only, 503},        {Errc::corrupt, 500},       {Errc::unsupported_version, 500},
      {Errc::upcast_failed, 409},    {Errc::internal, 500}};
  EXPECT_EQ(table.size(), static_cast<std::size_t>(Errc::internal) + 1);
  for (const auto& [code, status] : table) EXPECT_EQ(status_of(code), status) << to_string(code);
}

TEST(Problem, IsADocumentWithCodeAndRetryable) {
  const Response response =
      to_response(problem_of(Error(Errc::unavailable, "append", "events", "the \"disk\" is gone", "EIO")));
  EXPECT_EQ(response.status, 503U);
  EXPECT_EQ(*find_header(response.headers, "Content-Type"), "application/problem+json");
  EXPECT_EQ(*find_header(response.headers, "Retry-After"), "1");
  EXPECT_EQ(response.body, R"({"type":"about:blank","title":"Service Unavailable","status":503,)"
                           R"("detail":"append events: the \"disk\" is gone","code":"unavailable","retryable":true,)"
                           R"("object":"events","native":"EIO"})");
}

TEST(Problem, StaysValidJsonWhateverItIsToldAbout) {
  EXPECT_EQ(json_quote("a\xFF\x01\n"), "\"a\xEF\xBF\xBD\\u0001\\n\"");
}

TEST(Problem, AServerThatStopsMayBeAskedAgain) {
  EXPECT_TRUE(problem_of(Error(Errc::stopped, "tail", "events", "the daemon is stopping")).retryable);
  EXPECT_FALSE(problem_of(Error(Errc::read_only, "append", "events", "opened for reading")).retryable);
}

}  // namespace
}  // namespace millrace::http
