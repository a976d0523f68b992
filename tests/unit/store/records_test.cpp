// SPDX-License-Identifier: Apache-2.0
#include "store/records.hpp"

#include <gtest/gtest.h>

namespace millrace::store {
namespace {

using std::chrono::seconds;

// The texts stand in files and servers of released versions: they are compared to the letter.

TEST(Records, ExtensionsKeepTheirTypes) {
  const std::vector<Extension> extensions{{"text", std::string("a \"b\"")}, {"number", -5}, {"flag", true}};
  const std::string text = R"({"text":"a \"b\"","number":-5,"flag":true})";
  EXPECT_EQ(encode_extensions(extensions), text);
  EXPECT_EQ(decode_extensions(text), extensions);
  EXPECT_EQ(encode_extensions({}), "");
  EXPECT_TRUE(decode_extensions("").empty());
}

TEST(Records, TypesComeBackInTheirOrder) {
  const std::vector<std::string> types{"order.*", "b"};
  EXPECT_EQ(encode_types(types), R"(["order.*","b"])");
  EXPECT_EQ(decode_types(encode_types(types)), types);
  EXPECT_EQ(encode_types({}), "[]");
}

TEST(Records, SettingsComeBackAsTheyWere) {
  GroupSettings settings;
  settings.retry.transient_backoff = {Milliseconds{1}, Milliseconds{2}};
  settings.retry.max_age = seconds{3};
  settings.retry.handler_backoff = {Milliseconds{4}, Milliseconds{5}};
  settings.retry.max_attempts = 6;
  settings.retry.max_crashes = 7;
  settings.max_parked = 8;
  const std::string always =
      R"({"transient_backoff":{"first_ms":1,"max_ms":2},"max_age_s":3,"handler_backoff":{"first_ms":4,"max_ms":5},)"
      R"("max_attempts":6,"max_crashes":7,"max_parked":8)";
  EXPECT_EQ(encode_settings(settings), always + "}");
  EXPECT_EQ(decode_settings(always + "}"), settings);

  settings.expires = seconds{9};
  settings.max_dataversion = 10;
  EXPECT_EQ(encode_settings(settings), always + R"(,"expires_s":9,"max_dataversion":10})");
  EXPECT_EQ(decode_settings(encode_settings(settings)), settings);
}

TEST(Records, RetentionSaysOnlyWhatLimits) {
  EXPECT_EQ(encode_retention({}), R"({"interval_s":86400})");
  EXPECT_EQ(decode_retention("").retention, Retention{});

  const RetentionRecord record{{.max_events = 1, .max_bytes = 2, .max_age = seconds{3}, .interval = seconds{4}},
                               Timestamp{std::chrono::microseconds{5}}};
  EXPECT_EQ(encode_retention(record), R"({"interval_s":4,"max_events":1,"max_bytes":2,"max_age_s":3,"applied_at":5})");
  const RetentionRecord back = decode_retention(encode_retention(record));
  EXPECT_EQ(back.retention, record.retention);
  EXPECT_EQ(back.applied_at, record.applied_at);
}

TEST(Records, ATrimTellsPositionsInTheStoresForm) {
  TrimResult result{.removed = 5, .trimmed_to = Position{42}, .kept = {{GroupName("g"), 7}}};
  EXPECT_EQ(encode_trim(result, PositionForm::number),
            R"({"removed":5,"trimmed_to":42,"kept":[{"group":"g","events":7}]})");
  const TrimResult back = decode_trim(encode_trim(result, PositionForm::number));
  EXPECT_EQ(back.removed, 5U);
  EXPECT_EQ(back.trimmed_to, Position{42});
  ASSERT_EQ(back.kept.size(), 1U);
  EXPECT_EQ(back.kept[0].group, GroupName("g"));
  EXPECT_EQ(back.kept[0].events, 7U);

  result = {.trimmed_to = Position{1'526'919'030'474, 55}};
  EXPECT_EQ(encode_trim(result, PositionForm::pair), R"({"removed":0,"trimmed_to":"1526919030474-55","kept":[]})");
  for (const Position position : {Position{1'526'919'030'474, 55}, Position{0, 7}, Position{}}) {
    EXPECT_EQ(decode_trim(encode_trim({.trimmed_to = position}, PositionForm::pair)).trimmed_to, position);
  }
  EXPECT_EQ(encode_trim({}, PositionForm::pair), R"({"removed":0,"trimmed_to":"0-0","kept":[]})");
  EXPECT_EQ(decode_trim("").trimmed_to, Position{});
}

TEST(Records, WhatIsNotOursIsCorruptAndSaysWhat) {
  const auto refused = [](const auto& decode, const char* text) -> std::string {
    try {
      decode(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::corrupt);
      EXPECT_EQ(error.native(), text);
      return error.object();
    }
    return "accepted";
  };
  for (const char* bad : {"{", "[]", R"({"a":null})", R"({"a":1.5})", R"({"a":5000000000})"}) {
    EXPECT_EQ(refused([](auto text) { decode_extensions(text); }, bad), "extensions") << bad;
  }
  for (const char* bad : {"", "{}", "[1]"}) EXPECT_EQ(refused([](auto text) { decode_types(text); }, bad), "types");
  for (const char* bad : {"", "[]", "{}"}) {
    EXPECT_EQ(refused([](auto text) { decode_settings(text); }, bad), "settings") << bad;
  }
  for (const char* bad : {"[]", "{}", R"({"interval_s":"1"})", R"({"interval_s":1,"max_events":-1})"}) {
    EXPECT_EQ(refused([](auto text) { decode_retention(text); }, bad), "retention") << bad;
  }
  for (const char* bad : {"{}", R"({"removed":0,"trimmed_to":"x","kept":[]})",
                          R"({"removed":0,"trimmed_to":0,"kept":[{"group":"no good","events":1}]})"}) {
    EXPECT_EQ(refused([](auto text) { decode_trim(text); }, bad), "last_trim") << bad;
  }
}

}  // namespace
}  // namespace millrace::store
