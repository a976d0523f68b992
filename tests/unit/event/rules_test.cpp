// SPDX-License-Identifier: Apache-2.0
#include "event/rules.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Rules, ATraceparentIsThatOfW3C) {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  EXPECT_TRUE(is_traceparent(good));
  EXPECT_TRUE(is_traceparent("cc" + good.substr(2))) << "a version to come";
  EXPECT_TRUE(is_traceparent("cc" + good.substr(2) + "-what-comes")) << "a version to come may say more";

  for (const std::string& bad :
       {std::string(), std::string("t-1"), good + "-more", good + "0", good.substr(1), "cc" + good.substr(2) + "0",
        "ff" + good.substr(2), "0A" + good.substr(2), "00_" + good.substr(3),
        "00-" + std::string(32, '0') + good.substr(35), good.substr(0, 36) + std::string(16, '0') + good.substr(52)}) {
    EXPECT_FALSE(is_traceparent(bad)) << bad;
  }
}

}  // namespace
}  // namespace millrace
