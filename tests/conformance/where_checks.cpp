// SPDX-License-Identifier: Apache-2.0

// Where an event is in a group, and opening it once more.

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "millrace/replay.hpp"
#include "subject.hpp"

namespace millrace::conformance {
namespace {

using State = Whereabouts::State;

Position append_one(Subject& subject, const std::string& id, const std::string& key = {},
                    const std::string& type = "order.placed") {
  return subject.append(make_event(id, type, key));
}

/// A position behind all there are, of the store's kind.
Position after(Position last) {
  return {last.high, last.low + 1};
}

void require_state(const Whereabouts& where, State state, const std::string& what) {
  require(where.state == state,
          what + ": is " + std::string(to_string(where.state)) + ", not " + std::string(to_string(state)));
}

bool same(const PendingEvent& a, const PendingEvent& b) {
  return a.position == b.position && a.id == b.id && a.source == b.source && a.type == b.type &&
         a.subject == b.subject && a.state == b.state && a.consumer == b.consumer && a.lease == b.lease &&
         a.lease_until == b.lease_until && a.next_try.has_value() == b.next_try.has_value() && a.attempt == b.attempt &&
         a.failures == b.failures && a.crashes == b.crashes && a.last_error == b.last_error;
}

/// Of an open event: `where` tells what `pending` tells.
Whereabouts open_at(Subject& subject, const GroupName& group, Position position) {
  const Whereabouts where = subject.ledger().where(group, position);
  require_state(where, State::open, "an open event");
  const auto pending = subject.ledger().pending(group, {}, 1000);
  const auto listed =
      std::find_if(pending.begin(), pending.end(), [&](const auto& event) { return event.position == position; });
  require(listed != pending.end() && where.pending && same(*listed, *where.pending), "where tells what pending tells");
  return where;
}

std::string replayid_of(const Delivery& delivery) {
  return delivery.event.attribute(kReplayId).value_or("");
}

}  // namespace

void check_where(Subject& subject) {
  Ledger& ledger = subject.ledger();
  require_error(Errc::unknown_group, "where in an unknown group", [&] { ledger.where("g", Position{1}); });
  ledger.ensure_group("g", from_beginning({}, {"order.*"}));
  require_error(Errc::not_found, "where is what was never stored", [&] { ledger.where("g", Position{1}); });

  const Position first = append_one(subject, "first", "a");
  const Position second = append_one(subject, "second", "a");
  const Position other = append_one(subject, "other", "b");
  const Position filtered = append_one(subject, "filtered", "a", "user.seen");
  const Position last = append_one(subject, "last", "b");
  require_error(Errc::not_found, "where is what comes later", [&] { ledger.where("g", after(last)); });
  require_state(ledger.where("g", first), State::ahead, "what was not handed out yet");
  require_equal(ledger.where("g", first).behind, 0U, "events before the next one");
  require_equal(ledger.where("g", last).behind, 4U, "events before the last one");
  require(ledger.where("g", last).key == "b", "the order key is told");
  require_state(ledger.where("g", filtered), State::filtered_out, "an event of another type");

  const auto one = ledger.claim("g", claim_by("one", 1)).deliveries;
  const auto two = ledger.claim("g", claim_by("two")).deliveries;
  require(one.size() == 1 && two.size() == 2, "the key of the first is busy");
  require(open_at(subject, "g", first).pending->consumer == "one", "who holds it");
  const Whereabouts parked = open_at(subject, "g", second);
  require(parked.pending->state == PendingEvent::State::parked && parked.parked_behind == first && parked.key == "a",
          "a parked event waits for the first one of its key");
  require_state(ledger.where("g", filtered), State::filtered_out, "an event of another type, passed");

  settle_all(subject, "g", one, Outcome::retry("later", FailureClass::handler, Milliseconds{3'600'000}));
  const Whereabouts waiting = open_at(subject, "g", first);
  require(waiting.pending->next_try && waiting.pending->last_error == "later" && !waiting.parked_behind,
          "a retry says why and when");
  settle_all(subject, "g", {two[0]}, Outcome::reject("spoiled"));
  const Whereabouts dead = ledger.where("g", other);
  require_state(dead, State::dead, "a rejected event");
  require(dead.reason.find("spoiled") != std::string::npos && dead.died_at, "a dead event says why and since when");
  settle_all(subject, "g", {two[1]}, Outcome::ack());
  require_state(ledger.where("g", last), State::settled, "an acknowledged event");

  ledger.redrive("g", {});
  require(open_at(subject, "g", other).pending->state == PendingEvent::State::waiting, "a redriven event is open");
}

void check_replay(Subject& subject) {
  Ledger& ledger = subject.ledger();
  using Status = ReplayStatus;
  ledger.ensure_group("g", from_beginning({}, {"order.*"}));
  for (const char* bad : {"", "Upper", "-first", "a b", "a:b"}) {
    require_error(Errc::invalid_argument, std::string("the replay id '") + bad + "'",
                  [&] { ledger.replay("g", bad, {}); });
  }
  require_error(Errc::unknown_group, "a replay into an unknown group", [&] { ledger.replay("no", "r", {}); });

  const Position trimmed = append_one(subject, "trimmed", "a");
  const Position a1 = append_one(subject, "a1", "a");
  const Position a2 = append_one(subject, "a2", "a");
  const Position died = append_one(subject, "died", "b");
  const Position filtered = append_one(subject, "filtered", "a", "user.seen");
  auto claimed = ledger.claim("g", claim_by("c")).deliveries;
  settle_all(subject, "g", {claimed[0], claimed[1], claimed[2]}, Outcome::ack());
  settle_all(subject, "g", {claimed[3]}, Outcome::reject("no"));
  const Position held = append_one(subject, "held", "c");
  claimed = ledger.claim("g", claim_by("c")).deliveries;
  const Position later = append_one(subject, "later", "a");
  TrimRequest trim;
  trim.up_to = trimmed;
  subject.log().trim(kDefaultStream, trim);

  const std::vector<Position> positions{trimmed, a2, a1, a1, died, filtered, held, later, after(later)};
  const auto answers = ledger.replay("g", "again-1", positions);
  const std::vector<Status> expected{Status::gone, Status::accepted, Status::accepted,
                                     Status::open, Status::accepted, Status::filtered_out,
                                     Status::open, Status::ahead,    Status::gone};
  require(answers == expected, "each position of a replay is answered for itself");
  require(ledger.dead_letters("g", {}).empty() && ledger.group("g").dead == 0, "a replayed dead letter is open again");
  require(open_at(subject, "g", a2).parked_behind == a1, "a replay keeps the order of a key");

  trim.up_to = later;
  require(subject.log().trim(kDefaultStream, trim).trimmed_to == trimmed, "a trim keeps what is replayed");
  if (subject.about().persistent) subject.reopen();
  Ledger& again = subject.ledger();
  auto deliveries = again.claim("g", claim_by("d", 1)).deliveries;
  require(deliveries.size() == 1 && deliveries[0].position == a1 && deliveries[0].attempt == 1 &&
              replayid_of(deliveries[0]) == "again-1",
          "a replayed event is delivered with its replay id");
  settle_all(subject, "g", deliveries, Outcome::retry("once more", FailureClass::handler, Milliseconds{0}));
  deliveries = again.claim("g", claim_by("d", 2)).deliveries;
  require(deliveries.size() == 2 && deliveries[0].position == a1 && deliveries[0].failures == 1 &&
              replayid_of(deliveries[0]) == "again-1" && deliveries[1].position == a2,
          "and so is its retry");
  Event plain = deliveries[0].event;
  plain.extensions.clear();
  require(plain == make_event("a1", "order.placed", "a"), "only the replay id is added");
  settle_all(subject, "g", {deliveries[0]}, Outcome::reject("dead by replay"));
  settle_all(subject, "g", {deliveries[1]}, Outcome::ack());
  const auto dead = again.dead_letters("g", {});
  require(dead.size() == 1 && dead[0].event == plain, "a dead letter has no replay id");
  require_equal(again.redrive("g", {}), 1U, "redriven");
  deliveries = again.claim("g", claim_by("d")).deliveries;
  std::map<Position, std::string> got;
  for (const Delivery& delivery : deliveries) got[delivery.position] = replayid_of(delivery);
  require(got == std::map<Position, std::string>{{a1, ""}, {died, "again-1"}, {later, ""}},
          "a redrive is no replay, a replayed dead letter is one, and a new event neither");
  settle_all(subject, "g", deliveries, Outcome::ack());
  require_state(again.where("g", died), State::settled, "a replayed dead letter that was acknowledged");
  require(again.dead_letters("g", {}).empty(), "and lies there no more");

  // What becomes of replayed events when the group is moved or altered.
  require(again.replay("g", "two", std::vector{a1, a2}) == std::vector{Status::accepted, Status::accepted}, "again");
  again.alter_group("g", {.skip = a1});
  require_state(again.where("g", a1), State::settled, "a replayed event that was skipped");
  again.alter_group("g", {.seek = Start::after(held)});
  require_state(again.where("g", a2), State::settled, "a seek forgets what was replayed");
  again.alter_group("g", {.seek = Start::after(a1)});
  deliveries = again.claim("g", claim_by("d", 1)).deliveries;
  require(deliveries.size() == 1 && deliveries[0].position == a2 && replayid_of(deliveries[0]).empty(),
          "what a seek back hands out is no replay");
}

void check_history(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning({}, {"order.*"}));
  const Position before_start = append_one(subject, "start");
  ledger.ensure_group("late", {.stream = StreamName(kDefaultStream), .start = Start::end()});
  const Whereabouts passed = ledger.where("late", before_start);
  require_state(passed, State::settled, "an event before the start");
  require(!passed.claim && !passed.settled_after && passed.settled_before,
          "settled by nobody, before the group was made");

