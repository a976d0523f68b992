// SPDX-License-Identifier: Apache-2.0
#include "cli/where_text.hpp"

#include <gtest/gtest.h>

#include "base/time.hpp"

namespace millrace::cli {
namespace {

const Timestamp kNow = *parse_rfc3339("2026-11-21T13:02:07Z");

std::string words(const char* group) {
  const auto match = boost::json::parse(R"({"stream": "events", "position": "17"})");
  return describe_group(boost::json::parse(group), match, kNow);
}

TEST(WhereText, SaysHowFarTheGroupIsBehind) {
  EXPECT_EQ(words(R"({"state": "ahead", "behind": 12})"), "waiting: 12 positions are before it");
  EXPECT_EQ(words(R"({"state": "ahead", "behind": 0})"), "waiting: next in line");
}

TEST(WhereText, SaysWhatHoldsTheWholeGroupUp) {
  EXPECT_EQ(words(R"({"state": "ahead", "behind": 0, "paused": true})"), "waiting: next in line; the group is paused");
  EXPECT_EQ(words(R"({"state": "ahead", "behind": 1, "stalled": "max_parked 10"})"),
            "waiting: 1 position is before it; the group is stalled: max_parked 10");
}

TEST(WhereText, SaysWhoHasClaimedItAndForHowLong) {
  EXPECT_EQ(words(R"({"state": "claimed", "pending": {"consumer": "worker-1", "attempt": 2,
                      "lease_until": "2026-11-21T13:02:11.000000Z"}})"),
            "claimed by worker-1 until 13:02:11Z (in 4.0s), attempt 2");
}

TEST(WhereText, SaysWhyItIsTriedAgainAndWhen) {
  EXPECT_EQ(words(R"({"state": "retry", "pending": {"failures": 2, "last_error": "503 from the shop",
                      "next_try": "2026-11-21T13:03:17Z"}})"),
            "failed 2 times, to be tried again at 13:03:17Z (in 1m 10s): 503 from the shop");
  EXPECT_EQ(words(R"({"state": "waiting", "pending": {"failures": 0, "next_try": null}})"),
            "given back, to be handed out again");
}

TEST(WhereText, SaysBehindWhichKeyItIsParked) {
  EXPECT_EQ(words(R"({"state": "parked", "key": "order-42", "parked_behind": "11", "pending": {}})"),
            "parked behind order-42 at position 11");
}

TEST(WhereText, SaysThatASuspectComesAlone) {
  EXPECT_EQ(words(R"({"state": "suspect", "pending": {"crashes": 2}})"),
            "suspect: its consumer vanished 2 times; it is handed out alone next");
}

TEST(WhereText, SaysBetweenWhichTimesItWasSettledAsFarAsThatIsKnown) {
  EXPECT_EQ(words(R"({"state": "settled", "settled_after": "2026-11-21T12:00:01Z",
                      "settled_before": "2026-11-21T12:00:03Z", "consumer": "worker-1", "claim": "4294967301"})"),
            "settled between 12:00:01Z and 12:00:03Z by worker-1 in claim 4294967301");
  EXPECT_EQ(words(R"({"state": "settled", "settled_after": null, "settled_before": "2026-11-14T01:02:03Z"})"),
            "settled before 2026-11-14 01:02:03Z, or passed over by a start, seek or skip");
  EXPECT_EQ(words(R"({"state": "settled", "settled_after": null, "settled_before": null})"),
            "settled; when and by whom is not known any more");
}

TEST(WhereText, SaysOfWhatItDiedAndTheCommandThatShowsIt) {
  EXPECT_EQ(words(R"({"group": "mailer", "state": "dead", "reason": "rejected: no address",
                      "died_at": "2026-11-21T12:00:00Z"})"),
            "dead since 12:00:00Z: rejected: no address; look: millrace dlq show mailer 17");
}

TEST(WhereText, MarksWhatIsComputed) {
  EXPECT_EQ(words(R"({"state": "filtered_out", "computed": true})"),
            "filtered out: its type is not one of the group's (by the filter as it is now)");
}

TEST(WhereText, ShowsABlockPerMatchWithALinePerGroup) {
  const auto match = boost::json::parse(R"({
      "stream": "events", "position": "17", "stored_at": "2026-11-21T13:00:05Z", "durability": "durable",
      "erased_at": "2026-11-21T13:02:00Z", "event": {"id": "42", "source": "/shop", "type": "order.placed"},
      "groups": [{"group": "a", "state": "ahead", "behind": 0}, {"group": "longer", "state": "filtered_out"}]})");
  EXPECT_EQ(describe_match(match, kNow),
            "event 42 from /shop, type order.placed\n"
            "  stream events, position 17, stored 13:00:05Z (2m 2s ago), durable\n"
            "  erased 13:02:00Z (7.0s ago): its data is gone for good\n"
            "  a       waiting: next in line\n"
            "  longer  filtered out: its type is not one of the group's (by the filter as it is now)");
}

TEST(WhereText, OfATrimmedEventOnlyTheNameIsLeft) {
  const auto match = boost::json::parse(R"({
      "stream": "events", "position": "17", "stored_at": null, "durability": "durable",
      "trimmed_at": "2026-11-20T13:00:05Z", "event": {"id": "42", "source": "/shop"}, "groups": []})");
  EXPECT_EQ(describe_match(match, kNow),
            "event 42 from /shop\n  stream events, position 17\n"
            "  trimmed 2026-11-20 13:00:05Z (1d 0h ago): only its id is still known\n  no group reads this stream");
}

TEST(WhereText, LetsNoControlCharacterReachTheTerminal) {
  EXPECT_EQ(words(R"({"state": "dead", "reason": "\u001b[31mred"})").find('\033'), std::string::npos);
}

}  // namespace
}  // namespace millrace::cli
