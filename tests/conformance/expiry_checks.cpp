// SPDX-License-Identifier: Apache-2.0

// Dead letters whose `expirytime` passes, and when an open event is tried next.

#include <chrono>
#include <thread>

#include "base/time.hpp"
#include "subject.hpp"

namespace millrace::conformance {
namespace {

/// Makes a dead letter of a new event before its `expirytime`, so many milliseconds from now; nullopt when the machine
/// was too slow for that.
std::optional<Timestamp> dead_letter_that_expires(Subject& subject, const std::string& id, Milliseconds in) {
  const Timestamp expires = wall_now() + in;
  Event event = make_event(id);
  event.set_extension("expirytime", format_rfc3339(expires));
  subject.append(event);
  const auto deliveries = subject.ledger().claim("g", claim_by("c")).deliveries;
  if (deliveries.empty()) return std::nullopt;
  settle_all(subject, "g", deliveries, Outcome::reject("spoiled"));
  return expires;
}

}  // namespace

void check_expired_dead_letter(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  std::optional<Timestamp> expires;
  for (Milliseconds in{300}; !expires && in < Milliseconds{60'000}; in *= 3) {
    expires = dead_letter_that_expires(subject, "soon-" + std::to_string(in.count()), in);
  }
  require(expires.has_value(), "an event is delivered before its expirytime");
  // By the store's clock, which a store beyond a socket knows only as well as its first answer was quick.
  while (wall_now() <= *expires + std::chrono::seconds{1}) std::this_thread::sleep_for(Milliseconds{20});
  const std::uint64_t before = ledger.group("g").expired;
  require_equal(ledger.redrive("g", {}), 1U, "redriven dead letters");
  require(ledger.claim("g", claim_by("c")).deliveries.empty(), "a redriven event that has expired is handed to nobody");
  const GroupInfo info = ledger.group("g");
  require(info.expired == before + 1 && info.dead == 0 && info.lag.waiting == 0, "it is settled and counted");
}

void check_next_try(Subject& subject) {
  Ledger& ledger = subject.ledger();
  ledger.ensure_group("g", from_beginning());
  subject.append({make_event("released"), make_event("later"), make_event("held")});
  const auto deliveries = ledger.claim("g", claim_by("c")).deliveries;
  require_equal(deliveries.size(), 3U, "deliveries");
  settle_all(subject, "g", {deliveries[0]}, Outcome::release());
  const Timestamp asked = wall_now();
  settle_all(subject, "g", {deliveries[1]}, Outcome::retry("no", FailureClass::handler, Milliseconds{3'600'000}));
  const auto pending = ledger.pending("g", {}, 10);
  require_equal(pending.size(), 3U, "open events");
  require(pending[0].state == PendingEvent::State::waiting && !pending[0].next_try,
          "what was given back waits for no time");
  require(pending[1].next_try && *pending[1].next_try > asked + std::chrono::minutes{59}, "a retry says when");
  require(pending[2].state == PendingEvent::State::claimed && !pending[2].next_try, "who holds it need not try");
}

}  // namespace millrace::conformance