  std::vector<Position> at{before_start};
  for (const char* id : {"e1", "e2", "e3", "e4", "e5"}) at.push_back(append_one(subject, id));
  const auto one = ledger.claim("g", claim_by("one", 3)).deliveries;
  const auto two = ledger.claim("g", claim_by("two", 3)).deliveries;
  const auto settled_by = [&](Position position, const Delivery& delivery, const std::string& consumer) {
    const Whereabouts where = subject.ledger().where("g", position);
    require_state(where, State::settled, "position " + position.to_string());
    require(where.claim == delivery.lease.claim && where.consumer == consumer,
            "settled in its claim, by " + consumer + ", not '" + where.consumer + "'");
    require(where.settled_after && where.settled_before && *where.settled_after <= *where.settled_before,
            "between two times");
  };
  const auto settled_by_nobody = [&](Position position, const std::string& what) {
    const Whereabouts where = subject.ledger().where("g", position);
    require_state(where, State::settled, what);
    require(!where.claim && where.consumer.empty() && !where.settled_after && where.settled_before,
            what + ": by nobody, before some time");
  };
  settle_all(subject, "g", {one[0]}, Outcome::ack());
  settled_by(at[0], one[0], "one");  // its claim is not through
  settle_all(subject, "g", {one[1]}, Outcome::retry("later", FailureClass::handler, Milliseconds{0}));
  settle_all(subject, "g", {two[0], two[1], two[2]}, Outcome::ack());
  const auto three = ledger.claim("g", claim_by("three", 1)).deliveries;
  require(three.size() == 1 && three[0].position == at[1], "the retry");
  settle_all(subject, "g", three, Outcome::ack());
  settled_by(at[1], three[0], "three");
  settle_all(subject, "g", {one[2]}, Outcome::reject("no"));  // the claim is through after that of the retry
  settled_by(at[0], one[0], "one");
  settled_by(at[1], three[0], "three");
  settled_by(at[5], two[2], "two");
  if (subject.about().persistent) {
    subject.reopen();
    settled_by(at[0], one[0], "one");
    settled_by(at[1], three[0], "three");
  }
  Ledger& again = subject.ledger();
  again.purge("g", {});
  settled_by_nobody(at[2], "a dead letter that was purged");

