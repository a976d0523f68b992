// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Utf8, DecodesEachLength) {
  const struct {
    std::string_view text;
    char32_t value;
  } cases[] = {{"a", U'a'},
               {"\xC2\x80", 0x80},
               {"\xE2\x82\xAC", 0x20AC},
               {"\xF0\x9F\x98\x80", 0x1F600},
               {"\xF4\x8F\xBF\xBF", 0x10FFFF}};
  for (const auto& c : cases) {
    EXPECT_EQ(first_code_point(c.text).value, c.value);
    EXPECT_EQ(first_code_point(c.text).length, c.text.size());
    EXPECT_TRUE(is_utf8(c.text));
  }
}

TEST(Utf8, RefusesOverlongSurrogatesAndTornSequences) {
  for (const std::string_view text :
       {"\xC0\xA0", "\xC1\xBF", "\xE0\x80\x80", "\xF0\x80\x80\x80", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF8\x88\x80\x80\x80", "\x80", "\xBF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xC3\x61", "\xFF", "\xFE"}) {
    EXPECT_EQ(first_code_point(text).length, 0U);
    EXPECT_FALSE(is_utf8(text));
    EXPECT_FALSE(is_utf8(std::string("abc") + std::string(text)));
  }
  EXPECT_TRUE(is_utf8(""));
  EXPECT_EQ(first_code_point("").length, 0U);
}

TEST(Utf8, PrintableIsOneLine) {
  EXPECT_EQ(printable("a\nb\tc\x7F\xC2\x85\xFF\xC3\xA9"), "a\\nb\\u0009c\\u007F\\u0085\\xFF\xC3\xA9");
}

TEST(Utf8, JsonStringsEscapeAndReplace) {
  std::string out;
  append_json_string(out, std::string_view("a\"\\\n\r\t\0\x1F\xFF\xC3\xA9/", 12));
  EXPECT_EQ(out, "\"a\\\"\\\\\\n\\r\\t\\u0000\\u001f\xEF\xBF\xBD\xC3\xA9/\"");
}

}  // namespace
}  // namespace millrace
