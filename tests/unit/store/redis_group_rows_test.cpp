// SPDX-License-Identifier: Apache-2.0
#include "store/redis/group_rows.hpp"

#include <gtest/gtest.h>

#include <random>

namespace millrace::store::redis {
namespace {

Ordinal at(std::uint64_t ms, std::uint64_t sequence) {
  return pack(Position{ms, sequence});
}

TEST(RedisGroupRows, RangesAreReadable) {
  ledger::RangeSet ranges;
  ranges.add(at(1'526'919'030'474, 0), at(1'526'919'030'474, 54));
  ranges.add(at(1'526'919'030'475, 3));
  ranges.add(at(1'526'919'030'475, 7), at(1'526'919'030'475, 8));
  EXPECT_EQ(encode_ranges(ranges), "1526919030474-0..54,+1-3,+0-7..8");
  EXPECT_EQ(encode_ranges({}), "");
}

TEST(RedisGroupRows, RangesComeBackAsTheyWere) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    ledger::RangeSet ranges;
    for (std::size_t n = random() % 40; n > 0; --n) {
      const std::uint64_t ms = 1'000 + random() % 4;
      const std::uint64_t sequence = random() % 3 == 0 ? kSequenceEnd - 1 - random() % 3 : random() % 9;
      ranges.add(at(ms, sequence));
    }
    EXPECT_EQ(decode_ranges(encode_ranges(ranges)), ranges) << encode_ranges(ranges);
  }
  for (const char* bad : {"1", "1-", "-1", "1-2,", "1-2,1-2", "1-5..4", "1-4194304", "0-0", "1-2 1-3", "1-2,+0-1"}) {
    EXPECT_THROW(decode_ranges(bad), Error) << bad;
  }
}

TEST(RedisGroupRows, ClaimsComeBackAsTheyWere) {
  ledger::Claim claim;
  claim.consumer = "a b=c open=1-1 \n";
  claim.session = 7;
  claim.lease_until = Timestamp{std::chrono::microseconds{5}};
  claim.lease = Milliseconds{30};
  claim.claimed_at = Timestamp{std::chrono::microseconds{6}};
  claim.alone = true;
  claim.open.add(at(9, 1), at(9, 3));
  claim.fresh_first = at(9, 0);
  claim.fresh_last = at(9, 3);
  claim.apart.add(at(9, 2));
  claim.again.add(at(4, 0));
  const ledger::Claim back = decode_claim(encode_claim(claim));
  EXPECT_EQ(back.consumer, claim.consumer);
  EXPECT_EQ(back.session, claim.session);
  EXPECT_EQ(back.lease_until, claim.lease_until);
  EXPECT_EQ(back.lease, claim.lease);
  EXPECT_EQ(back.claimed_at, claim.claimed_at);
  EXPECT_TRUE(back.alone);
  EXPECT_EQ(back.open, claim.open);
  EXPECT_EQ(back.fresh_first, claim.fresh_first);
  EXPECT_EQ(back.fresh_last, claim.fresh_last);
  EXPECT_EQ(back.apart, claim.apart);
  EXPECT_EQ(back.again, claim.again);
  EXPECT_THROW(decode_claim("session=1 nonsense"), Error);
}

TEST(RedisGroupRows, ItemsAndDeadLettersComeBackAsTheyWere) {
  ledger::Item item;
  item.due = Timestamp{std::chrono::microseconds{11}};
  item.suspect = true;
  item.redriven = true;
  item.attempts = 4;
  item.failures = 3;
  item.handler_failures = 2;
  item.crashes = 1;
  item.first_failure_at = Timestamp{std::chrono::microseconds{10}};
  item.replayid = "again";
  item.last_error = "no luck, replayid=other";
  const ledger::Item back = decode_item(encode_item(item));
  EXPECT_EQ(encode_item(back), encode_item(item));
  EXPECT_EQ(back.last_error, item.last_error);
  EXPECT_EQ(back.replayid, item.replayid);
  EXPECT_EQ(back.first_failure_at, item.first_failure_at);
  item.first_failure_at.reset();
  EXPECT_FALSE(decode_item(encode_item(item)).first_failure_at.has_value());

  const DeadRow dead{item.due, true, 3, 2, 1, "rejected: spoiled\nmilk"};
  EXPECT_EQ(encode_dead(decode_dead(encode_dead(dead))), encode_dead(dead));
  EXPECT_EQ(decode_dead(encode_dead(dead)).reason, dead.reason);
}

TEST(RedisGroupRows, HistoryStandsInTheOrderItIsFoundBy) {
  HistoryMember early{.fresh = true, .pass = 9, .first = at(5, 0), .last = at(6, 0)};
  early.row.id = 3;
  early.row.consumer = "who last=7";
  early.row.apart.add(at(5, 5));
  HistoryMember late = early;
  late.pass = 10;
  late.first = at(4, 0);
  EXPECT_LT(encode_history(early), encode_history(late));
  const HistoryMember back = decode_history(encode_history(early));
  EXPECT_TRUE(back.fresh);
  EXPECT_EQ(back.pass, 9U);
  EXPECT_EQ(back.first, early.first);
  EXPECT_EQ(back.last, early.last);
  EXPECT_EQ(back.row.id, 3U);
  EXPECT_EQ(back.row.consumer, early.row.consumer);
  EXPECT_EQ(back.row.apart, early.row.apart);
  EXPECT_TRUE(encode_history(early).starts_with(std::string(history_key(encode_history(early))) + " last="));
}

TEST(RedisGroupRows, ACopyOfAnEntryIsTheEvent) {
  const Entry entry = decode_copy("3:5-0,2:id,1:a,6:source,2:/s,4:type,1:t,4:data,5:1,2:x,1:n,1:7,", "log", {});
  ASSERT_TRUE(entry.event) << entry.aside;
  EXPECT_EQ(entry.position, (Position{5, 0}));
  EXPECT_EQ(entry.event->id, "a");
  EXPECT_EQ(entry.event->data, "1,2:x");
  for (const char* bad : {"", "3:5-0", "3:5-0;", "9:5-0,", "x"})
    EXPECT_THROW(decode_copy(bad, "log", {}), Error) << bad;
}

}  // namespace
}  // namespace millrace::store::redis