  again.replay("g", "r", std::vector{at[0], at[3]});
  again.alter_group("g", {.skip = at[3]});
  settled_by_nobody(at[3], "an event that was skipped");
  const auto four = again.claim("g", claim_by("four")).deliveries;
  settle_all(subject, "g", four, Outcome::ack());
  settled_by(at[0], four.at(0), "four");

  again.alter_group("g", {.seek = Start::after(at[3])});
  const auto five = again.claim("g", claim_by("five")).deliveries;
  require_equal(five.size(), 2U, "handed out once more");
  settle_all(subject, "g", {five[0]}, Outcome::ack());
  again.alter_group("g", {.seek = Start::end()});
  settled_by(at[4], five[0], "five");
  settled_by_nobody(at[5], "an event that a seek passed over while it was claimed");
  settled_by(at[0], four[0], "four");

  // Two events that are settled without a hand-out, in the range of a claim.
  Event expired = make_event("expired");
  expired.set_extension("expirytime", "2001-01-01T00:00:00Z");
  const Position before = append_one(subject, "before");
  const Position dropped = subject.append(expired);
  const Position filtered = append_one(subject, "filtered", {}, "user.seen");
  const Position after = append_one(subject, "after");
  const auto six = again.claim("g", claim_by("six")).deliveries;
  settle_all(subject, "g", six, Outcome::ack());
  settled_by(before, six.at(0), "six");
  settled_by(after, six.at(1), "six");
  settled_by_nobody(dropped, "an expired event");
  again.alter_group("g", {.types = std::vector<std::string>{}});
  settled_by_nobody(filtered, "an event the filter had passed over");
}

