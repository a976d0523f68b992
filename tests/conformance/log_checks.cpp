// SPDX-License-Identifier: Apache-2.0

// The log: order, identity, payloads, reading, trimming.

#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "model.hpp"
#include "subject.hpp"

namespace millrace::conformance {

void check_append_and_read(Subject& subject) {
  LogModel model;
  for (int batch = 0; batch < 20; ++batch) {
    std::vector<Event> events;
    for (int i = 0; i <= batch; ++i) events.push_back(make_event(std::to_string(batch) + "-" + std::to_string(i)));
    model.appended(events, subject.append(events));
  }
  for (const std::size_t page : {1U, 7U, 1000U}) model.check_log(subject.log(), page);
  for (const auto& [position, event] : model.events()) {
    const auto found = subject.log().find(kDefaultStream, event.id, event.source);
    require(found.size() == 1 && found[0].stored.position == position && found[0].stored.event == event,
            "find answers what was stored");
  }
  require(subject.log().find(kDefaultStream, "nobody", "/conformance").empty(),
          "find answers nothing for an unknown id");

  require(subject.append(std::vector<Event>{}).empty(), "an append of nothing answers nothing");
  require_error(Errc::unknown_stream, "append to an unknown stream",
                [&] { subject.append({make_event("x")}, StreamName("nowhere")); });
  require_error(Errc::unknown_stream, "read of an unknown stream", [&] { subject.log().read("nowhere", {}); });
  const Retention retention{.max_events = 5, .max_age = std::chrono::hours{1}};
  require_error(Errc::invalid_argument, "a stream that would keep nothing",
                [&] { subject.log().create_stream("mine", {.max_events = 0}); });
  subject.log().create_stream("mine", retention);
  require(subject.log().stream("mine").retention == retention, "a stream is made with its retention");
  require_error(Errc::already_exists, "creating a stream twice", [&] { subject.log().create_stream("mine"); });
  require(subject.append({make_event("0-0")}, StreamName("mine"))[0].status == AppendStatus::stored,
          "an id is unique within its stream only");
  bool logs = false;
  for (const StreamInfo& info : subject.log().streams()) logs |= info.name == StreamName("logs");
  require(logs && subject.log().streams().size() == 3, "streams events and logs exist by default");
}

void check_payloads(Subject& subject) {
  std::string binary;
  for (int i = 0; i < 256; ++i) binary.push_back(static_cast<char>(i));
  std::vector<Event> events{make_event("json"), make_event("none"), make_event("empty"), make_event("binary"),
                            make_event("large")};
  events[1].data.reset();
  events[1].datacontenttype.clear();
  events[2].data = "";
  events[3].data = binary;
  events[3].datacontenttype = "application/octet-stream";
  events[4].data = std::string(1 << 20, '\xAB');
  events[0].time = "2026-11-20T21:33:59.123456789+01:00";
  events[0].dataschema = "https://example.org/schema";
  events[0].extensions = {{"text", std::string("gr\xC3\xBC\xC3\x9F dich")},
                          {"yes", true},
                          {"number", std::int32_t{-5}},
                          {"tenantid", std::string("t")}};
  LogModel model;
  model.appended(events, subject.append(events));
  model.check_log(subject.log(), 100);
  require(subject.append(std::vector{events[2]})[0].status == AppendStatus::duplicate,
          "empty data is equal to empty data");
  Event without = events[2];
  without.data.reset();
  require(subject.append(std::vector{without})[0].status == AppendStatus::conflict, "no data differs from empty data");

  subject.ledger().ensure_group("g", from_beginning());
  const auto answer = subject.ledger().claim("g", claim_by("c"));
  require_equal(answer.deliveries.size(), events.size(), "all are delivered");
  for (std::size_t i = 0; i < events.size(); ++i) {
    require(answer.deliveries[i].event == events[i], "delivered as stored: " + events[i].id);
  }
}

void check_idempotency(Subject& subject) {
  LogModel model;
  const auto append = [&](const std::vector<Event>& events) { model.appended(events, subject.append(events)); };
  const Event a = make_event("a", "t", "", "1");
  Event other_type = a, other_data = a, other_subject = a, other_source = a;
  other_type.type = "u";
  other_data.data = "2";
  other_subject.subject = "elsewhere";  // type and data decide
  other_source.source = "/other";
  append({a, a, make_event("b"), other_data});
  append({a, other_type, other_data, other_subject, other_source});
  append({make_event("c")});
  const Position last = model.last();

  TrimRequest request;
  request.up_to = last;
  const TrimResult trimmed = subject.log().trim(kDefaultStream, request);
  require_equal(trimmed.removed, model.events().size(), "an unread log can be trimmed");
  model.trimmed(trimmed.trimmed_to);
  append({a, other_data, make_event("c"), make_event("new")});
  model.check_log(subject.log(), 10);
  require(model.last() > last, "positions go on after a trim");
}

void check_async_appends(Subject& subject) {
  struct Answered {
    std::mutex mutex;
    std::vector<std::pair<int, AppendAnswer>> all;
  } answered;
  std::promise<void> done;
  constexpr int kCount = 200;
  for (int i = 0; i < kCount; ++i) {
    const bool bad = i % 50 == 49;
    subject.log().append_async(StreamName(bad ? "nowhere" : kDefaultStream), {make_event(std::to_string(i))},
                               subject.about().level, [&, i](AppendAnswer answer) {
                                 const std::lock_guard lock(answered.mutex);
                                 answered.all.emplace_back(i, std::move(answer));
                                 if (answered.all.size() == kCount) done.set_value();
                               });
  }
  require(done.get_future().wait_for(std::chrono::seconds{30}) == std::future_status::ready,
          "every completion is called");
  const std::lock_guard lock(answered.mutex);
  Position last;
  std::vector<int> calls(kCount, 0);
  for (const auto& [i, answer] : answered.all) {
    require_equal(++calls[static_cast<std::size_t>(i)], 1, "calls of one completion");
    if (i % 50 == 49) {
      const Error* error = std::get_if<Error>(&answer);
      require(error && error->code() == Errc::unknown_stream, "a failure arrives in the answer");
      continue;
    }
    const auto* results = std::get_if<std::vector<AppendResult>>(&answer);
    require(results && results->size() == 1 && results->front().status == AppendStatus::stored,
            "an append is answered");
    require(*results->front().position > last, "completions come in commit order");
    last = *results->front().position;
  }
}

void check_read_queries(Subject& subject) {
  std::vector<Event> events;
  for (int i = 0; i < 30; ++i) {
    events.push_back(make_event(std::to_string(i), i % 3 == 0 ? "a.x" : "b.y"));
    events.back().source = i % 2 == 0 ? "/even" : "/odd";
  }
  const auto answers = subject.append(events);
  EventLog& log = subject.log();
  const auto count = [&](ReadQuery query) {
    std::size_t found = 0;
    for (int pages = 0; pages < 100; ++pages) {
      const Page page = log.read(kDefaultStream, query);
      found += page.events.size();
      if (page.at_end) return found;
      query.after = page.next;
    }
    throw Violation("reading onward comes to an end");
  };
  require_equal(count({.types = {"a.*"}}), 10U, "events by type");
  require_equal(count({.types = {"a.*", "b.y"}}), 30U, "events by any of two types");
  require_equal(count({.types = {"a.*"}, .sources = {"/even"}}), 5U, "events by type and source");
  std::vector<Event> keyed{make_event("k1", "k", "one"), make_event("k2", "k", "two"), make_event("k3", "k", "one"),
                           make_event("k4", "k")};
  keyed[2].extensions = {{"partitionkey", std::string("two")}};  // stronger than the subject
  keyed[3].extensions = {{"number", std::int32_t{7}}, {"partitionkey", std::int32_t{7}}};
  const Position newest = subject.append(keyed).back().position.value();
  require_equal(count({.keys = {"one"}}), 1U, "events of a subject");
  require_equal(count({.keys = {"two"}}), 2U, "events of a key");
  require_equal(count({.types = {"k"}, .keys = {"two", "7", "nobody"}}), 3U, "events of any of some keys");
  require_equal(count({.types = {"a.*"}, .keys = {"two"}}), 0U, "type and key both count");
  require_equal(count({.limit = 3, .max_scan = 4, .types = {"a.x"}}), 10U, "events by type, a few looked at per page");
  require_equal(count({.max_bytes = 1}), 34U, "events, one per page");
  const Page first = log.read(kDefaultStream, {.limit = 5});
  require(first.events.size() == 5 && !first.at_end && first.next == *answers[4].position, "a page ends where it says");
  Timestamp previous{};
  for (const StoredEvent& stored : log.read(kDefaultStream, {}).events) {
    require(stored.stored_at >= previous, "stored_at never decreases");
    previous = stored.stored_at;
  }
  std::this_thread::sleep_for(Milliseconds{5});
  const Position later = subject.append(make_event("later"));
  const Timestamp at = log.find(kDefaultStream, "later", "/conformance").at(0).stored.stored_at;
  require_equal(count({.since = at}), 1U, "events since a time");
  require_equal(count({.until = at}), 34U, "events until a time");
  const Position before = log.position_before(kDefaultStream, at);
  require(before >= newest && before < later, "position_before a time");
  require(log.position_before(kDefaultStream, at + std::chrono::hours{1}) == later,
          "position_before the future is the last");

  TrimRequest request;
  request.up_to = *answers[9].position;
  log.trim(kDefaultStream, request);
  const Page gap = log.read(kDefaultStream, {.after = *answers[3].position});
  require(gap.gap == answers[10].position, "a gap names the oldest kept");
  require(!gap.events.empty() && gap.events.front().position == *answers[10].position,
          "reading goes on behind the gap");
  require(!log.read(kDefaultStream, {}).gap, "from the oldest there is no gap");
  require(!log.read(kDefaultStream, {.after = *answers[9].position}).gap, "after the horizon there is no gap");
}

void check_trim(Subject& subject) {
  std::vector<Event> events;
  for (int i = 0; i < 20; ++i) events.push_back(make_event(std::to_string(i)));
  const auto answers = subject.append(events);
  const auto at = [&](std::size_t i) { return *answers[i].position; };
  subject.ledger().ensure_group("slow", from_beginning());
  subject.ledger().ensure_group("late", {.stream = StreamName(kDefaultStream), .start = Start::end()});
  TrimRequest all;
  all.up_to = at(19);
  TrimResult result = subject.log().trim(kDefaultStream, all);
  require_equal(result.removed, 0U, "events removed that a live group has not settled");
  require(result.kept.size() == 1 && result.kept[0].group == GroupName("slow") && result.kept[0].events == 20,
          "trim tells for whom it kept how many");

  const auto claimed = subject.ledger().claim("slow", claim_by("c", 10)).deliveries;
  require_equal(claimed.size(), 10U, "claimed events");
  std::vector<Delivery> but_third = claimed;
  but_third.erase(but_third.begin() + 3);
  settle_all(subject, "slow", but_third, Outcome::ack());
  result = subject.log().trim(kDefaultStream, all);
  require(result.removed == 3 && result.trimmed_to == at(2), "trim stops before the oldest unsettled event");
  require(subject.log().find(kDefaultStream, "3", "/conformance").size() == 1, "the unsettled event is there");
  settle_all(subject, "slow", {claimed[3]}, Outcome::reject("keep a copy"));
  TrimRequest by_count;
  by_count.max_events = 15;
  result = subject.log().trim(kDefaultStream, by_count);
  require(result.removed == 2 && result.kept.empty(), "trim by count keeps as many as asked");
  TrimRequest by_bytes;
  by_bytes.max_bytes = subject.log().stream(kDefaultStream).bytes - 1;
  require_equal(subject.log().trim(kDefaultStream, by_bytes).removed, 1U, "trim by bytes removes no more than needed");
  TrimRequest by_age;
  by_age.max_age = std::chrono::seconds{3600};
  require_equal(subject.log().trim(kDefaultStream, by_age).removed, 0U, "young events trimmed by age");

  all.force = true;
  result = subject.log().trim(kDefaultStream, all);
  require(result.removed == 14 && result.trimmed_to == at(19) && result.kept.empty(), "a forced trim removes all");
  require(subject.ledger().claim("slow", claim_by("c")).deliveries.empty(), "what was removed is not handed out");
  require_equal(subject.ledger().group("slow").lag.ahead, 0U, "lag.ahead after a forced trim");
  const auto dead = subject.ledger().dead_letters("slow", {});
  require(dead.size() == 1 && dead[0].event == events[3], "a dead letter outlives trimming");
  const StreamInfo info = subject.log().stream(kDefaultStream);
  require(info.events == 0 && info.first == Position{} && info.last == at(19) && info.bytes == 0, "an emptied stream");
}

void check_ids_forgotten(Subject& subject) {
  subject.reopen_with("dedup_keep=1");
  EventLog& log = subject.log();
  const Position first = subject.append(make_event("old"));
  const Position second = subject.append(make_event("older"));
  subject.ledger().ensure_group("late", {.stream = StreamName(kDefaultStream), .start = Start::end()});
  std::this_thread::sleep_for(Milliseconds{1'050});
  require(subject.append(std::vector{make_event("old")})[0].status == AppendStatus::duplicate,
          "an id is known while its event is in the log, however old");
  const Position young = subject.append(make_event("young"));
  TrimRequest by_age;
  by_age.max_age = std::chrono::seconds{1};
  const TrimResult trimmed = log.trim(kDefaultStream, by_age);
  require(trimmed.removed == 2 && trimmed.trimmed_to == second, "trim by age removes what is old, and only that");
  require(log.find(kDefaultStream, "young", "/conformance").size() == 1, "what is young stays");
  const auto again = subject.append(std::vector{make_event("old")});
  require(again[0].status == AppendStatus::duplicate && again[0].position == first,
          "a trimmed event's id is known for dedup_keep");
  std::this_thread::sleep_for(Milliseconds{1'100});
  const auto anew = subject.append(std::vector{make_event("old")});
  require(anew[0].status == AppendStatus::stored && *anew[0].position > young,
          "after dedup_keep the id is new, its position too");
}

void check_watch(Subject& subject) {
  struct Calls {
    std::mutex mutex;
    std::condition_variable changed;
    int count = 0;
  } calls;
  const auto called_after = [&](const char* what, const std::function<void()>& act) {
    std::unique_lock lock(calls.mutex);
    const int before = calls.count;
    lock.unlock();
    act();
    lock.lock();
    require(calls.changed.wait_for(lock, std::chrono::seconds{10}, [&] { return calls.count > before; }), what);
  };
  auto watch = subject.log().watch([&] {
    const std::lock_guard lock(calls.mutex);
    ++calls.count;
    calls.changed.notify_all();
  });
  subject.ledger().ensure_group("g", from_beginning());
  called_after("a watcher is woken by an append", [&] { subject.append(make_event("1")); });
  const auto deliveries = subject.ledger().claim("g", claim_by("c")).deliveries;
  require_equal(deliveries.size(), 1U, "deliveries");
  std::this_thread::sleep_for(Milliseconds{50});  // wakes of the append may come late
  called_after("a watcher is woken by a release", [&] { settle_all(subject, "g", deliveries, Outcome::release()); });
  watch.reset();
  const int after = calls.count;
  subject.append(make_event("2"));
  std::this_thread::sleep_for(Milliseconds{50});
  require_equal(calls.count, after, "calls after the watch was destroyed");
}

void check_capabilities(Subject& subject) {
  const Capabilities told = subject.store().capabilities();
  const auto durable = subject.log().append(kDefaultStream, std::vector{make_event("1")}, Durability::durable);
  require(durable[0].durability == told.strongest, "a durable append reaches the strongest level");
  StoreOptions beside;
  beside.url = subject.url();
  beside.access = StoreOptions::Access::tool;
  require((open_store(beside)->log().find(kDefaultStream, "1", "/conformance").size() == 1) ==
              told.shared_between_processes,
          "shared_between_processes tells whether another one sees the same store");
  bool any_relaxed = false;  // one may reach more than it asked for, by travelling with a durable write
  for (int i = 0; i < 20; ++i) {
    const auto answer =
        subject.log().append(kDefaultStream, std::vector{make_event("r" + std::to_string(i))}, Durability::relaxed);
    any_relaxed |= answer[0].durability == Durability::relaxed;
  }
  require(any_relaxed == told.relaxed_differs, "relaxed_differs tells what relaxed appends reach");
  require(!told.name.empty() && !subject.store().describe().empty(), "a store has a name");
  for (const Store::Figure& figure : subject.store().figures()) {
    require(!figure.name.empty() && !figure.help.empty(), "a figure has a name and a help text");
  }
  subject.ledger().ensure_group("g", from_beginning());
  const auto first = subject.ledger().claim("g", claim_by("c", 1)).deliveries;
  settle_all(subject, "g", first, Outcome::release());
  (void)subject.ledger().claim("g", claim_by("d", 1));
  require((settle_all(subject, "g", first, Outcome::ack()) == 1) == told.fences_late_settles,
          "fences_late_settles tells whether late settles are refused");
}

}  // namespace millrace::conformance
