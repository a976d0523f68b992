// SPDX-License-Identifier: Apache-2.0

// Finding by id, retention, and erasing.

#include <chrono>
#include <functional>
#include <thread>

#include "subject.hpp"

namespace millrace::conformance {
namespace {

Event event_from(const std::string& source, const std::string& id, const std::string& data = "{}") {
  Event event = make_event(id, "order.placed", "", data);
  event.source = source;
  return event;
}

/// Waits for what a thread of the store is to do soon.
void require_soon(const std::string& what, const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while (!holds()) {
    require(std::chrono::steady_clock::now() < deadline, what);
    std::this_thread::sleep_for(Milliseconds{5});
  }
}

std::vector<Event> numbered(int count) {
  std::vector<Event> events;
  for (int i = 0; i < count; ++i) events.push_back(make_event(std::to_string(i)));
  return events;
}

}  // namespace

void check_find(Subject& subject) {
  EventLog& log = subject.log();
  const auto answers = subject.append(
      {event_from("/b", "x", "1"), event_from("/a", "x", "2"), event_from("/a", "y"), event_from("/a", "xx")});
  const auto found = log.find(kDefaultStream, "x");
  require(found.size() == 2 && found[0].stored.position == *answers[0].position &&
              found[1].stored.position == *answers[1].position,
          "find by id alone answers every source's, by position");
  require(found[0].stored.event.data == "1" && found[1].stored.event.data == "2" && !found[0].trimmed_at,
          "find answers the events themselves");
  require(found[0].stored.stored_at > Timestamp{} && found[0].stored.stored_at <= found[1].stored.stored_at,
          "find answers when they were stored");
  const auto one = log.find(kDefaultStream, "x", "/a");
  require(one.size() == 1 && one[0].stored.position == *answers[1].position, "find by id and source answers that one");
  require(log.find(kDefaultStream, "x", "/c").empty() && log.find(kDefaultStream, "").empty(),
          "find answers nothing for what is not there");
  require_error(Errc::unknown_stream, "find in an unknown stream", [&] { log.find("nowhere", "x"); });

  const Durability strongest = subject.store().capabilities().strongest;
  (void)log.append(kDefaultStream, std::vector{event_from("/a", "settled")}, Durability::durable);
  for (const FoundEvent& event : log.find(kDefaultStream, "x")) {
    require(event.durability == strongest, "find answers the level reached by now");
  }
  const StreamInfo before = log.stream(kDefaultStream);
  require(before.durable_to == (strongest == Durability::durable ? before.last : Position{}),
          "after a synced append all of the stream is on disk");
  (void)log.append(kDefaultStream, std::vector{event_from("/a", "loose")}, Durability::relaxed);
  const StreamInfo after = log.stream(kDefaultStream);
  const Durability reached = log.find(kDefaultStream, "loose").at(0).durability;
  require(after.durable_to >= before.durable_to &&
              (reached == strongest) == (after.durable_to >= after.last || strongest != Durability::durable),
          "what stands behind durable_to is relaxed, what stands before it durable");

  TrimRequest request;
  request.up_to = *answers[0].position;
  log.trim(kDefaultStream, request);
  const auto trimmed = log.find(kDefaultStream, "x");
  require(trimmed.size() == 2 && trimmed[0].trimmed_at && !trimmed[1].trimmed_at, "find knows what was trimmed");
  const Event& left = trimmed[0].stored.event;
  require(trimmed[0].stored.position == *answers[0].position && left.id == "x" && left.source == "/b" && !left.data,
          "of what was trimmed find knows position, id and source");

  std::vector<Event> many;
  for (int i = 0; i < 150; ++i) many.push_back(event_from("/" + std::to_string(i), "many"));
  subject.append(many);
  require_equal(log.find(kDefaultStream, "many").size(), 100U, "events found under one id");
}

void check_dry_run(Subject& subject) {
  EventLog& log = subject.log();
  const auto answers = subject.append(numbered(20));
  subject.ledger().ensure_group("slow", from_beginning());
  settle_all(subject, "slow", subject.ledger().claim("slow", claim_by("c", 5)).deliveries, Outcome::ack());
  TrimRequest request;
  request.max_events = 8;
  request.dry_run = true;
  const TrimResult dry = log.trim(kDefaultStream, request);
  require_equal(log.stream(kDefaultStream).events, 20U, "events after a dry run");
  require(!log.stream(kDefaultStream).last_trim_at, "a dry run is not recorded as a trim");
  require_equal(dry.removed, 5U, "events a dry run would remove");
  require(dry.kept.size() == 1 && dry.kept[0].events == 7, "a dry run says what is kept for whom");
  require(dry.trimmed_to == *answers[4].position, "a dry run says up to where");
  request.dry_run = false;
  const TrimResult wet = log.trim(kDefaultStream, request);
  require(wet.removed == dry.removed && wet.trimmed_to == dry.trimmed_to && wet.kept.size() == 1 &&
              wet.kept[0].group == dry.kept[0].group && wet.kept[0].events == dry.kept[0].events,
          "the trim does what the dry run said");
  const StreamInfo info = log.stream(kDefaultStream);
  require(info.last_trim_at && info.last_trim.removed == 5 && info.last_trim.kept.size() == 1 &&
              info.last_trim.trimmed_to == wet.trimmed_to,
          "the stream tells what its last trim did");
}

void check_retention(Subject& subject) {
  EventLog& log = subject.log();
  require(log.stream(kDefaultStream).retention == Retention{}, "a stream keeps everything at first");
  const auto answers = subject.append(numbered(30));
  subject.ledger().ensure_group("slow", from_beginning());
  settle_all(subject, "slow", subject.ledger().claim("slow", claim_by("c", 12)).deliveries, Outcome::ack());
  Retention retention;
  retention.max_events = 10;
  retention.interval = std::chrono::seconds{1};
  require(log.set_retention(kDefaultStream, retention).retention == retention, "a retention is recorded");
  require_soon("the owner trims at once when a retention is set",
               [&] { return log.stream(kDefaultStream).events == 18; });
  require_soon("what it did is told", [&] { return log.stream(kDefaultStream).last_trim_at.has_value(); });
  const StreamInfo held = log.stream(kDefaultStream);
  require(held.trimmed_to == *answers[11].position && held.last_trim.kept.size() == 1 &&
              held.last_trim.kept[0].group == GroupName("slow") && held.last_trim.kept[0].events == 8,
          "retention keeps what a live group has not settled, and says for whom");
  settle_all(subject, "slow", subject.ledger().claim("slow", claim_by("c", 18)).deliveries, Outcome::ack());
  require_soon("the owner trims again after the interval", [&] { return log.stream(kDefaultStream).events == 10; });

  retention.interval = std::chrono::hours{24};
  // What setting it answers may tell of its first application already.
  const Timestamp before = *log.stream(kDefaultStream).last_trim_at;
  log.set_retention(kDefaultStream, retention);
  require_soon("set again, it is applied at once", [&] { return *log.stream(kDefaultStream).last_trim_at > before; });
  // A trim by the former retention may have been under way, and then one by this one follows: wait until it is quiet.
  Timestamp last = *log.stream(kDefaultStream).last_trim_at;
  for (int quiet = 0; quiet < 20; ++quiet) {
    std::this_thread::sleep_for(Milliseconds{20});
    const Timestamp now = *log.stream(kDefaultStream).last_trim_at;
    if (now != last) quiet = 0;
    last = now;
  }
  subject.append({make_event("more")});
  if (subject.about().persistent) {
    subject.reopen();
    require(subject.log().stream(kDefaultStream).retention == retention, "a retention outlives the process");
    std::this_thread::sleep_for(Milliseconds{50});
    require(*subject.log().stream(kDefaultStream).last_trim_at == last, "opening the store is no reason to trim");
  }
  require_equal(subject.log().stream(kDefaultStream).events, 11U, "events within the interval");

  const auto limited = subject.log().change_retention(kDefaultStream, [](Retention now) {
    now.max_age = std::chrono::hours{2400};
    return now;
  });
  retention.max_age = std::chrono::hours{2400};
  require(limited.retention == retention, "a change leaves the rest as it is");
  // Two that read before either writes would lose one of the two.
  std::vector<std::jthread> admins;
  for (int i = 0; i < 2; ++i) {
    admins.emplace_back([&, i] {
      for (int n = 0; n < 20; ++n) {
        subject.log().change_retention(kDefaultStream, [i](Retention now) {
          (i == 0 ? now.max_events : now.max_bytes) = (i == 0 ? now.max_events : now.max_bytes).value_or(1'000) + 1;
          return now;
        });
      }
    });
  }
  admins.clear();
  const Retention both = subject.log().stream(kDefaultStream).retention;
  require(both.max_events == 30U && both.max_bytes == 1'020U, "no change is lost when two come at once");
  require_error(Errc::busy, "a change that thinks better of it", [&] {
    subject.log().change_retention(kDefaultStream,
                                   [](const Retention&) -> Retention { throw Error(Errc::busy, "test", "", "no"); });
  });
  require(subject.log().stream(kDefaultStream).retention == both, "leaves all as it was");

  Retention none;
  none.max_events = 0;
  require_error(Errc::invalid_argument, "a retention that keeps nothing",
                [&] { subject.log().set_retention(kDefaultStream, none); });
  require_error(Errc::unknown_stream, "retention of an unknown stream",
                [&] { subject.log().set_retention("nowhere", retention); });
  double trims = 0;
  for (const Store::Figure& figure : subject.store().figures()) {
    if (figure.name == "retention_trims_total") trims += figure.value + 1;
  }
  require(trims > 0, "trims by retention are counted");
}

void check_erase(Subject& subject) {
  EventLog& log = subject.log();
  Ledger& ledger = subject.ledger();
  std::vector<Event> events{make_event("before"), make_event("secret", "order.placed", "k", "the secret"),
                            make_event("large", "order.placed", "", std::string(100'000, 's')), make_event("after")};
  events[1].extensions = {{"tenantid", std::string("t")}};
  const auto answers = subject.append(events);
  ledger.ensure_group("dead", from_beginning());
  ledger.ensure_group("reader", from_beginning());
  auto deliveries = ledger.claim("dead", claim_by("c")).deliveries;
  settle_all(subject, "dead", deliveries, Outcome::reject("no use"));
  settle_all(subject, "reader", ledger.claim("reader", claim_by("c", 1)).deliveries, Outcome::ack());
  const std::uint64_t bytes = log.stream(kDefaultStream).bytes;

  require(!log.erase(kDefaultStream, "/conformance", "nobody"), "erasing what is not there answers nothing");
  require(!log.erase(kDefaultStream, "/other", "secret"), "the source counts");
  require_error(Errc::unknown_stream, "erase in an unknown stream", [&] { log.erase("nowhere", "/a", "b"); });
  require(log.erase(kDefaultStream, "/conformance", "secret") == answers[1].position,
          "erase answers where the event stands");
  require(log.erase(kDefaultStream, "/conformance", "large") == answers[2].position, "a large one, too");
  const StoredEvent erased = log.find(kDefaultStream, "secret").at(0).stored;
  require(!erased.event.data && erased.position == *answers[1].position, "an erased event has no data");
  const AttributeValue* since = erased.event.extension(kErasedTime);
  require(since && std::holds_alternative<std::string>(*since), "an erased event says since when");
  Event rest = erased.event;
  std::erase_if(rest.extensions, [](const Extension& extension) { return extension.name == kErasedTime; });
  rest.data = events[1].data;
  require(rest == events[1], "an erased event keeps its attributes");
  require(log.stream(kDefaultStream).bytes < bytes - 90'000, "what was erased does not count any more");
  require(log.erase(kDefaultStream, "/conformance", "secret") == answers[1].position, "erasing twice is as once");
  require(log.find(kDefaultStream, "secret").at(0).stored.event == erased.event, "erasing twice changes nothing");

  const Page page = log.read(kDefaultStream, {});
  require(page.events.size() == 4 && page.events[1].event == erased.event && page.events[3].event == events[3],
          "reading shows the event without its data, and the others as they were");
  const auto letters = ledger.dead_letters("dead", {});
  require(letters.size() == 4 && letters[1].event == erased.event && !letters[2].event.data &&
              letters[0].event == events[0],
          "dead letters are erased, too");
  deliveries = ledger.claim("reader", claim_by("c")).deliveries;
  require(deliveries.size() == 3 && deliveries[0].event == erased.event && !deliveries[1].event.data,
          "what is handed out later has no data");

  const auto again = subject.append({events[1], events[0]});
  require(again[0].status == AppendStatus::duplicate && again[0].position == answers[1].position,
          "an erased event appended again is a duplicate");
  Event other = events[1];
  other.data = "something else";
  require(subject.append(std::vector{other})[0].status == AppendStatus::duplicate,
          "so it is with other data: what it was is not known any more");
  settle_all(subject, "reader", deliveries, Outcome::ack());
  TrimRequest all;
  all.up_to = *answers[3].position;
  require_equal(log.trim(kDefaultStream, all).removed, 4U, "trimmed events");
  require(subject.append(std::vector{events[1]})[0].status == AppendStatus::duplicate,
          "an erased event is known after trimming");
  require_equal(log.stream(kDefaultStream).bytes, 0U, "bytes of an empty stream");
  require(log.erase(kDefaultStream, "/conformance", "after") == answers[3].position &&
              !ledger.dead_letters("dead", {}).at(3).event.data,
          "of a trimmed event the dead letter is erased");
}

}  // namespace millrace::conformance
