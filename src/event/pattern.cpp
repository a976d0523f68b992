// SPDX-License-Identifier: Apache-2.0
#include "millrace/pattern.hpp"

#include <algorithm>

#include "event/glob.hpp"

namespace millrace {
namespace {

using Kind = glob::State::Kind;

void append_utf8(std::string& out, char32_t point) {
  const auto put = [&](char32_t bits) { out += static_cast<char>(bits); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0U | point >> 6U);
    put(0x80U | (point & 0x3FU));
  } else if (point < 0x10000) {
    put(0xE0U | point >> 12U);
    put(0x80U | (point >> 6U & 0x3FU));
    put(0x80U | (point & 0x3FU));
  } else {
    put(0xF0U | point >> 18U);
    put(0x80U | (point >> 12U & 0x3FU));
    put(0x80U | (point >> 6U & 0x3FU));
    put(0x80U | (point & 0x3FU));
  }
}

}  // namespace

struct Pattern::Compiled {
  enum class Form { exact, prefix, suffix, general };

  explicit Compiled(std::string_view pattern) : text(pattern), program(glob::compile(pattern)) {
    // Most patterns are a name, or a name with a star at one end: a compare does for them.
    auto first = program.states.begin();
    auto last = program.states.end() - 1;  // the match state
    const bool star_last = first != last && (last - 1)->kind == Kind::any_run;
    const bool star_first = !star_last && first != last && first->kind == Kind::any_run;
    if (star_last) --last;
    if (star_first) ++first;
    if (!std::all_of(first, last, [](const glob::State& state) { return state.kind == Kind::literal; })) return;
    form = star_last ? Form::prefix : star_first ? Form::suffix : Form::exact;
    for (; first != last; ++first) append_utf8(literal, first->character);
    program = {};
  }

  std::string text;
  Form form = Form::general;
  std::string literal;    ///< of all forms but the general one
  glob::Program program;  ///< of the general one
};

Pattern::Pattern(std::string_view text) : compiled_(std::make_shared<const Compiled>(text)) {}

bool Pattern::matches(std::string_view text) const noexcept {
  switch (compiled_->form) {
    case Compiled::Form::exact:
      return text == compiled_->literal;
    case Compiled::Form::prefix:
      return text.starts_with(compiled_->literal);
    case Compiled::Form::suffix:
      return text.ends_with(compiled_->literal);
    case Compiled::Form::general:
      return glob::matches(compiled_->program, text);
  }
  return false;
}

const std::string& Pattern::text() const noexcept {
  return compiled_->text;
}

PatternList::PatternList(std::span<const std::string> patterns) {
  patterns_.reserve(patterns.size());
  for (const std::string& pattern : patterns) patterns_.emplace_back(pattern);
}

bool PatternList::matches(std::string_view text) const noexcept {
  return patterns_.empty() ||
         std::any_of(patterns_.begin(), patterns_.end(), [&](const Pattern& pattern) { return pattern.matches(text); });
}

std::vector<std::string> PatternList::texts() const {
  std::vector<std::string> texts;
  texts.reserve(patterns_.size());
  for (const Pattern& pattern : patterns_) texts.push_back(pattern.text());
  return texts;
}

}  // namespace millrace
