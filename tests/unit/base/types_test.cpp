// SPDX-License-Identifier: Apache-2.0
#include "millrace/types.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/error.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;

std::string fault_of(std::string_view name) {
  try {
    const StreamName stream(name);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.what();
  }
}

TEST(Position, PrintsAndReadsBack) {
  for (const Position position : {Position{}, Position{1}, Position{42}, Position{1526919030474, 55}, Position{7, 0},
                                  Position{UINT64_MAX, UINT64_MAX}}) {
    EXPECT_EQ(Position::parse(position.to_string()), position);
  }
  EXPECT_EQ(Position{42}.to_string(), "42");
  EXPECT_EQ((Position{1526919030474, 55}).to_string(), "1526919030474-55");
}

TEST(Position, OrdersByHighThenLow) {
  EXPECT_LT(Position{}, Position{1});
  EXPECT_LT(Position{9}, Position{10});
  EXPECT_LT((Position{1, 99}), (Position{2, 0}));
}

TEST(Position, RefusesWhatItWouldNotPrint) {
  for (const char* text :
       {"", "-", "1-", "-1", "+1", " 1", "1 ", "007", "0-5", "1-02", "a", "1-2-3", "0x1", "18446744073709551616"}) {
    EXPECT_THROW(Position::parse(text), Error) << text;
  }
}

TEST(Name, TakesLowerCaseDigitsDotDashUnderscore) {
  for (const char* text : {"events", "a", "0", "a.b-c_d9"}) EXPECT_EQ(fault_of(text), "") << text;
  EXPECT_EQ(fault_of(std::string(128, 'x')), "");
  EXPECT_EQ(StreamName(kDefaultStream).str(), "events");
}

TEST(Name, SaysWhichCharacterIsWrong) {
  EXPECT_THAT(fault_of(""), HasSubstr("not empty"));
  EXPECT_THAT(fault_of("Events"), HasSubstr("'E' at byte 0"));
  EXPECT_THAT(fault_of("my events"), HasSubstr("0x20 at byte 2"));
  EXPECT_THAT(fault_of("ab\xC3\xA9"), HasSubstr("0xC3 at byte 2"));
  EXPECT_THAT(fault_of(".hidden"), HasSubstr("'.' at byte 0 is not allowed first"));
  EXPECT_THAT(fault_of(std::string(129, 'x')), HasSubstr("128"));
  EXPECT_THROW(GroupName("a/b"), Error);
}

TEST(Durability, HasStableNames) {
  EXPECT_EQ(to_string(Durability::relaxed), "relaxed");
  EXPECT_EQ(to_string(Durability::durable), "durable");
  EXPECT_EQ(to_string(Durability::memory), "memory");
}

}  // namespace
}  // namespace millrace
