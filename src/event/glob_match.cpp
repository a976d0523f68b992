// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bitset>

#include "base/utf8.hpp"
#include "event/glob.hpp"

namespace millrace::glob {
namespace {

/// The states the automaton is in, each once.
class StateSet {
 public:
  /// With everything reached from there without taking a character.
  void enter(const Program& program, std::uint16_t index) noexcept {
    // A state is pushed once at most, as it is marked then: the stack cannot overflow.
    std::size_t top = 0;
    const auto push = [&](std::uint16_t state) {
      if (marked_[state]) return;
      marked_.set(state);
      stack_[top++] = state;
    };
    push(index);
    while (top > 0) {
      const std::uint16_t current = stack_[--top];
      const State& state = program.states[current];
      switch (state.kind) {
        case State::Kind::fork:
          push(state.next);
          push(state.other);
          break;
        case State::Kind::jump:
          push(state.next);
          break;
        case State::Kind::any_run:
          push(state.next);
          members_[size_++] = current;
          break;
        default:
          members_[size_++] = current;
      }
    }
  }
  void clear() noexcept {
    marked_.reset();
    size_ = 0;
  }
  [[nodiscard]] bool contains(std::size_t state) const noexcept { return marked_[state]; }
  [[nodiscard]] const std::uint16_t* begin() const noexcept { return members_.data(); }
  [[nodiscard]] const std::uint16_t* end() const noexcept { return members_.data() + size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

 private:
  // Not initialised on purpose: only what was written is read, and these are large for a short text.
  std::bitset<kMaxStates> marked_;
  std::array<std::uint16_t, kMaxStates> members_;
  std::array<std::uint16_t, kMaxStates> stack_;
  std::size_t size_ = 0;
};

bool within(const std::vector<Range>& ranges, char32_t character) noexcept {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& range) { return character >= range.first && character <= range.last; });
}

bool takes(const State& state, char32_t character) noexcept {
  switch (state.kind) {
    case State::Kind::literal:
      return state.character == character;
    case State::Kind::any_one:
    case State::Kind::any_run:
      return true;
    case State::Kind::one_of:
      return within(state.ranges, character);
    case State::Kind::none_of:
      return !within(state.ranges, character);
    default:
      return false;
  }
}

}  // namespace

bool matches(const Program& program, std::string_view text) noexcept {
  StateSet one;
  StateSet two;
  StateSet* now = &one;
  StateSet* then = &two;
  now->enter(program, program.start);
  while (!text.empty() && !now->empty()) {
    CodePoint point = first_code_point(text);
    // A byte that is not UTF-8 counts as one character that equals none in a pattern.
    if (point.length == 0) point = {0xDC00U + static_cast<unsigned char>(text[0]), 1};
    then->clear();
    for (const std::uint16_t index : *now) {
      const State& state = program.states[index];
      if (takes(state, point.value)) {
        then->enter(program, state.kind == State::Kind::any_run ? index : state.next);
      }
    }
    std::swap(now, then);
    text.remove_prefix(point.length);
  }
  return text.empty() && now->contains(program.states.size() - 1);
}

}  // namespace millrace::glob
