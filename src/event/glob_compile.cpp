// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "base/utf8.hpp"
#include "event/glob.hpp"
#include "millrace/error.hpp"

namespace millrace::glob {
namespace {

constexpr std::size_t kMaxDepth = 32;

/// Reads a pattern from left to right and lays its states down in that order, each going on at the one after it.
class Compiler {
 public:
  explicit Compiler(std::string_view pattern) : pattern_(pattern) {}

  Program run() {
    if (pattern_.empty()) {
      throw Error(Errc::invalid_argument, "compile pattern", "\"\"",
                  "a pattern must not be empty; * matches everything");
    }
    if (pattern_.size() > kMaxPatternBytes) {
      refuse(kMaxPatternBytes, fmt::format("it is longer than {} bytes", kMaxPatternBytes));
    }
    sequence(0);
    add(State::Kind::match);
    return std::move(program_);
  }

 private:
  [[noreturn]] void refuse(std::size_t byte, std::string_view fault) const {
    throw Error(Errc::invalid_argument, "compile pattern", fmt::format("\"{}\"", printable(pattern_.substr(0, 200))),
                fmt::format("malformed at byte {}: {}", byte, fault));
  }

  [[nodiscard]] bool done() const { return at_ == pattern_.size(); }
  [[nodiscard]] char front() const { return pattern_[at_]; }

  char32_t character() {
    const CodePoint point = first_code_point(pattern_.substr(at_));
    if (point.length == 0) refuse(at_, "not UTF-8");
    at_ += point.length;
    return point.value;
  }

  /// The character after a backslash, or the character itself.
  char32_t escaped() {
    if (front() != '\\') return character();
    if (at_ + 1 == pattern_.size()) refuse(at_, "a backslash must have a character after it");
    ++at_;
    return character();
  }

  State& add(State::Kind kind) {
    State state;
    state.kind = kind;
    state.next = static_cast<std::uint16_t>(program_.states.size() + 1);
    program_.states.push_back(std::move(state));
    return program_.states.back();
  }

  [[nodiscard]] std::uint16_t here() const { return static_cast<std::uint16_t>(program_.states.size()); }

  /// Up to the end, or inside braces up to `,` or `}`.
  void sequence(std::size_t depth) {
    while (!done()) {
      switch (front()) {
        case '*':
          // Several stars in a row say what one says.
          if (program_.states.empty() || program_.states.back().kind != State::Kind::any_run) {
            add(State::Kind::any_run);
          }
          ++at_;
          break;
        case '?':
          add(State::Kind::any_one);
          ++at_;
          break;
        case '[':
          character_class();
          break;
        case '{':
          alternatives(depth + 1);
          break;
        case ']':
          refuse(at_, "']' closes nothing; write \\] for the character");
        case '}':
          if (depth == 0) refuse(at_, "'}' closes nothing; write \\} for the character");
          return;
        case ',':
          if (depth > 0) return;
          [[fallthrough]];
        default: {
          const char32_t literal = escaped();
          add(State::Kind::literal).character = literal;
        }
      }
    }
  }

  void character_class() {
    const std::size_t open = at_++;
    bool negated = false;
    if (!done() && front() == '!') {
      negated = true;
      ++at_;
    }
    std::vector<Range> ranges;
    for (;;) {
      if (done()) refuse(open, "'[' is not closed");
      if (front() == ']') break;
      const std::size_t begin = at_;
      const char32_t first = escaped();
      char32_t last = first;
      if (at_ + 1 < pattern_.size() && front() == '-' && pattern_[at_ + 1] != ']') {
        ++at_;
        last = escaped();
        if (last < first) refuse(begin, "the range goes backwards");
      }
      ranges.push_back({first, last});
    }
    if (ranges.empty()) refuse(open, "the class is empty; write \\[ for the character");
    ++at_;
    add(negated ? State::Kind::none_of : State::Kind::one_of).ranges = std::move(ranges);
  }

  /// `{a,b,c}` becomes: fork(a…, fork(b…, c…)), and each but the last ends with a jump behind the brace.
  void alternatives(std::size_t depth) {
    const std::size_t open = at_++;
    if (depth > kMaxDepth) refuse(open, fmt::format("braces stand within braces more than {} times", kMaxDepth));
    std::vector<std::uint16_t> ends;
    for (;;) {
      const std::uint16_t fork = here();
      add(State::Kind::fork);
      sequence(depth);
      if (done()) refuse(open, "'{' is not closed");
      const bool last = front() == '}';
      if (last && ends.empty() && at_ == open + 1) refuse(open, "the braces are empty; write \\{ for the character");
      ++at_;
      ends.push_back(here());
      add(State::Kind::jump);
      program_.states[fork].other = last ? program_.states[fork].next : here();
      if (last) break;
    }
    for (const std::uint16_t end : ends) program_.states[end].next = here();
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  Program program_;
};

}  // namespace

Program compile(std::string_view pattern) {
  return Compiler(pattern).run();
}

}  // namespace millrace::glob
