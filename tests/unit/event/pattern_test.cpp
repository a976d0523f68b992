// SPDX-License-Identifier: Apache-2.0
#include "millrace/pattern.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>

#include "millrace/error.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;

TEST(Pattern, MatchesTheWholeText) {
  const struct {
    const char* pattern;
    std::vector<std::string> yes;
    std::vector<std::string> no;
  } cases[] = {
      {"order.placed",
       {"order.placed"},
       {"", "order", "order.placed ", "order.placed.x", "Order.placed", "orderxplaced"}},
      {"order.*", {"order.", "order.a", "order.a.b"}, {"order", "orders.a", "", "x.order.a"}},
      {"*", {"", "a", "a.b.c", "\xF0\x9F\x98\x80"}, {}},
      {"***", {"", "a"}, {}},
      {"*.created", {".created", "a.created", "a.b.created"}, {"created", "a.created.b"}},
      {"a*c", {"ac", "abc", "a.b.c", "acc"}, {"a", "c", "acb", "bac"}},
      {"*a*b*", {"ab", "xaxbx", "aab"}, {"ba", "a", "b", ""}},
      {"?", {"a", "\xC3\xA9", "\xF0\x9F\x98\x80", "."}, {"", "ab", "\xC3\xA9\xC3\xA9"}},
      {"a?c",
       {"abc",
        "a\xE2\x82\xAC"
        "c"},
       {"ac", "abbc"}},
      {"?*", {"a", "ab"}, {""}},
      {"[abc]", {"a", "b", "c"}, {"", "d", "ab"}},
      {"[a-cx]", {"a", "b", "c", "x"}, {"d", "-"}},
      {"[!a-c]", {"d", "!", "\xC3\xA9"}, {"a", "b", "", "dd"}},
      {"[a-]", {"a", "-"}, {"b"}},
      {"[-a]", {"a", "-"}, {"b"}},
      {"[a!]", {"a", "!"}, {"b"}},
      {"[^a]", {"^", "a"}, {"b"}},
      {"[*?{},]", {"*", "?", "{", "}", ","}, {"a"}},
      {"[\\]\\\\]", {"]", "\\"}, {"a"}},
      {"[\\--\\\\]", {"-", "/", "A", "\\"}, {"a", ","}},
      {"[[]", {"["}, {"a"}},
      {"[\xC3\xA0-\xC3\xA9]", {"\xC3\xA0", "\xC3\xA5", "\xC3\xA9"}, {"\xC3\xAA", "a", "\xC3"}},
      {"{a,b}", {"a", "b"}, {"", "ab", "{a,b}", "c"}},
      {"{a}", {"a"}, {"{a}"}},
      {"{a,}", {"a", ""}, {"b"}},
      {"x{,y}z", {"xz", "xyz"}, {"xyyz"}},
      {"order.{placed,paid}.v?", {"order.placed.v1", "order.paid.v2"}, {"order.sent.v1", "order.placed.v"}},
      {"{a,b{c,d}}e", {"ae", "bce", "bde"}, {"be", "ace", "e"}},
      {"{a*,*b}c", {"ac", "axc", "bc", "xbc", "abc"}, {"c", "ab"}},
      {"{a,ab}{b,c}", {"ab", "ac", "abb", "abc"}, {"a", "aab"}},
      {"*{x,y}*", {"x", "axb", "yy"}, {"", "abc"}},
      {"{*,?}", {"", "a", "abc"}, {}},
      {"a,b", {"a,b"}, {"a", "b"}},
      {"\\*", {"*"}, {"a", "\\*"}},
      {"a\\*b*", {"a*b", "a*bc"}, {"axb"}},
      {"\\{a\\,b\\}", {"{a,b}"}, {"a"}},
      {"{a\\,b,c}", {"a,b", "c"}, {"a", "b"}},
      {"\\[a\\]", {"[a]"}, {"a"}},
      {"\\\\", {"\\"}, {""}},
      {"\\a", {"a"}, {"\\a"}},
      {"caf\xC3\xA9", {"caf\xC3\xA9"}, {"cafe"}},
      {"https://*/x", {"https://a/b/x"}, {"http://a/x"}},
      {"\xED\x9F\xBF?", {"\xED\x9F\xBF\xFF"}, {"\xFF\xFF"}},
  };
  for (const auto& c : cases) {
    const Pattern pattern(c.pattern);
    EXPECT_EQ(pattern.text(), c.pattern);
    for (const auto& text : c.yes) EXPECT_TRUE(pattern.matches(text)) << c.pattern << " on " << text;
    for (const auto& text : c.no) EXPECT_FALSE(pattern.matches(text)) << c.pattern << " on " << text;
  }
}

