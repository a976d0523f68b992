// SPDX-License-Identifier: Apache-2.0
#include "base/time.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Rfc3339, ReadsWhatTheStandardAllows) {
  const struct {
    const char* text;
    const char* utc;
  } cases[] = {
      {"2018-04-05T17:31:00Z", "2018-04-05T17:31:00.000000Z"},
      {"2018-04-05t17:31:00z", "2018-04-05T17:31:00.000000Z"},
      {"2018-04-05T17:31:00.1Z", "2018-04-05T17:31:00.100000Z"},
      {"2018-04-05T17:31:00.123456789123Z", "2018-04-05T17:31:00.123456Z"},
      {"2018-04-05T17:31:00+02:00", "2018-04-05T15:31:00.000000Z"},
      {"2018-12-31T23:31:00-01:30", "2019-01-01T01:01:00.000000Z"},
      {"2018-04-05T17:31:00-00:00", "2018-04-05T17:31:00.000000Z"},
      {"2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000000Z"},
      {"2017-01-01T00:59:60.5+01:00", "2016-12-31T23:59:59.500000Z"},
      {"2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000Z"},
      {"0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"},
      {"9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"},
      {"1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000Z"},
  };
  for (const auto& c : cases) {
    const auto time = parse_rfc3339(c.text);
    ASSERT_TRUE(time) << c.text;
    EXPECT_EQ(format_rfc3339(*time), c.utc) << c.text;
  }
}

TEST(Rfc3339, RefusesEverythingElse) {
  for (const char* text : {"",
                           "2018",
                           "2018-04-05",
                           "2018-04-05 17:31:00Z",
                           "2018-04-05T17:31:00",
                           "2018-04-05T17:31Z",
                           "2018-04-05T17:31:00.Z",
                           "2018-04-05T17:31:00,5Z",
                           "2018-13-05T17:31:00Z",
                           "2018-00-05T17:31:00Z",
                           "2018-04-31T17:31:00Z",
                           "2019-02-29T17:31:00Z",
                           "1900-02-29T00:00:00Z",
                           "2018-04-05T24:00:00Z",
                           "2018-04-05T17:60:00Z",
                           "2018-04-05T17:31:61Z",
                           "2018-04-05T17:31:60Z",
                           "2018-04-05T17:31:00+2:00",
                           "2018-04-05T17:31:00+0200",
                           "2018-04-05T17:31:00+24:00",
                           "2018-04-05T17:31:00+02:60",
                           "2018-04-05T17:31:00ZZ",
                           " 2018-04-05T17:31:00Z",
                           "2018-04-05T17:31:00Z ",
                           "-018-04-05T17:31:00Z",
                           "18-04-05T17:31:00Z",
                           "2018-4-5T17:31:00Z",
                           "+2018-04-05T17:31:00Z",
                           "2018-04-05T1\xC2\xB9:31:00Z"}) {
    EXPECT_FALSE(parse_rfc3339(text)) << text;
  }
}

TEST(Rfc3339, NowHasNanosecondsAndIsNow) {
  const Timestamp before = wall_now();
  const std::string text = rfc3339_now_nanoseconds();
  const Timestamp after = wall_now();
  EXPECT_EQ(text.size(), std::string("2026-11-20T21:33:59.123456789Z").size());
  const auto time = parse_rfc3339(text);
  ASSERT_TRUE(time) << text;
  EXPECT_LE(before, *time);
  EXPECT_LE(*time, after);
}

TEST(StoreClock, StartsNotBeforeWhatItIsToldAndNeverGoesBack) {
  const Timestamp future = wall_now() + std::chrono::hours(10);
  const StoreClock clock(future);
  Timestamp last = clock.now();
  EXPECT_GE(last, future);
  for (int i = 0; i < 1000; ++i) {
    const Timestamp now = clock.now();
    EXPECT_GE(now, last);
    last = now;
  }
  EXPECT_LT(last, future + std::chrono::minutes(1));
}

TEST(StoreClock, StartsAtTheWallClockOtherwise) {
  const Timestamp before = wall_now();
  const StoreClock clock;
  EXPECT_GE(clock.now(), before);
  EXPECT_LT(clock.now(), before + std::chrono::minutes(1));
}

}  // namespace
}  // namespace millrace
