// SPDX-License-Identifier: Apache-2.0
#include "base/units.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/error.hpp"

namespace millrace {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(Duration, ReadsNumberAndUnit) {
  const struct {
    const char* text;
    Milliseconds duration;
  } cases[] = {
      {"0s", 0ms},  {"500ms", 500ms}, {"3s", 3s},   {"10m", 10min}, {"24h", 24h},
      {"7d", 168h}, {"10  m", 10min}, {"007s", 7s}, {"1 ms", 1ms},  {"9223372036854775807ms", Milliseconds::max()}};
  for (const auto& c : cases) EXPECT_EQ(parse_duration(c.text), c.duration) << c.text;
}

TEST(Duration, RefusesWithTheRule) {
  for (const char* text : {"", "5", "s", "-1s", "+1s", " 1s", "1s ", "1.5s", "1sec", "1S", "1h30m", "1 ", "ms", "1w",
                           "9223372036854775808ms", "99999999999999999999s", "9223372036854775807d"}) {
    try {
      parse_duration(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      EXPECT_THAT(error.what(), HasSubstr(std::string("\"") + text + "\""));
    }
  }
}

TEST(Duration, IsWrittenInTheLargestUnitThatDividesIt) {
  EXPECT_EQ(format_duration(0ms), "0s");
  EXPECT_EQ(format_duration(500ms), "500ms");
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(10min), "10m");
  EXPECT_EQ(format_duration(24h), "1d");
  EXPECT_EQ(format_duration(-90s), "-90s");
  for (const auto duration : {1ms, Milliseconds(1001), Milliseconds(61'000), Milliseconds(90'000'000)}) {
    EXPECT_EQ(parse_duration(format_duration(duration)), duration);
  }
}

TEST(Size, ReadsBytesAndBinaryUnits) {
  const struct {
    const char* text;
    std::uint64_t bytes;
  } cases[] = {{"0", 0},          {"1024", 1024},       {"5B", 5},
               {"1KiB", 1024},    {"1MiB", 1 << 20},    {"8 MiB", 8 << 20},
               {"1GiB", 1 << 30}, {"2TiB", 2ULL << 40}, {"18446744073709551615", UINT64_MAX}};
  for (const auto& c : cases) EXPECT_EQ(parse_size(c.text), c.bytes) << c.text;
}

TEST(Size, RefusesWithTheRule) {
  for (const char* text : {"", "MiB", "-1", "1MB", "1M", "1mib", "1.5MiB", "1 ", " 1", "18446744073709551616",
                           "18446744073709551615KiB"}) {
    EXPECT_THROW(parse_size(text), Error) << text;
  }
}

TEST(Size, IsWrittenInTheLargestUnitThatDividesIt) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1000), "1000 B");
  EXPECT_EQ(format_size(8 << 20), "8 MiB");
  EXPECT_EQ(format_size(1536), "1536 B");
  for (const std::uint64_t bytes : {1ULL, 1024ULL, 1025ULL, 3ULL << 40, ~0ULL}) {
    EXPECT_EQ(parse_size(format_size(bytes)), bytes);
  }
}

}  // namespace
}  // namespace millrace
