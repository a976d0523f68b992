// SPDX-License-Identifier: Apache-2.0
#include "store/ledger/history.hpp"

#include <gtest/gtest.h>

namespace millrace::ledger {
namespace {

Timestamp at(int second) {
  return Timestamp{std::chrono::seconds{second}};
}

RangeSet only(Ordinal ordinal) {
  RangeSet set;
  set.add(ordinal);
  return set;
}

TEST(History, TheLastHandOutSettledIt) {
  SettledBy found;
  found.exact = HistoryRow{9, {}, "again", at(50), at(60)};
  found.taken = HistoryRow{4, only(7), "first", at(10), at(70)};
  Whereabouts where;
  tell_settled(where, 7, found);
  EXPECT_EQ(where.claim, 9U);
  EXPECT_EQ(where.consumer, "again");
  EXPECT_EQ(where.settled_after, at(50));
  EXPECT_EQ(where.settled_before, at(60));
}

TEST(History, ARangeThatMetTheEventInAnOlderClaimDidNotSettleIt) {
  SettledBy found;
  found.exact = HistoryRow{2, {}, "holder", at(10), at(40)};
  found.taken = HistoryRow{3, only(7), "passer-by", at(20), at(30)};
  found.unrecorded_to = at(15);
  Whereabouts where;
  tell_settled(where, 7, found);
  EXPECT_EQ(where.claim, 2U);
  EXPECT_EQ(where.consumer, "holder");
  EXPECT_EQ(where.settled_before, at(40));
}

TEST(History, ARangeNamesNobodyForWhatStandsApart) {
  SettledBy found;
  found.taken = HistoryRow{3, only(7), "passer-by", at(20), at(30)};
  Whereabouts where;
  tell_settled(where, 7, found);
  EXPECT_FALSE(where.claim);
  EXPECT_EQ(where.settled_before, at(30));
  tell_settled(where, 8, found);
  EXPECT_EQ(where.claim, 3U);
}

}  // namespace
}  // namespace millrace::ledger
