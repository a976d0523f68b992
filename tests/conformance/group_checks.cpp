// SPDX-License-Identifier: Apache-2.0

// Groups: identity, start, numbers, dead letters, limits.

#include <thread>

#include "subject.hpp"

namespace millrace::conformance {
namespace {

std::vector<Position> append_many(Subject& subject, std::size_t count, const std::string& key = {},
                                  const std::string& prefix = "e") {
  std::vector<Event> events;
  for (std::size_t i = 0; i < count; ++i) events.push_back(make_event(prefix + std::to_string(i), "order.placed", key));
  std::vector<Position> positions;
  for (const AppendResult& answer : subject.append(events)) positions.push_back(answer.position.value());
  return positions;
}

}  // namespace

void check_group_identity(Subject& subject) {
  Ledger& ledger = subject.ledger();
  require_error(Errc::unknown_group, "a group without a stream", [&] { ledger.ensure_group("g", {}); });
  require_error(Errc::unknown_group, "an unknown group", [&] { ledger.group("g"); });
  require_error(Errc::unknown_group, "a claim of an unknown group", [&] { ledger.claim("g", claim_by("c")); });
  require_error(Errc::unknown_stream, "a group on an unknown stream",
                [&] { ledger.ensure_group("g", {.stream = StreamName("nowhere"), .start = Start::end()}); });
  require(ledger.groups().empty(), "a refused group is not made");

  const GroupSpec spec = from_beginning(OrderRule::parse("attribute:tenantid"), {"a.*", "b"});
  const GroupInfo made = ledger.ensure_group("g", spec);
  require(made.stream == StreamName("events") && made.types == std::vector<std::string>{"a.*", "b"} &&
              made.order == *spec.order && made.start == Start::beginning() && made.settings == GroupSettings{},
          "a group is as it was made");
  ledger.ensure_group("g", {});
  ledger.ensure_group("g", spec);
  const auto mismatch = [&](const char* field, const GroupSpec& other) {
    try {
      ledger.ensure_group("g", other);
    } catch (const Error& error) {
      require(error.code() == Errc::group_mismatch && error.object() == field,
              std::string("the mismatch is named: ") + error.what());
      return;
    }
    throw Violation(std::string("another ") + field + " is refused");
  };
  mismatch("stream", {.stream = StreamName("logs")});
  mismatch("start", {.start = Start::end()});
  mismatch("types", {.types = std::vector<std::string>{"a.*"}});
  mismatch("order", {.order = OrderRule{}});
  GroupSettings settings;
  settings.max_parked = 7;
  require(ledger.ensure_group("g", {.settings = settings}).settings.max_parked == 7, "settings given later replace");

  require_error(Errc::invalid_argument, "a claim without a consumer", [&] { ledger.claim("g", claim_by("")); });
  require_error(Errc::not_found, "a skip of nothing", [&] { ledger.alter_group("g", {.skip = Position{1}}); });
  ledger.alter_group("g", {.types = std::vector<std::string>{"c"}, .order = OrderRule{}});
  const auto changed = ledger.group("g");
  require(changed.types == std::vector<std::string>{"c"} && changed.order == OrderRule{}, "altered on purpose");
  subject.append(make_event("1", "c"));
  require_equal(ledger.claim("g", claim_by("c")).deliveries.size(), 1U, "deliveries by the altered filter");
  require_error(Errc::busy, "another order while events are unsettled",
                [&] { ledger.alter_group("g", {.order = OrderRule::parse("none")}); });
  require(ledger.group("g").consumers == std::vector<std::string>{"c"}, "consumers that hold a claim are told");
  const SessionId session = ledger.open_session("s", Milliseconds{600'000});
  ledger.claim("g", {.consumer = "s", .max = 1, .hold = session});
  require(ledger.group("g").consumers == std::vector<std::string>{"c", "s"}, "and those whose session has claimed");
  ledger.close_session(session);
  require(ledger.group("g").consumers == std::vector<std::string>{"c"}, "until it ends");
  ledger.delete_group("g");
  require_error(Errc::unknown_group, "a deleted group", [&] { ledger.group("g"); });
}

void check_starts(Subject& subject) {
  const auto before = append_many(subject, 5, "", "before");
  std::this_thread::sleep_for(Milliseconds{5});
  const auto after = append_many(subject, 3, "", "after");
  const Timestamp boundary = subject.log().find(kDefaultStream, "after0", "/conformance").at(0).stored.stored_at;
  const auto handed_out = [&](const char* name, const Start& start) {
    subject.ledger().ensure_group(name, {.stream = StreamName(kDefaultStream), .start = start});
    return subject.ledger().claim(name, claim_by("c")).deliveries.size();
  };
  require_equal(handed_out("beginning", Start::beginning()), 8U, "events from the beginning");
  require_equal(handed_out("end", Start::end()), 0U, "events from the end");
  require_equal(handed_out("position", Start::after(before[2])), 5U, "events after a position");
  require_equal(handed_out("time", Start::at(boundary)), 3U, "events since a time");
  // A position no event has yet means: from now on.
  const Start beyond = Start::after(Position(after.back().high, after.back().low + 1000));
  require_equal(handed_out("beyond", beyond), 0U, "events after a position beyond the end");
  require(subject.ledger().group("beyond").cursor == after.back(), "a start beyond the end is the end");
  const GroupInfo moved = subject.ledger().alter_group("beginning", {.seek = beyond});
  require(moved.cursor == after.back() && moved.lag.ahead == 0, "a seek beyond the end is the end");
  append_many(subject, 2, "", "more");
  require_equal(subject.ledger().claim("beyond", claim_by("c")).deliveries.size(), 2U,
                "events appended after a start beyond the end");
  require_equal(subject.ledger().claim("beginning", claim_by("c")).deliveries.size(), 2U,
                "events appended after a seek beyond the end");
  require_equal(subject.ledger().claim("end", claim_by("c")).deliveries.size(), 2U,
                "events appended after a start at the end");
}

void check_group_expiry(Subject& subject) {
  Ledger& ledger = subject.ledger();
  GroupSettings settings;
  settings.expires = std::chrono::seconds{1};
  ledger.ensure_group("unused", from_beginning({}, {}, settings));
  ledger.ensure_group("used", from_beginning({}, {}, settings));
  ledger.ensure_group("forever", from_beginning());
  const auto positions = append_many(subject, 1);
  const SessionId session = ledger.open_session("c", Milliseconds{5'000});
  ClaimRequest request = claim_by("c");
  request.hold = session;
  require_equal(ledger.claim("used", request).deliveries.size(), 1U, "deliveries to a session");
  const auto names = [&] {
    std::string all;
    for (const GroupInfo& info : ledger.groups()) all += info.name.str() + " ";
    return all;
  };
  for (int i = 0; i < 150 && names() != "forever used "; ++i) {
    std::this_thread::sleep_for(Milliseconds{100});
    require(ledger.renew_session(session), "a session is renewed");
  }
  require(names() == "forever used ", "groups nobody uses go, those of a living session stay: " + names());
  for (int i = 0; i < 15; ++i) {
    std::this_thread::sleep_for(Milliseconds{100});
    require(ledger.renew_session(session), "a session is renewed");
  }
  require(names() == "forever used ", "a living session keeps its group: " + names());
  require_error(Errc::unknown_group, "an expired group", [&] { ledger.group("unused"); });
}

void check_lag(Subject& subject) {
  Ledger& ledger = subject.ledger();
  GroupSettings settings;
  ledger.ensure_group("g", from_beginning({}, {"order.*"}, settings));
  const auto lag_is = [&](std::uint64_t ahead, std::uint64_t in_flight, std::uint64_t waiting, const char* when) {
    const Lag lag = ledger.group("g").lag;
    require(lag.ahead == ahead && lag.in_flight == in_flight && lag.waiting == waiting,
            std::string("lag ") + when + ": " + std::to_string(lag.ahead) + ", " + std::to_string(lag.in_flight) +
                ", " + std::to_string(lag.waiting));
    require((lag.oldest_seconds > 0) == (ahead + in_flight + waiting > 0), std::string("oldest_seconds ") + when);
  };
  lag_is(0, 0, 0, "of an empty stream");
  append_many(subject, 6);
  subject.append(make_event("other", "user.seen"));
  append_many(subject, 1, "", "last");
  std::this_thread::sleep_for(Milliseconds{2});
  lag_is(8, 0, 0, "counts all ahead, before the filter");
  const auto four = ledger.claim("g", claim_by("c", 4)).deliveries;
  lag_is(4, 4, 0, "counts claimed events as in flight");
  settle_all(subject, "g", {four[0]}, Outcome::retry("later", FailureClass::handler, Milliseconds{3'600'000}));
  settle_all(subject, "g", {four[1]}, Outcome::release());
  settle_all(subject, "g", {four[2]}, Outcome::ack());
  lag_is(4, 1, 2, "counts retries and released events as waiting");
  const auto rest = ledger.claim("g", claim_by("d")).deliveries;
  require_equal(rest.size(), 4U, "the released one and three new ones");
  lag_is(0, 5, 1, "is in flight once claimed");
  settle_all(subject, "g", rest, Outcome::ack());
  settle_all(subject, "g", {four[3]}, Outcome::reject("no"));
  lag_is(0, 0, 1, "does not count dead letters");
  const ClaimAnswer nothing = ledger.claim("g", claim_by("d"));
  require(nothing.deliveries.empty() && nothing.next_due && *nothing.next_due > Milliseconds{0} &&
              *nothing.next_due <= Milliseconds{3'600'000},
          "an empty answer tells when a retry is due");
  ledger.alter_group("g", {.skip = four[0].position});
  lag_is(0, 0, 0, "is nothing when all is settled");
  const GroupInfo info = ledger.group("g");
  require(info.processed == 5 && info.failures == 1 && info.rejected == 1 && info.dead == 1 && info.skipped == 1 &&
              info.crashes == 0,
          "counters tell what happened");
  ledger.alter_group("g", {.seek = Start::beginning()});
  lag_is(8, 0, 0, "after a seek back");
  ledger.alter_group("g", {.seek = Start::end()});
  lag_is(0, 0, 0, "after a seek to the end");
  require_equal(ledger.group("g").skipped, 9U, "events passed over are skipped");
}

void check_dead_letters(Subject& subject) {
  Ledger& ledger = subject.ledger();
  GroupSettings settings;
  settings.retry.max_attempts = 2;
  ledger.ensure_group("g", from_beginning({}, {}, settings));
  ledger.ensure_group("other", from_beginning());
  append_many(subject, 4);
  auto deliveries = ledger.claim("g", claim_by("c")).deliveries;
  settle_all(subject, "g", {deliveries[0]}, Outcome::reject("spoiled"));
  settle_all(subject, "g", {deliveries[1]}, Outcome::retry("first", FailureClass::handler, Milliseconds{0}));
  settle_all(subject, "g", {deliveries[2], deliveries[3]}, Outcome::ack());
  deliveries = ledger.claim("g", claim_by("c")).deliveries;
  require(deliveries.size() == 1 && deliveries[0].attempt == 2 && deliveries[0].failures == 1,
          "a retry tells what was before");
  settle_all(subject, "g", deliveries, Outcome::retry("second", FailureClass::handler, Milliseconds{0}));

  const auto dead = ledger.dead_letters("g", {});
  require(dead.size() == 2 && dead[0].reason.find("spoiled") != std::string::npos && dead[0].attempts == 1 &&
              dead[1].reason.find("second") != std::string::npos && dead[1].failures == 2 && dead[1].attempts == 2,
          "dead letters tell why");
  require(ledger.dead_letters("other", {}).empty(), "dead letters belong to their group");
  require_equal(ledger.dead_letters("g", {.after = dead[0].position}).size(), 1U, "dead letters after a position");
  require_equal(ledger.dead_letters("g", {.limit = 1}).size(), 1U, "dead letters, limited");
  require_equal(ledger.dead_letters("g", {.reason_contains = "spoiled"}).size(), 1U, "dead letters by reason");
  require_equal(ledger.dead_letters("g", {.types = {"user.*"}}).size(), 0U, "dead letters by type");

  TrimRequest trim;
  trim.up_to = dead[1].position;
  trim.force = true;
  subject.log().trim(kDefaultStream, trim);
  require_equal(ledger.redrive("g", {.positions = {dead[1].position}}), 1U, "redriven");
  require(ledger.dead_letters("g", {}).size() == 1 && ledger.group("g").dead == 1,
          "a redriven event is no dead letter");
  deliveries = ledger.claim("g", claim_by("c")).deliveries;
  require(deliveries.size() == 1 && deliveries[0].event == dead[1].event && deliveries[0].attempt == 1 &&
              deliveries[0].failures == 0,
          "a redriven event starts afresh, trimmed or not");
  settle_all(subject, "g", deliveries, Outcome::reject("again"));
  require(ledger.dead_letters("g", {}).size() == 2 && ledger.dead_letters("g", {})[1].event == dead[1].event,
          "it may die again");
  require_equal(ledger.redrive("g", {.reason_contains = "again"}), 1U, "redriven again");
  settle_all(subject, "g", ledger.claim("g", claim_by("c")).deliveries, Outcome::ack());
  require_equal(ledger.group("g").lag.waiting, 0U, "waiting after all is settled");
  require_equal(ledger.purge("g", {}), 1U, "purged");
  require(ledger.dead_letters("g", {}).empty() && ledger.redrive("g", {}) == 0, "what was purged is gone");
}

void check_max_parked(Subject& subject) {
  GroupSettings settings;
  settings.max_parked = 3;
  subject.ledger().ensure_group("g", from_beginning({}, {}, settings));
  append_many(subject, 1, "busy", "first");
  const auto held = subject.ledger().claim("g", claim_by("c")).deliveries;
  append_many(subject, 5, "busy", "behind");
  append_many(subject, 1, "free", "free");
  require(subject.ledger().claim("g", claim_by("d")).deliveries.empty(), "claiming stops at max_parked");
  GroupInfo info = subject.ledger().group("g");
  require(info.parked == 3 && info.stalled.find("max_parked") != std::string::npos, "status says why");
  settle_all(subject, "g", held, Outcome::ack());
  const auto rest = subject.ledger().claim("g", claim_by("d")).deliveries;
  require_equal(rest.size(), 6U, "events handed out once the key is free");
  settle_all(subject, "g", rest, Outcome::ack());
  info = subject.ledger().group("g");
  require(info.parked == 0 && info.stalled.empty(), "and it is not stalled any more");
}

void check_expirytime(Subject& subject) {
  Event past = make_event("past"), future = make_event("future");
  past.set_extension("expirytime", "2001-01-01T00:00:00Z");
  future.set_extension("expirytime", "2999-01-01T00:00:00Z");
  subject.ledger().ensure_group("g", from_beginning());
  subject.append({past, future});
  const auto deliveries = subject.ledger().claim("g", claim_by("c")).deliveries;
  require(deliveries.size() == 1 && deliveries[0].event.id == "future", "an expired event is handed to nobody");
  const GroupInfo info = subject.ledger().group("g");
  require(info.expired == 1 && info.lag.in_flight == 1 && info.lag.waiting == 0,
          "an expired event is settled and counted");
}

}  // namespace millrace::conformance
