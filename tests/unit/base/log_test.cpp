// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

class Log : public testing::Test {
 protected:
  ~Log() override { log::configure(log::Level::warn, log::Format::text); }

  template <class Write>
  static std::string captured(Write write) {
    testing::internal::CaptureStderr();
    write();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(Log, WritesOneJsonObjectPerLine) {
  log::configure(log::Level::info, log::Format::json);
  const std::string line = captured([] { log::info("started", "127.0.0.1:8420", "two\nlines \"quoted\""); });
  EXPECT_THAT(line, MatchesRegex("\\{\"ts\":\"[0-9T:.-]+Z\",\"level\":\"info\",\"code\":\"started\","
                                 "\"object\":\"127.0.0.1:8420\",\"message\":\"two.nlines ..quoted..\"\\}\n"));
}

TEST_F(Log, WritesTextAsOneLine) {
  log::configure(log::Level::info, log::Format::text);
  const std::string line = captured([] { log::warn("lagging", "billing", "two\nlines"); });
  EXPECT_THAT(line, HasSubstr("warning"));
  EXPECT_THAT(line, HasSubstr("lagging billing: two\\nlines\n"));
}

TEST_F(Log, AutomaticIsJsonWhenStderrIsNoTerminal) {
  log::configure(log::Level::info, log::Format::automatic);
  EXPECT_THAT(captured([] { log::info("a", "", "b"); }), HasSubstr("\"code\":\"a\",\"message\":\"b\"}"));
}

TEST_F(Log, CarriesCodeObjectAndNativeWordsOfAnError) {
  log::configure(log::Level::info, log::Format::json);
  const std::string line = captured(
      [] { log::write(log::Level::error, Error(Errc::store_full, "append", "events", "no space", "SQLITE_FULL")); });
  EXPECT_THAT(line, HasSubstr("\"code\":\"store_full\",\"object\":\"events\",\"message\":\"append: no space\","
                              "\"native\":\"SQLITE_FULL\"}"));
}

TEST_F(Log, ObeysItsLevel) {
  log::configure(log::Level::warn, log::Format::text);
  EXPECT_EQ(captured([] { log::info("a", "", "b"); }), "");
  EXPECT_NE(captured([] { log::warn("a", "", "b"); }), "");
  log::configure(log::Level::off, log::Format::text);
  EXPECT_EQ(captured([] { log::error("a", "", "b"); }), "");
  EXPECT_EQ(captured([] { log::write(log::Level::off, "a", "", "b"); }), "");
}

TEST_F(Log, ReadsItsOwnNames) {
  EXPECT_EQ(log::parse_level("debug"), log::Level::debug);
  EXPECT_EQ(log::parse_level("off"), log::Level::off);
  EXPECT_EQ(log::parse_format("automatic"), log::Format::automatic);
  EXPECT_EQ(log::parse_format("json"), log::Format::json);
  EXPECT_THROW(log::parse_level("INFO"), Error);
  EXPECT_THROW(log::parse_format("xml"), Error);
}

}  // namespace
}  // namespace millrace
