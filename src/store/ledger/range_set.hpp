// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::ledger {

/// How the embedded stores count: 1, 2, 3 … (`Position{ordinal}`).
using Ordinal = std::uint64_t;

/// A set of ordinals kept as disjoint closed ranges. Not thread-safe.
class RangeSet {
 public:
  void add(Ordinal ordinal) { add(ordinal, ordinal); }
  void add(Ordinal first, Ordinal last);
  void remove(Ordinal ordinal);
  [[nodiscard]] bool contains(Ordinal ordinal) const;
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] Ordinal front() const { return ranges_.begin()->first; }
  [[nodiscard]] Ordinal back() const { return ranges_.rbegin()->second; }
  [[nodiscard]] const std::map<Ordinal, Ordinal>& ranges() const { return ranges_; }  ///< first → last
  void clear();
  /// The same in parts, none of which spans two of the blocks 0…size-1, size…2·size-1, …
  [[nodiscard]] std::vector<RangeSet> split(Ordinal size) const;

  /// "1-5,7,9-12": how a claim stands in the database, readable there.
  [[nodiscard]] std::string to_string() const;
  /// \throws Error{corrupt}
  static RangeSet parse(std::string_view text);
  bool operator==(const RangeSet&) const = default;

 private:
  std::map<Ordinal, Ordinal> ranges_;
  std::uint64_t count_ = 0;
};

}  // namespace millrace::ledger