TEST(Pattern, ShowsWhereItIsMalformed) {
  const struct {
    std::string pattern;
    int byte;
    const char* why;
  } cases[] = {
      {"a[bc", 1, "'[' is not closed"},
      {"[", 0, "'[' is not closed"},
      {"[!", 0, "'[' is not closed"},
      {"[a\\]", 0, "'[' is not closed"},
      {"ab{c,d", 2, "'{' is not closed"},
      {"{", 0, "'{' is not closed"},
      {"{a,{b}", 0, "'{' is not closed"},
      {"{a,", 0, "'{' is not closed"},
      {"x{}", 1, "braces are empty"},
      {"abc\\", 3, "backslash"},
      {"[a\\", 2, "backslash"},
      {"a[]", 1, "class is empty"},
      {"a[!]b", 1, "class is empty"},
      {"[z-a]", 1, "backwards"},
      {"x[ab9-0]", 4, "backwards"},
      {"a]", 1, "']' closes nothing"},
      {"a}", 1, "'}' closes nothing"},
      {"{a}}", 3, "'}' closes nothing"},
      {"a\xFF", 1, "not UTF-8"},
      {"[\xC3]", 1, "not UTF-8"},
      {std::string(1025, 'a'), 1024, "longer than 1024"},
      {std::string(40, '{') + "a" + std::string(40, '}'), 32, "braces stand within braces"},
  };
  for (const auto& c : cases) {
    try {
      const Pattern pattern(c.pattern);
      ADD_FAILURE() << c.pattern;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      EXPECT_THAT(error.message(), HasSubstr("malformed at byte " + std::to_string(c.byte) + ":")) << c.pattern;
      EXPECT_THAT(error.message(), HasSubstr(c.why)) << c.pattern;
      EXPECT_THAT(error.what(), HasSubstr(c.pattern.substr(0, 1)));
    }
  }
  try {
    const Pattern pattern("");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("must not be empty"));
  }
}

/// The meaning of a pattern, said as simply as possible and as slow as it comes. Only ASCII, only valid patterns.
class Reference {
 public:
  static bool matches(std::string_view pattern, std::string_view text) {
    return match(pattern, text, [](std::string_view rest) { return rest.empty(); });
  }

 private:
  using Rest = std::function<bool(std::string_view)>;

  static bool match(std::string_view pattern, std::string_view text, const Rest& then) {
    if (pattern.empty()) return then(text);
    const std::string_view more = pattern.substr(1);
    switch (pattern[0]) {
      case '*':
        for (std::size_t n = 0; n <= text.size(); ++n) {
          if (match(more, text.substr(n), then)) return true;
        }
        return false;
      case '?':
        return !text.empty() && match(more, text.substr(1), then);
      case '[': {
        const auto close = pattern.find(']');
        const bool negated = pattern[1] == '!';
        bool in = false;
        for (std::size_t i = negated ? 2 : 1; i < close; ++i) {
          if (i + 2 < close && pattern[i + 1] == '-') {
            in = in || (!text.empty() && text[0] >= pattern[i] && text[0] <= pattern[i + 2]);
            i += 2;
          } else {
            in = in || (!text.empty() && text[0] == pattern[i]);
          }
        }
        return !text.empty() && in != negated && match(pattern.substr(close + 1), text.substr(1), then);
      }
      case '{': {
        std::vector<std::string_view> parts;
        std::size_t depth = 0;
        std::size_t begin = 1;
        std::size_t i = 0;
        for (;; ++i) {
          if (pattern[i] == '{') ++depth;
          if ((pattern[i] == ',' && depth == 1) || (pattern[i] == '}' && depth == 1)) {
            parts.push_back(pattern.substr(begin, i - begin));
            begin = i + 1;
          }
          if (pattern[i] == '}' && --depth == 0) break;
        }
        const auto after = pattern.substr(i + 1);
        return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) {
          return match(part, text, [&](std::string_view rest) { return match(after, rest, then); });
        });
      }
      default:
        return !text.empty() && text[0] == pattern[0] && match(more, text.substr(1), then);
    }
  }
};

