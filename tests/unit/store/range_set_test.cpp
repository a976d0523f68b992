// SPDX-License-Identifier: Apache-2.0
#include "store/ledger/range_set.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "millrace/error.hpp"

namespace millrace::ledger {
namespace {

TEST(RangeSet, AgreesWithASetUnderRandomOperations) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    RangeSet ranges;
    std::set<Ordinal> plain;
    for (int step = 0; step < 500; ++step) {
      const Ordinal first = 1 + random() % 60;
      const Ordinal last = first + random() % 8;
      if (random() % 3 != 0) {
        ranges.add(first, last);
        for (Ordinal o = first; o <= last; ++o) plain.insert(o);
      } else {
        ranges.remove(first);
        plain.erase(first);
      }
      ASSERT_EQ(ranges.count(), plain.size()) << "seed " << seed << " step " << step;
      ASSERT_EQ(ranges.empty(), plain.empty());
      if (!plain.empty()) {
        ASSERT_EQ(ranges.front(), *plain.begin());
      }
      for (Ordinal o = 0; o <= 70; ++o)
        ASSERT_EQ(ranges.contains(o), plain.contains(o)) << seed << " " << step << " " << o;
      Ordinal before = 0;
      for (const auto& [from, to] : ranges.ranges()) {
        ASSERT_LE(from, to);
        ASSERT_TRUE(before == 0 || from > before + 1) << "neighbours are one range: " << ranges.to_string();
        before = to;
      }
      ASSERT_EQ(RangeSet::parse(ranges.to_string()), ranges);
    }
  }
}

TEST(RangeSet, ReadsAsPeopleWriteIt) {
  RangeSet ranges;
  ranges.add(1, 5);
  ranges.add(7);
  ranges.add(9, 12);
  EXPECT_EQ(ranges.to_string(), "1-5,7,9-12");
  EXPECT_EQ(RangeSet::parse("").to_string(), "");
  ranges.clear();
  EXPECT_EQ(ranges, RangeSet{});
}

TEST(RangeSet, SplitsAtBlocks) {
  RangeSet ranges;
  ranges.add(1, 3);
  ranges.add(7, 17);
  ranges.add(24);
  std::vector<std::string> parts;
  for (const RangeSet& part : ranges.split(8)) parts.push_back(part.to_string());
  EXPECT_EQ(parts, (std::vector<std::string>{"1-3,7", "8-15", "16-17", "24"}));
  EXPECT_TRUE(RangeSet{}.split(8).empty());
}

TEST(RangeSet, RefusesWhatItDidNotWrite) {
  for (const char* text : {"x", "1-", "-2", "5-3", "1,,2", "1 2", "1-2-3", "3,1"}) {
    try {
      RangeSet::parse(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::corrupt) << text;
    }
  }
}

}  // namespace
}  // namespace millrace::ledger
