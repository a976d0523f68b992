// SPDX-License-Identifier: Apache-2.0

// Many at once: threads, processes, and one store after another over the same file.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "model.hpp"
#include "subject.hpp"

namespace millrace::conformance {
namespace {

/// What all consumers together saw, in the order they saw it.
class Receipts {
 public:
  explicit Receipts(bool ordered) : ordered_(ordered) {}

  void received(const Delivery& delivery) {
    const std::lock_guard lock(mutex_);
    const std::string& key = delivery.event.subject;
    require(!acked_.contains(delivery.position), "an acknowledged event is not handed out again");
    if (!ordered_ || key.empty()) return;
    Key& state = keys_[key];
    require(state.held.insert({delivery.position, delivery.lease.claim}).second, "an event has one holder at a time");
    require(delivery.position > state.last, "no event comes after a later one of its key was acknowledged");
    for (const auto& [position, claim] : state.held) {
      require(claim == delivery.lease.claim, "a key is with one claim at a time");
    }
  }
  /// Before the answer goes to the store: after it, another may have the event at once.
  void answering(const Delivery& delivery, bool ack) {
    const std::lock_guard lock(mutex_);
    if (ack) require(acked_.insert(delivery.position).second, "an event is acknowledged once");
    if (!ordered_ || delivery.event.subject.empty()) return;
    Key& state = keys_[delivery.event.subject];
    if (!ack) {  // the later ones of the claim go back with it
      std::erase_if(state.held, [&](const auto& held) { return held.first >= delivery.position; });
      return;
    }
    state.held.erase({delivery.position, delivery.lease.claim});
    state.last = std::max(state.last, delivery.position);
  }
  [[nodiscard]] bool ordered() const { return ordered_; }
  [[nodiscard]] std::size_t acked() {
    const std::lock_guard lock(mutex_);
    return acked_.size();
  }
  [[nodiscard]] std::set<Position> positions() {
    const std::lock_guard lock(mutex_);
    return acked_;
  }

 private:
  struct Key {
    std::set<std::pair<Position, std::uint64_t>> held;
    Position last;
  };
  const bool ordered_;
  std::mutex mutex_;
  std::set<Position> acked_;
  std::map<std::string, Key> keys_;
};

/// Runs threads, and hands on the first thing that went wrong in any of them.
class Crew {
 public:
  void add(std::function<void()> work) {
    threads_.emplace_back([this, work = std::move(work)] {
      try {
        work();
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = error.what();
        failed_ = true;
      }
    });
  }
  [[nodiscard]] bool failed() const { return failed_; }
  void join() {
    threads_.clear();
    if (failure_) throw Violation(*failure_);
  }

