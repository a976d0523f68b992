// SPDX-License-Identifier: Apache-2.0
#include "daemon/web_guard.hpp"

#include <gtest/gtest.h>

namespace millrace::daemon {
namespace {

unsigned status(std::vector<http::Header> headers, std::string_view listen = "127.0.0.1:8420") {
  http::Request request;
  request.headers = std::move(headers);
  const auto refused = refuse_web_page(request, listen);
  return refused ? refused->status : 200;
}

TEST(WebGuard, LetsInWhoeverAsksByALoopbackName) {
  for (const char* host :
       {"127.0.0.1:8420", "127.8.8.8", "localhost", "LocalHost:1234", "app.localhost:8420", "[::1]:8420", "[::1]"}) {
    EXPECT_EQ(status({{"Host", host}}), 200U) << host;
  }
  EXPECT_EQ(status({}), 200U) << "HTTP/1.0 needs no Host, and no browser speaks it";
}

TEST(WebGuard, RefusesANameThatWasMadeToResolveToThisMachine) {
  for (const char* host : {"evil.example", "evil.example:8420", "127.0.0.1.evil.example", "localhost.evil.example",
                           "notlocalhost", ".localhost", "10.0.0.1", "[::2]:8420", "[::1", "", "127.1"}) {
    EXPECT_EQ(status({{"Host", host}}), 403U) << host;
  }
}

TEST(WebGuard, TheConfiguredHostIsAName) {
  EXPECT_EQ(status({{"Host", "Mill.internal:80"}}, "mill.internal:8420"), 200U);
  EXPECT_EQ(status({{"Host", "other.internal"}}, "mill.internal:8420"), 403U);
}

TEST(WebGuard, RefusesPagesOfOtherOrigins) {
  const http::Header host{"Host", "127.0.0.1:8420"};
  for (const char* origin : {"http://evil.example", "https://127.0.0.1", "http://127.0.0.1:3000", "null", "", "x://"}) {
    EXPECT_EQ(status({host, {"Origin", origin}}), 403U) << origin;
  }
  EXPECT_EQ(status({host, {"Origin", "http://127.0.0.1:8420"}}), 200U);
  EXPECT_EQ(status({{"Origin", "http://127.0.0.1:8420"}}), 403U) << "nothing to compare it with";
}

}  // namespace
}  // namespace millrace::daemon
