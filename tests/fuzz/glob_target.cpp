// SPDX-License-Identifier: Apache-2.0

// Patterns against a matcher that is slow and plain: it tries everything.

#include <vector>

#include "base/utf8.hpp"
#include "fuzz.hpp"
#include "millrace/pattern.hpp"

namespace millrace::fuzz {
namespace {

using Text = std::vector<char32_t>;

Text characters(std::string_view text) {
  Text out;
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    out.push_back(point.length == 0 ? 0xDC00U + static_cast<unsigned char>(text[0]) : point.value);
    text.remove_prefix(point.length == 0 ? 1 : point.length);
  }
  return out;
}

/// Spells braces out: "a{b,c}d" is "abd" or "acd". Nothing when that would be too many.
std::optional<std::vector<Text>> spelled_out(const Text& pattern) {
  std::size_t open = pattern.size();
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size() && open == pattern.size(); ++i) {
    if (pattern[i] == U'\\') {
      ++i;
    } else if (in_class) {
      in_class = pattern[i] != U']';
    } else if (pattern[i] == U'[') {
      in_class = true;
    } else if (pattern[i] == U'{') {
      open = i;
    }
  }
  if (open == pattern.size()) return std::vector<Text>{pattern};
  std::vector<Text> choices(1);
  std::size_t depth = 1, at = open + 1;
  in_class = false;
  for (; at < pattern.size() && depth > 0; ++at) {
    const char32_t c = pattern[at];
    if (c == U'\\') {
      choices.back().push_back(c);
      choices.back().push_back(pattern.at(++at));
      continue;
    }
    if (in_class) {
      in_class = c != U']';
    } else if (c == U'[') {
      in_class = true;
    } else if (c == U'{') {
      ++depth;
    } else if (c == U'}' && --depth == 0) {
      continue;
    } else if (c == U',' && depth == 1) {
      choices.emplace_back();
      continue;
    }
    choices.back().push_back(c);
  }
  std::vector<Text> all;
  for (const Text& choice : choices) {
    Text whole(pattern.begin(), pattern.begin() + static_cast<long>(open));
    whole.insert(whole.end(), choice.begin(), choice.end());
    whole.insert(whole.end(), pattern.begin() + static_cast<long>(at), pattern.end());
    const auto deeper = spelled_out(whole);
    if (!deeper || all.size() + deeper->size() > 64) return std::nullopt;
    all.insert(all.end(), deeper->begin(), deeper->end());
  }
  return all;
}

/// One element of a pattern without braces.
struct Element {
  bool star = false, any = false, negated = false;
  std::vector<std::pair<char32_t, char32_t>> ranges;
};
std::vector<Element> elements(const Text& pattern) {
  std::vector<Element> out;
  std::size_t at = 0;
  const auto literal = [&] {
    if (pattern[at] == U'\\') ++at;
    return pattern.at(at++);
  };
  while (at < pattern.size()) {
    Element element;
    if (pattern[at] == U'*') {
      element.star = true;
      ++at;
    } else if (pattern[at] == U'?') {
      element.any = true;
      ++at;
    } else if (pattern[at] == U'[') {
      ++at;
      if (pattern[at] == U'!') element.negated = true, ++at;
      while (pattern.at(at) != U']') {
        const char32_t first = literal();
        char32_t last = first;
        if (pattern.at(at) == U'-' && at + 1 < pattern.size() && pattern[at + 1] != U']') {
          ++at;
          last = literal();
        }
        element.ranges.emplace_back(first, last);
      }
      ++at;
    } else {
      const char32_t one = literal();
      element.ranges.emplace_back(one, one);
    }
    out.push_back(std::move(element));
  }
  return out;
}

bool matches_plainly(const std::vector<Element>& pattern, const Text& text) {
  // reached[t]: the elements so far can have taken exactly the first t characters.
  std::vector<char> reached(text.size() + 1, 0);
  reached[0] = 1;
  for (const Element& element : pattern) {
    std::vector<char> next(text.size() + 1, 0);
    for (std::size_t t = 0; t <= text.size(); ++t) {
      if (reached[t] == 0) continue;
      if (element.star) {
        for (std::size_t to = t; to <= text.size(); ++to) next[to] = 1;
        break;
      }
      if (t == text.size()) continue;
      bool within = false;
      for (const auto& [first, last] : element.ranges) within = within || (first <= text[t] && text[t] <= last);
      if (element.any || within != element.negated) next[t + 1] = 1;
    }
    reached = std::move(next);
  }
  return reached.back() != 0;
}

}  // namespace

void glob(std::string_view input) {
  Bytes bytes(input);
  const std::string pattern(bytes.line());
  const std::string text(bytes.rest().substr(0, 200));
  const auto compiled = value_or_refusal([&] { return Pattern(pattern); });
  if (!compiled) return;
  require(compiled->text() == pattern, "a pattern shows its text");
  const bool matches = compiled->matches(text);
  if (pattern.size() > 100) return;  // the plain matcher takes its time
  const auto spelled = spelled_out(characters(pattern));
  if (!spelled) return;
  bool plainly = false;
  for (const Text& one : *spelled) plainly = plainly || matches_plainly(elements(one), characters(text));
  require(matches == plainly, "\"" + pattern + "\" " + (plainly ? "matches" : "does not match") + " \"" + text + "\"");
}

}  // namespace millrace::fuzz