class RandomPatterns {
 public:
  explicit RandomPatterns(unsigned seed) : random_(seed) {}

  std::string pattern(int depth = 2) {
    std::string out;
    for (std::size_t n = 1 + below(4); n > 0; --n) {
      switch (below(depth > 0 ? 8 : 6)) {
        case 0:
          out += '*';
          break;
        case 1:
          out += '?';
          break;
        case 2:
          out += below(2) == 0 ? "[ab]" : "[!a-b]";
          break;
        case 6:
        case 7: {
          out += '{';
          const std::size_t parts = 1 + below(3);
          for (std::size_t i = 0; i < parts; ++i) {
            if (i > 0) out += ',';
            if (parts == 1 || below(5) > 0) out += pattern(depth - 1);
          }
          out += '}';
          break;
        }
        default:
          out += "abc."[below(4)];
      }
    }
    return out;
  }
  std::string text() {
    std::string out;
    for (std::size_t n = below(8); n > 0; --n) out += "abc."[below(4)];
    return out;
  }
  std::string garbage() {
    std::string out;
    for (std::size_t n = below(12); n > 0; --n) {
      out += below(4) == 0 ? static_cast<char>(below(256)) : "*?[]{},\\!-ab"[below(12)];
    }
    return out;
  }

 private:
  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  std::mt19937 random_;
};

TEST(Pattern, AgreesWithTheReferenceOnRandomPatterns) {
  RandomPatterns random(1);
  int matched = 0;
  for (int i = 0; i < 5'000; ++i) {
    const std::string text = random.pattern();
    const Pattern pattern(text);
    for (int k = 0; k < 20; ++k) {
      const std::string subject = random.text();
      const bool expected = Reference::matches(text, subject);
      matched += expected ? 1 : 0;
      ASSERT_EQ(pattern.matches(subject), expected) << text << " on " << subject;
    }
  }
  EXPECT_GT(matched, 5'000);
}

TEST(Pattern, AnswersGarbageWithAPatternOrAnError) {
  RandomPatterns random(2);
  int compiled = 0;
  for (int i = 0; i < 50'000; ++i) {
    const std::string text = random.garbage();
    try {
      const Pattern pattern(text);
      ++compiled;
      (void)pattern.matches(random.garbage());
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Errc::invalid_argument);
    }
  }
  EXPECT_GT(compiled, 1'000);
}

TEST(Pattern, NothingMakesMatchingExponential) {
  std::string stars;
  std::string braces;
  for (int i = 0; i < 200; ++i) stars += "a*";
  for (int i = 0; i < 120; ++i) braces += "{a,aa}*";
  const std::string text(5'000, 'a');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(Pattern(stars + "b").matches(text));
  EXPECT_FALSE(Pattern(braces + "b").matches(text));
  EXPECT_TRUE(Pattern(braces).matches(text));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Pattern, LongestPatternsFit) {
  EXPECT_TRUE(Pattern(std::string(1024, 'a')).matches(std::string(1024, 'a')));
  EXPECT_TRUE(Pattern("{" + std::string(1022, ',') + "}").matches(""));
  EXPECT_FALSE(Pattern("{" + std::string(1022, ',') + "}").matches("a"));
}

TEST(Pattern, CopiesShareTheCompiledForm) {
  const Pattern one("a*");
  const Pattern two = one;  // NOLINT(performance-unnecessary-copy-initialization)
  EXPECT_EQ(&one.text(), &two.text());
}

TEST(PatternList, MatchesAnyOfThem) {
  const std::vector<std::string> texts = {"order.*", "user.created"};
  const PatternList list{std::span<const std::string>(texts)};
  EXPECT_FALSE(list.matches_all());
  EXPECT_TRUE(list.matches("order.x"));
  EXPECT_TRUE(list.matches("user.created"));
  EXPECT_FALSE(list.matches("user.deleted"));
  EXPECT_EQ(list.texts(), texts);
}

TEST(PatternList, MatchesEverythingWhenEmpty) {
  const PatternList list;
  EXPECT_TRUE(list.matches_all());
  EXPECT_TRUE(list.matches("anything"));
  EXPECT_TRUE(list.texts().empty());
}

TEST(PatternList, RefusesAMalformedMember) {
  const std::vector<std::string> texts = {"a", "["};
  EXPECT_THROW(PatternList{std::span<const std::string>(texts)}, Error);
}

}  // namespace
}  // namespace millrace
