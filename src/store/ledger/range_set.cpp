// SPDX-License-Identifier: Apache-2.0
#include "store/ledger/range_set.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "millrace/error.hpp"

namespace millrace::ledger {

void RangeSet::add(Ordinal first, Ordinal last) {
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin()) {
    const auto before = std::prev(it);
    if (before->second >= last) return;
    // Overlapping or adjacent on the left: grow from there. (`first` is ≥ 1 whenever there is a range before it.)
    if (before->second >= first - 1) {
      first = before->first;
      it = before;
    }
  }
  while (it != ranges_.end() && (it->first <= last || it->first - 1 == last)) {
    if (it->second > last) last = it->second;
    count_ -= it->second - it->first + 1;
    it = ranges_.erase(it);
  }
  ranges_.emplace_hint(it, first, last);
  count_ += last - first + 1;
}

void RangeSet::remove(Ordinal ordinal) {
  auto it = ranges_.upper_bound(ordinal);
  if (it == ranges_.begin()) return;
  --it;
  const auto [first, last] = *it;
  if (ordinal > last) return;
  --count_;
  if (first == ordinal) {
    it = ranges_.erase(it);
  } else {
    it->second = ordinal - 1;
    ++it;
  }
  if (last > ordinal) ranges_.emplace_hint(it, ordinal + 1, last);
}

bool RangeSet::contains(Ordinal ordinal) const {
  const auto it = ranges_.upper_bound(ordinal);
  return it != ranges_.begin() && std::prev(it)->second >= ordinal;
}

void RangeSet::clear() {
  ranges_.clear();
  count_ = 0;
}

std::vector<RangeSet> RangeSet::split(Ordinal size) const {
  std::vector<RangeSet> parts;
  for (const auto& [first, last] : ranges_) {
    for (Ordinal from = first; from <= last;) {
      const Ordinal to = std::min(last, from - from % size + size - 1);
      if (parts.empty() || parts.back().front() / size != from / size) parts.emplace_back();
      parts.back().add(from, to);
      from = to + 1;
    }
  }
  return parts;
}

std::string RangeSet::to_string() const {
  std::string text;
  for (const auto& [first, last] : ranges_) {
    if (!text.empty()) text += ',';
    text += std::to_string(first);
    if (last != first) {
      text += '-';
      text += std::to_string(last);
    }
  }
  return text;
}

RangeSet RangeSet::parse(std::string_view text) {
  RangeSet set;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto bad = [&]() -> Error {
    return {Errc::corrupt, "read ranges", std::string(text), "not a list of ascending ranges like 1-5,7"};
  };
  const auto number = [&] {
    Ordinal value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc{}) throw bad();
    at = next;
    return value;
  };
  Ordinal previous = 0;
  while (at != end) {
    const Ordinal first = number();
    Ordinal last = first;
    if (at != end && *at == '-') {
      ++at;
      last = number();
    }
    if (first == 0 || last < first || first <= previous) throw bad();
    set.add(first, last);
    previous = last;
    if (at == end) break;
    if (*at != ',' || at + 1 == end) throw bad();
    ++at;
  }
  return set;
}

}  // namespace millrace::ledger