void check_history_ends(Subject& subject) {
  const auto settle_one = [&](const std::string& id) {
    subject.ledger().ensure_group("g", from_beginning());
    const Position position = append_one(subject, id);
    settle_all(subject, "g", subject.ledger().claim("g", claim_by("c")).deliveries, Outcome::ack());
    return position;
  };
  const auto known = [&](Position position) {
    const Whereabouts where = subject.ledger().where("g", position);
    require_state(where, State::settled, "an acknowledged event");
    require(where.settled_before.has_value(), "before when it was settled is known");
    return where.claim.has_value();
  };
  subject.reopen_with("history=0");
  require(!known(settle_one("unknown")), "history=0 keeps no history");
  subject.reopen_with("history=2");
  const Position position = settle_one("known");
  require(known(position), "and a history is kept");
  for (int turns = 0; known(position); ++turns) {
    require(turns < 200, "what is older than the history is forgotten");
    std::this_thread::sleep_for(Milliseconds{100});
  }
}

void check_dead_letter_queries(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  const auto bury = [&](const std::string& id) {
    append_one(subject, id);
    settle_all(subject, "g", ledger.claim("g", claim_by("c")).deliveries, Outcome::reject("no"));
    std::this_thread::sleep_for(Milliseconds{2});
  };
  for (const char* id : {"one", "two", "three"}) bury(id);
  const auto dead = ledger.dead_letters("g", {});
  require_equal(dead.size(), 3U, "dead letters");
  const Timestamp second = dead[1].died_at;
  require_equal(ledger.dead_letters("g", {.since = second}).size(), 2U, "dead letters since a time");
  require_equal(ledger.dead_letters("g", {.until = second}).size(), 1U, "dead letters until a time");
  require_equal(ledger.redrive("g", {.since = second, .dry_run = true}), 2U, "a dry redrive");
  require_equal(ledger.purge("g", {.until = second, .dry_run = true}), 1U, "a dry purge");
  require(ledger.group("g").dead == 3 && ledger.group("g").lag.waiting == 0, "a dry run changes nothing");
  require_equal(ledger.purge("g", {.until = second}), 1U, "purged");
  require_equal(ledger.redrive("g", {.since = second, .until = dead[2].died_at}), 1U, "redriven");
  require_equal(ledger.group("g").dead, 1U, "dead letters left");

  // Two redrives at once deliver once.
  std::atomic<std::uint64_t> redriven{0};
  for (int i = 0; i < 20; ++i) bury("more" + std::to_string(i));
  const std::uint64_t waiting = ledger.group("g").lag.waiting;
  const std::uint64_t all = ledger.group("g").dead;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { redriven += ledger.redrive("g", {}); });
  }
  require_equal(redriven.load(), all, "redriven by all together");
  require_equal(ledger.group("g").lag.waiting, waiting + all, "waiting after several redrives at once");
  require_equal(ledger.group("g").dead, 0U, "dead letters after that");
}

}  // namespace millrace::conformance