 private:
  std::mutex mutex_;
  std::optional<std::string> failure_;
  std::atomic<bool> failed_{false};
  std::vector<std::jthread> threads_;
};

void consume(Subject& subject, const GroupName& group, const std::string& consumer, std::uint64_t seed,
             Receipts& receipts, const std::function<bool()>& done) {
  const bool ordered = receipts.ordered();
  std::mt19937_64 random(seed);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{120};
  while (!done()) {
    require(std::chrono::steady_clock::now() < deadline, "all events are delivered in time");
    const auto deliveries = subject.ledger().claim(group, claim_by(consumer, 1 + random() % 40)).deliveries;
    if (deliveries.empty()) {
      std::this_thread::sleep_for(Milliseconds{1});
      continue;
    }
    std::set<std::string> given_back;
    for (const Delivery& delivery : deliveries) receipts.received(delivery);
    std::vector<Settlement> settlements;
    for (const Delivery& delivery : deliveries) {
      const std::string& key = delivery.event.subject;
      if (given_back.contains(key)) continue;  // withdrawn with the earlier one
      const std::size_t dice = random() % 20;
      const Outcome outcome = dice == 0   ? Outcome::release()
                              : dice == 1 ? Outcome::retry("again", FailureClass::transient, Milliseconds{0})
                                          : Outcome::ack();
      if (ordered && outcome.kind != Outcome::Kind::ack && !key.empty()) given_back.insert(key);
      receipts.answering(delivery, outcome.kind == Outcome::Kind::ack);
      settlements.push_back({delivery.lease, outcome});
    }
    require_equal(subject.ledger().settle(group, settlements).size(), 0U, "stale leases though none ran out");
  }
}

}  // namespace

void check_concurrent_use(Subject& subject) {
  constexpr std::size_t kAppenders = 3;
  constexpr std::size_t kConsumers = 3;
  const std::size_t per_appender = scaled(1'500);
  const std::size_t total = kAppenders * per_appender;
  subject.ledger().ensure_group("keyed", from_beginning());
  subject.ledger().ensure_group("free", from_beginning(OrderRule::parse("none")));
  std::mutex mutex;
  std::map<Position, std::string> stored;
  Receipts keyed(true), free(false);
  Crew crew;
  for (std::size_t a = 0; a < kAppenders; ++a) {
    crew.add([&, a] {
      std::mt19937_64 random(subject.seed() + a);
      Position last;
      for (std::size_t made = 0; made < per_appender;) {
        std::vector<Event> events;
        for (std::size_t n = std::min<std::size_t>(1 + random() % 50, per_appender - made); n > 0; --n, ++made) {
          const std::size_t key = random() % 20;
          events.push_back(make_event(std::to_string(a) + "/" + std::to_string(made), "t",
                                      key < 12 ? "key" + std::to_string(key) : std::string{}));
        }
        const auto answers = subject.append(events);
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < events.size(); ++i) {
          require(answers[i].status == AppendStatus::stored && *answers[i].position > last,
                  "an appender's events keep their order");
          last = *answers[i].position;
          require(stored.emplace(last, events[i].id).second, "a position is given once");
        }
      }
    });
  }
  for (std::size_t c = 0; c < kConsumers; ++c) {
    const std::string name = "consumer-" + std::to_string(c);
    crew.add([&, c, name] {
      consume(subject, "keyed", name, subject.seed() + 100 + c, keyed,
              [&] { return keyed.acked() >= total || crew.failed(); });
    });
    if (c == 0) continue;
    crew.add([&, c, name] {
      consume(subject, "free", name, subject.seed() + 200 + c, free,
              [&] { return free.acked() >= total || crew.failed(); });
    });
  }
  crew.join();

  std::set<Position> positions;
  ReadQuery query;
  query.limit = 1000;
  for (bool at_end = false; !at_end;) {
    const Page page = subject.log().read(kDefaultStream, query);
    for (const StoredEvent& event : page.events) {
      const auto told = stored.find(event.position);
      require(told != stored.end() && told->second == event.event.id, "an event stands where its appender was told");
      require(positions.insert(event.position).second, "a position is read once");
    }
    at_end = page.at_end;
    query.after = page.next;
  }
  require_equal(positions.size(), total, "events in the log");
  require(keyed.positions() == positions && free.positions() == positions,
          "every event was acknowledged once in every group");
  for (const char* name : {"keyed", "free"}) {
    const GroupInfo info = subject.ledger().group(name);
    require(info.processed == total && info.crashes == 0 && info.dead == 0 &&
                info.lag.ahead + info.lag.in_flight + info.lag.waiting == 0,
            "the group's numbers agree");
  }
}

void check_several_processes(Subject& subject) {
  const std::size_t per_process = scaled(150);
  subject.ledger().ensure_group("shared", from_beginning());
  const auto start = [&](const std::string& role, const std::string& name) {
    const std::string command = std::string("exec '") + MILLRACE_CONFORMANCE_PEER + "' '" + subject.url() + "' " +
                                role + " " + name + " " + std::to_string(per_process) + " 2>&1";
    FILE* pipe = ::popen(command.c_str(), "r");
    require(pipe != nullptr, "a process can be started");
    return pipe;
  };
  std::vector<FILE*> peers{start("append", "x"), start("append", "y"), start("consume", "p"), start("consume", "q")};
  Receipts receipts(true);
  std::vector<Event> events;
  const std::size_t total = 3 * per_process;
  for (std::size_t i = 0; i < per_process; ++i) {
    subject.append(make_event("own/" + std::to_string(i), "t", "key" + std::to_string(i % 5)));
  }
  std::string trouble;
  const auto drained = [&] {
    const GroupInfo info = subject.ledger().group("shared");
    return info.processed >= total;
  };
  try {
    consume(subject, "shared", "owner", subject.seed(), receipts, drained);
  } catch (const Violation& violation) {
    trouble = violation.what();
  }
  std::map<Position, int> acked;
  for (const Position position : receipts.positions()) ++acked[position];
  for (FILE* peer : peers) {
    std::array<char, 4096> line{};
    while (std::fgets(line.data(), line.size(), peer) != nullptr) {
      std::string text(line.data());
      while (!text.empty() && text.back() == '\n') text.pop_back();
      if (text.starts_with("acked ")) {
        ++acked[Position::parse(text.substr(6))];
      } else if (!subject.about().hostile_neighbour || text.find(" warning native_group_") == std::string::npos) {
        trouble += " a process said: " + text;
      }
    }
    if (::pclose(peer) != 0) trouble += " a process failed";
  }
  require(trouble.empty(), trouble);
  require_equal(acked.size(), total, "events acknowledged by all processes");
  for (const auto& [position, times] : acked) require_equal(times, 1, "acknowledgements of " + position.to_string());
  require_equal(subject.log().stream(kDefaultStream).events, total, "events in the log");
}

void check_reopen(Subject& subject) {
  LogModel model;
  const auto append = [&](const std::vector<Event>& events) { model.appended(events, subject.append(events)); };
  append({make_event("0", "t", "k"), make_event("1", "t", "k"), make_event("2"), make_event("3"), make_event("4"),
          make_event("5")});
  GroupSettings settings;
  settings.max_parked = 77;
  subject.ledger().ensure_group("g", from_beginning({}, {"t", "order.*"}, settings));
  const std::uint64_t version = subject.kv().set("key", std::string("a\0b", 3));
  const auto held = subject.ledger().claim("g", claim_by("one", 5)).deliveries;
  require_equal(held.size(), 5U, "deliveries");
  settle_all(subject, "g", {held[2]}, Outcome::retry("later", FailureClass::transient, Milliseconds{3'600'000}));
  settle_all(subject, "g", {held[3]}, Outcome::reject("bad"));
  settle_all(subject, "g", {held[4]}, Outcome::ack());
  const GroupInfo before = subject.ledger().group("g");

  subject.reopen();
  model.check_log(subject.log(), 4);
  require_error(Errc::already_exists, "a stream that was there before", [&] { subject.log().create_stream("logs"); });
  const GroupInfo after = subject.ledger().group("g");
  require(after.types == before.types && after.order == before.order && after.settings == before.settings &&
              after.start == before.start && after.created_at == before.created_at && after.cursor == before.cursor,
          "a group is as it was");
  require(after.lag.ahead == 1 && after.lag.in_flight == 2 && after.lag.waiting == 1 && after.processed == 1 &&
              after.failures == 1 && after.rejected == 1 && after.dead == 1 && after.crashes == 0,
          "so is its progress");
  const auto dead = subject.ledger().dead_letters("g", {});
  require(dead.size() == 1 && dead[0].event == held[3].event, "so are its dead letters");
  require(subject.kv().get("key")->value == std::string("a\0b", 3) && subject.kv().get("key")->version == version,
          "so are keys");
  require(subject.kv().set("other", "x") > version, "versions grow over a reopen");

  append({make_event("0", "t", "k"), make_event("6", "t", "k")});
  const auto more = subject.ledger().claim("g", claim_by("two")).deliveries;
  require(more.size() == 1 && more[0].event.id == "5", "a key stays with its holder over a reopen");
  require(more[0].lease.claim != held[0].lease.claim, "claims are never numbered alike");
  require_equal(settle_all(subject, "g", {held[0], held[1]}, Outcome::ack()), 0U, "leases survive a reopen: stale");
  require_equal(subject.ledger().claim("g", claim_by("two")).deliveries.size(), 1U, "then the key goes on");
  const Position last = model.last();
  TrimRequest trim;
  trim.max_events = 0;
  trim.force = true;
  model.trimmed(subject.log().trim(kDefaultStream, trim).trimmed_to);
  subject.reopen();
  append({make_event("2"), make_event("7")});
  require(model.last() > last, "positions go on over a trim and a reopen");
  model.check_log(subject.log(), 4);
}

}  // namespace millrace::conformance
