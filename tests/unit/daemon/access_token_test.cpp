// SPDX-License-Identifier: Apache-2.0
#include "daemon/access_token.hpp"

#include <gtest/gtest.h>

namespace millrace::daemon {
namespace {

constexpr Timestamp kNow{std::chrono::seconds{1'800'000'000}};

TEST(AccessTokens, AreGoodForTheirStreamUntilTheyExpire) {
  const AccessTokens tokens;
  const std::string token = tokens.make("orders.v2", kNow + std::chrono::seconds{60});
  EXPECT_TRUE(tokens.good_for(token, "orders.v2", kNow));
  EXPECT_TRUE(tokens.good_for(token, "orders.v2", kNow + std::chrono::seconds{59}));
  EXPECT_FALSE(tokens.good_for(token, "orders.v2", kNow + std::chrono::seconds{60}));
  EXPECT_FALSE(tokens.good_for(token, "orders", kNow));
  EXPECT_FALSE(tokens.good_for(token, "v2", kNow));
}

TEST(AccessTokens, AreWorthNothingWhenChangedOrMadeElsewhere) {
  const AccessTokens tokens;
  const std::string token = tokens.make("orders", kNow + std::chrono::seconds{60});
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = changed[i] == '1' ? '2' : '1';
    EXPECT_FALSE(tokens.good_for(changed, "orders", kNow)) << changed;
    EXPECT_FALSE(tokens.good_for(token.substr(0, i), "orders", kNow)) << i;
  }
  EXPECT_FALSE(tokens.good_for(token + "0", "orders", kNow));
  EXPECT_FALSE(AccessTokens().good_for(token, "orders", kNow));
  for (const char* rubbish : {"", ".", "..", "1800000060.orders.", "x.orders.00"}) {
    EXPECT_FALSE(tokens.good_for(rubbish, "orders", kNow)) << rubbish;
  }
}

}  // namespace
}  // namespace millrace::daemon
