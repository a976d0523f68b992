// SPDX-License-Identifier: Apache-2.0

// Who holds what, in which order, and who is charged.

#include <algorithm>
#include <set>
#include <thread>

#include "subject.hpp"

namespace millrace::conformance {
namespace {

constexpr Milliseconds kShort{40};
constexpr Milliseconds kPastShort{70};

void append_keys(Subject& subject, const std::vector<std::string>& keys, const std::string& prefix = "e") {
  std::vector<Event> events;
  for (std::size_t i = 0; i < keys.size(); ++i) events.push_back(make_event(prefix + std::to_string(i), "t", keys[i]));
  subject.append(events);
}

std::string ids(const std::vector<Delivery>& deliveries) {
  std::string all;
  for (const Delivery& delivery : deliveries) all += (all.empty() ? "" : " ") + delivery.event.id;
  return all;
}

}  // namespace

void check_order_between_consumers(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  append_keys(subject, {"a", "b", "a", "", "b", "a"});
  const auto claim = [&](const char* consumer, std::size_t max) {
    return ledger.claim("g", claim_by(consumer, max)).deliveries;
  };
  const auto first = claim("one", 2);
  require(ids(first) == "e0 e1", "the first two events: " + ids(first));
  const auto second = claim("two", 10);
  require(ids(second) == "e3", "no event overtakes an earlier one of its key with another consumer: " + ids(second));
  require_equal(ledger.group("g").parked, 3U, "parked events");

  settle_all(subject, "g", {first[0]}, Outcome::retry("later", FailureClass::handler, Milliseconds{3'600'000}));
  require(claim("two", 10).empty(), "a waiting retry holds up its key");
  ledger.alter_group("g", {.skip = first[0].position});
  const auto third = claim("two", 10);
  require(ids(third) == "e2 e5", "then the key goes on, in order: " + ids(third));
  require_equal(settle_all(subject, "g", {third[1]}, Outcome::ack()), 1U,
                "settling a later event before an earlier one: stale");
  settle_all(subject, "g", {third[0]}, Outcome::release());
  require_equal(settle_all(subject, "g", {third[1]}, Outcome::ack()), 1U,
                "what follows a released event was withdrawn: stale");
  const auto again = claim("one", 10);
  require(ids(again) == "e2 e5" && again[0].attempt == 1 && again[1].attempt == 1,
          "both come again, uncharged: " + ids(again));
  settle_all(subject, "g", {again[0]}, Outcome::reject("dead"));
  require_equal(settle_all(subject, "g", {again[1]}, Outcome::ack()), 0U, "a dead letter frees its key: stale");

  // Keys by rule, and by no rule.
  ledger.ensure_group("free", from_beginning(OrderRule::parse("none")));
  require_equal(ledger.claim("free", claim_by("one", 1)).deliveries.size() +
                    ledger.claim("free", claim_by("two")).deliveries.size(),
                6U, "without an order rule nothing waits");
  Event keyed = make_event("k0", "t", "subject");
  keyed.set_extension("partitionkey", "a key");
  Event same = make_event("k1", "t", "another");
  same.set_extension("partitionkey", "a key");
  ledger.ensure_group("partition", {.stream = StreamName(kDefaultStream), .start = Start::end()});
  subject.append({keyed, same});
  require_equal(ledger.claim("partition", claim_by("one", 1)).deliveries.size(), 1U, "first of the partition");
  require(ledger.claim("partition", claim_by("two", 1)).deliveries.empty(), "partitionkey goes before subject");

  // One call is one step: taken by position, told by index.
  ledger.ensure_group("step", {.stream = StreamName(kDefaultStream), .start = Start::end()});
  append_keys(subject, {"a", "b", "a", "", "a"}, "s");
  const auto held = ledger.claim("step", claim_by("one", 3)).deliveries;
  require(ids(held) == "s0 s1 s2" && ids(ledger.claim("step", claim_by("one")).deliveries) == "s3",
          "claimed, to be settled in one call: " + ids(held));
  const Settlement nonsense{Lease{held[0].lease.claim, Position{1'000'000}}, Outcome::ack()};
  const std::vector<Settlement> backwards{
      {held[2].lease, Outcome::ack()}, nonsense, {held[0].lease, Outcome::ack()}, nonsense};
  require_equal(ledger.settle("step", backwards), std::vector<std::size_t>{1, 3},
                "stale of a later and an earlier event of one key, settled in one call");
  require_equal(ledger.group("step").processed, 2U, "events settled in one call");
  append_keys(subject, {"a"}, "t");
  const auto follow = ledger.claim("step", claim_by("one")).deliveries;
  require(ids(follow) == "s4 t0", "their key goes on: " + ids(follow));
  const std::vector<Settlement> given_back{{follow[1].lease, Outcome::ack()}, {follow[0].lease, Outcome::retry("no")}};
  require_equal(ledger.settle("step", given_back), std::vector<std::size_t>{0},
                "stale of an event behind one that is given back in the same call");
}

void check_innocent_neighbours(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  append_keys(subject, {"", "", "a", "", "a", ""});
  const auto claimed = ledger.claim("g", claim_by("crasher", 5, kShort)).deliveries;
  require_equal(claimed.size(), 5U, "deliveries");
  std::this_thread::sleep_for(kPastShort);
  require_equal(settle_all(subject, "g", {claimed[0]}, Outcome::ack()), 1U, "an expired lease: stale");
  GroupInfo info = ledger.group("g");
  require(info.crashes == 0 && info.failures == 0 && info.suspects == 5 && info.parked == 1,
          "a lease that ran out over several events charges nobody, and suspects all");
  const auto alone = ledger.claim("g", claim_by("one")).deliveries;
  require(alone.size() == 1 && alone[0].attempt == 2 && alone[0].crashes == 0, "a suspect is handed out alone");
  require(ledger.claim("g", claim_by("one")).deliveries.empty(), "who holds a suspect gets nothing else");
  settle_all(subject, "g", alone, Outcome::ack());
  const auto released = ledger.claim("g", claim_by("one")).deliveries;
  settle_all(subject, "g", released, Outcome::release());
  require_equal(ledger.group("g").suspects, 4U, "suspects after one was released");
  for (int i = 0; i < 4; ++i) {
    const auto next = ledger.claim("g", claim_by("one")).deliveries;
    require(next.size() == 1 && next[0].crashes == 0, "suspects go through one at a time, uncharged");
    settle_all(subject, "g", next, Outcome::ack());
  }
  const auto last = ledger.claim("g", claim_by("one")).deliveries;
  require(ids(last) == "e5" && last[0].attempt == 1, "then new events: " + ids(last));
  settle_all(subject, "g", last, Outcome::ack());
  info = ledger.group("g");
  require(info.processed == 6 && info.crashes == 0 && info.failures == 0 && info.dead == 0, "nobody was charged");

  // One event, but held beside another claim: its consumer may have died of the other one.
  append_keys(subject, {"", ""}, "pair");
  std::vector<Lease> pair;
  for (int i = 0; i < 2; ++i) {
    pair.push_back(ledger.claim("g", claim_by("crasher", 1)).deliveries.at(0).lease);
  }
  require(ledger.extend("g", pair, Milliseconds{50}).empty(), "both are held");
  std::this_thread::sleep_for(kPastShort);
  settle_all(subject, "g", {last[0]}, Outcome::ack());
  info = ledger.group("g");
  require(info.crashes == 0 && info.suspects == 2, "two claims of one consumer charge nobody");
}

void check_poison(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  std::vector<Event> events;
  for (int i = 0; i < 40; ++i) events.push_back(make_event("e" + std::to_string(i), i == 20 ? "poison" : "fine"));
  subject.append(events);
  std::size_t deaths = 0;
  bool first = true;
  for (std::size_t turns = 0;
       ledger.group("g").lag.ahead + ledger.group("g").lag.in_flight + ledger.group("g").lag.waiting > 0; ++turns) {
    require(turns < 200, "a poisoned group goes on");
    const std::string consumer = "incarnation-" + std::to_string(deaths);
    const auto deliveries = ledger.claim("g", claim_by(consumer, 100, Milliseconds{10'000})).deliveries;
    bool died = false;
    for (const Delivery& delivery : deliveries) {
      if (delivery.event.type == "poison") {
        died = true;  // with everything it holds, settled or not
        break;
      }
      if (!first) settle_all(subject, "g", {delivery}, Outcome::ack());
    }
    if (!died) continue;
    first = false;
    ++deaths;
    require_equal(ledger.extend("g", std::vector{deliveries.back().lease}, Milliseconds{1}).size(), 0U,
                  "stale leases to shorten");
    std::this_thread::sleep_for(Milliseconds{10});
  }
  const auto dead = ledger.dead_letters("g", {});
  require(dead.size() == 1 && dead[0].event.type == "poison" && dead[0].crashes == 3, "exactly the poison is buried");
  require_equal(deaths, 4U, "consumers that died: once together, three times alone");
  const GroupInfo info = ledger.group("g");
  require(info.processed == 39 && info.crashes == 3 && info.failures == 0, "only the poison was charged");
}

void check_stale_leases(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  append_keys(subject, {"", "", "", ""});
  const auto kept = ledger.claim("g", claim_by("three", 1)).deliveries;
  const auto claimed = ledger.claim("g", claim_by("one", 2, kShort)).deliveries;
  std::this_thread::sleep_for(kPastShort);
  require_equal(settle_all(subject, "g", {claimed[1]}, Outcome::ack()), 1U, "a lease that ran out: stale");
  const auto taken = ledger.claim("g", claim_by("two")).deliveries;
  require_equal(taken.size(), 1U, "a suspect");
  for (const Outcome& outcome : {Outcome::ack(), Outcome::reject("x"), Outcome::release(), Outcome::retry("x")}) {
    require_equal(settle_all(subject, "g", {claimed[0]}, outcome), 1U, "a lease another consumer has now: stale");
  }
  require_equal(ledger.extend("g", std::vector{claimed[0].lease, taken[0].lease}, Milliseconds{60'000}),
                std::vector<std::size_t>{0}, "extend tells the stale one");
  require_equal(settle_all(subject, "g", taken, Outcome::ack()), 0U, "the current lease is not stale");
  require_equal(settle_all(subject, "g", taken, Outcome::ack()), 1U, "a settled lease: stale");
  Lease made_up = kept[0].lease;
  made_up.position = claimed[1].position;
  require_equal(ledger.settle("g", std::vector{Settlement{made_up, Outcome::ack()}}).size(), 1U,
                "another event's claim: stale");
  require_equal(settle_all(subject, "g", kept, Outcome::release()), 0U, "a lease that is held");
  require_equal(settle_all(subject, "g", kept, Outcome::ack()), 1U, "a released lease: stale");
  const GroupInfo info = ledger.group("g");
  require(info.processed == 1 && info.failures == 0 && info.rejected == 0, "a stale answer changes nothing");

  const auto before_seek = ledger.claim("g", claim_by("two")).deliveries;
  require(!before_seek.empty(), "something is handed out");
  ledger.alter_group("g", {.seek = Start::beginning()});
  require_equal(settle_all(subject, "g", {before_seek[0]}, Outcome::ack()), 1U, "after a seek every lease is stale");
  const auto fresh = ledger.claim("g", claim_by("two")).deliveries;
  require(ids(fresh) == "e0 e1 e2 e3" && fresh[0].attempt == 1, "after a seek all is new: " + ids(fresh));
  ledger.alter_group("g", {.skip = fresh[0].position});
  require_equal(settle_all(subject, "g", {fresh[0]}, Outcome::ack()), 1U, "a skipped event's lease: stale");
}

void check_sessions(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  append_keys(subject, {"", "", ""});
  const auto claim = [&](SessionId id, std::size_t max) {
    ClaimRequest request = claim_by("consumer", max);
    request.hold = id;
    return ledger.claim("g", request).deliveries;
  };
  const SessionId closed = ledger.open_session("consumer", Milliseconds{60'000});
  const auto held = claim(closed, 2);
  require_equal(held.size(), 2U, "deliveries to a session");
  require(ledger.renew_session(closed), "a living session is renewed");
  ledger.close_session(closed);
  require(!ledger.renew_session(closed), "a closed session is not renewed");
  require_equal(settle_all(subject, "g", held, Outcome::ack()), 2U, "leases of a closed session: stale");
  require_error(Errc::timed_out, "a claim with a closed session", [&] { claim(closed, 1); });
  GroupInfo info = ledger.group("g");
  require(info.lag.waiting == 2 && info.suspects == 0 && info.crashes == 0,
          "a closed session's claims are released uncharged");

  const SessionId renewed = ledger.open_session("consumer", Milliseconds{600});
  const auto again = claim(renewed, 1);
  require(again.size() == 1 && again[0].attempt == 1, "released is as new");
  for (int i = 0; i < 4; ++i) {
    std::this_thread::sleep_for(Milliseconds{200});
    require(ledger.renew_session(renewed), "a session lives while it is renewed");
  }
  require_equal(settle_all(subject, "g", again, Outcome::ack()), 0U, "a lease lives with its session: stale");
  ledger.close_session(renewed);

  const SessionId expired = ledger.open_session("consumer", Milliseconds{150});
  const auto lost = claim(expired, 1);
  std::this_thread::sleep_for(Milliseconds{200});
  require(!ledger.renew_session(expired), "an expired session is not renewed");
  require_equal(settle_all(subject, "g", lost, Outcome::ack()), 1U, "a lease of an expired session: stale");
  require_error(Errc::timed_out, "a claim with an expired session", [&] { claim(expired, 1); });
  ledger.close_session(expired);
  info = ledger.group("g");
  require(info.suspects == 1 && info.crashes == 1, "one event alone in an expired session is a crash");
}

void check_extend(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  append_keys(subject, {"", "", ""});
  const auto claimed = ledger.claim("g", claim_by("one", 3, Milliseconds{600})).deliveries;
  for (int i = 0; i < 4; ++i) {
    std::this_thread::sleep_for(Milliseconds{200});
    require(ledger.extend("g", std::vector{claimed[1].lease}, Milliseconds{600}).empty(), "a held lease is extended");
  }
  require_equal(settle_all(subject, "g", claimed, Outcome::ack()), 0U, "one lease extends its whole claim: stale");
}

}  // namespace millrace::conformance
