// SPDX-License-Identifier: Apache-2.0

// Where an event is in a group, and opening it once more.

#include <algorithm>
#include <map>

#include "millrace/replay.hpp"
#include "subject.hpp"

namespace millrace::conformance {
namespace {

using State = Whereabouts::State;

Position append_one(Subject& subject, const std::string& id, const std::string& key = {},
                    const std::string& type = "order.placed") {
  return subject.append(make_event(id, type, key));
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
  require_error(Errc::not_found, "where is what comes later", [&] { ledger.where("g", Position(last.low + 1)); });
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

  const std::vector<Position> positions{trimmed, a2, a1, a1, died, filtered, held, later, Position(later.low + 1)};
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

}  // namespace millrace::conformance
