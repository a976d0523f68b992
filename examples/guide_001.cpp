// SPDX-License-Identifier: Apache-2.0
// The event persistence guide, walked in its order: each heading below is one of its headings. docs/guides/001.md sets
// its steps beside ours. Prints what it does, checks what is promised, and ends with 1 when a promise does not hold.
// Usage: guide_001 [URL or path of a new store]
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <latch>
#include <memory>
#include <millrace/millrace.hpp>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace millrace;
using namespace std::chrono_literals;

namespace {

constexpr Milliseconds kPatience{20'000};

/// What every step works on.
struct Walk {
  Store& store;
  Bus bus;
  int broken = 0;

  explicit Walk(Store& opened) : store(opened), bus(&opened) {}
  void promise(bool holds, const std::string& what) {
    std::cout << (holds ? "  holds   " : "  BROKEN  ") << what << "\n";
    if (!holds) ++broken;
  }
};

void heading(const std::string& text) {
  std::cout << "\n" << text << "\n";
}

Event asset_discovered_v1(const std::string& asset) {
  return EventBuilder("asset.discovered", "/scanner")
      .subject(asset)
      .json(R"({"asset_id":")" + asset + R"(","path":"/images/)" + asset + R"(.jpg","file_size":1024000})")
      .build();
}

/// A member of a flat JSON object, as text. Stands for the JSON library that a program uses anyway.
std::string member(const Event& event, const std::string& name) {
  const std::string& json = event.data.value();
  const std::size_t at = json.find("\"" + name + "\":");
  if (at == std::string::npos) throw std::runtime_error("there is no " + name);
  const std::size_t begin = at + name.size() + 3;
  const std::string value = json.substr(begin, json.find_first_of(",}", begin) - begin);
  return value.starts_with('"') ? value.substr(1, value.size() - 2) : value;
}

/// Retries in milliseconds, so that the walk is short. The default waits a second, then two, then four …
RetryPolicy three_quick_attempts() {
  return {.handler_backoff = {Milliseconds{1}, Milliseconds{5}}, .max_attempts = 3};
}

// ── Quick Start ──────────────────────────────────────────────────────────────────────────────────────────────────────

void basic_usage(Walk& walk) {
  heading("Quick Start 1. Basic Usage");
  const Event event = asset_discovered_v1("abc123");
  const AppendResult answer = walk.bus.publish(event);
  walk.promise(answer.durability == walk.store.capabilities().strongest,
               "the answer says how safe the event is: " + std::string(to_string(answer.durability)));
  const Page page = walk.store.log().read(kDefaultStream, {});
  walk.promise(page.events.size() == 1 && page.events[0].event.data == event.data,
               "it is in the log as it was written");
  const AppendResult again = walk.bus.publish(event);
  walk.promise(again.status == AppendStatus::duplicate && again.position == answer.position,
               "publishing it again stores nothing and answers the first position");
}

void configuration(Walk& walk) {
  heading("Quick Start 2. Configuration");
  setenv("EVENT_STORE_BACKEND", "sqlite", 1);
  setenv("EVENT_STORE_PATH", "/var/lib/app/events.db", 1);
  walk.promise(StoreOptions::from_env().url == "sqlite:/var/lib/app/events.db", "EVENT_STORE_PATH names the file");
  setenv("EVENT_STORE_BACKEND", "memory", 1);
  walk.promise(open_store(StoreOptions::from_env())->capabilities().name == "memory", "EVENT_STORE_BACKEND=memory");
  setenv("EVENT_STORE_BACKEND", "redis", 1);
  setenv("REDIS_URL", "redis://localhost:1", 1);
  try {
    open_store(StoreOptions::from_env());
    walk.promise(false, "a server that is not there is said");
  } catch (const Error& error) {
    std::cout << "  " << error.what() << "\n";
    walk.promise(error.code() == Errc::unavailable, "a server that is not there is said, nothing else used");
  }
  for (const char* name : {"EVENT_STORE_BACKEND", "EVENT_STORE_PATH", "REDIS_URL"}) unsetenv(name);

  const StreamInfo events = walk.store.log().set_retention(kDefaultStream, {.max_events = 100'000, .interval = 24h});
  walk.promise(events.retention.max_events == 100'000, "max_events and the interval of trims are the stream's");
}

void persistent_subscriptions(Walk& walk) {
  heading("Quick Start 3. Persistent Subscriptions");
  walk.bus.publish(asset_discovered_v1("torn"));
  walk.bus.publish(asset_discovered_v1("def456"));
  std::atomic<int> calls = 0;
  Subscription subscription(walk.store,
                            {.group = "asset-processors",
                             .types = {"asset.discovered"},
                             .start = Start::beginning(),
                             .settings = {.retry = three_quick_attempts()},
                             .consumer = "worker-1",
                             .batch = 10},
                            [&calls](const Delivery& delivery) {
                              ++calls;
                              if (delivery.event.subject == "torn") throw std::runtime_error("the image is torn");
                              return Outcome::ack();
                            });
  walk.promise(subscription.drain(kPatience), "every event is through: acknowledged, or among the dead letters");
  walk.promise(calls == 5, "two events took one call each, the one that throws took max_attempts = 3");
  const auto letters = walk.store.ledger().dead_letters("asset-processors", {});
  walk.promise(letters.size() == 1 && letters[0].event.subject == "torn", "that one is a dead letter of this group");
  for (const DeadLetter& letter : letters) std::cout << "  " << letter.reason << "\n";
}

}  // namespace

// Quick Start 4. Event Versioning: a struct and its codec are one version of one event type.

struct AssetDiscovered {
  std::string asset_id, file_path, tags;
};

template <>
struct millrace::EventCodec<AssetDiscovered> {
  static constexpr const char* type = "asset.discovered";
  static constexpr std::int32_t version = 2;
  static void encode(const AssetDiscovered& asset, Event& event) {
    event.subject = asset.asset_id;
    event.datacontenttype = "application/json";
    event.data = R"({"asset_id":")" + asset.asset_id + R"(","file_path":")" + asset.file_path + R"(","tags":)" +
                 asset.tags + "}";
  }
  static AssetDiscovered decode(const Event& event) {
    return {member(event, "asset_id"), member(event, "file_path"), member(event, "tags")};
  }
};

struct QualityAssessed {
  std::string asset_id, provider, confidence;
};

template <>
struct millrace::EventCodec<QualityAssessed> {
  static constexpr const char* type = "quality.assessed";
  static constexpr std::int32_t version = 2;
  static void encode(const QualityAssessed& quality, Event& event) {
    event.datacontenttype = "application/json";
    event.data = R"({"asset_id":")" + quality.asset_id + R"(","provider":")" + quality.provider + R"(","confidence":)" +
                 quality.confidence + "}";
  }
  static QualityAssessed decode(const Event& event) {
    return {member(event, "asset_id"), member(event, "provider"), member(event, "confidence")};
  }
};

namespace {

/// What a typed handler was given, in the order it came.
template <class T>
struct Received {
  std::mutex mutex;
  std::vector<T> events;
  Outcome operator()(const T& event) {
    const std::lock_guard lock(mutex);
    events.push_back(event);
    return Outcome::ack();
  }
};

void event_versioning(Walk& walk) {
  heading("Quick Start 4. Event Versioning");
  auto schemas = std::make_shared<SchemaRegistry>();
  schemas->add<AssetDiscovered>("path is called file_path, and there are tags");
  schemas->upcast("asset.discovered", 1,
                  {SchemaChange::rename("/path", "file_path"), SchemaChange::add("/tags", "[]")});
  walk.bus.publish("/scanner", AssetDiscovered{"ghi789", "/images/ghi789.jpg", R"(["new"])"});

  Received<AssetDiscovered> received;
  Subscription subscription(walk.store, {.group = "asset-index", .start = Start::beginning(), .schemas = schemas},
                            [&received](const AssetDiscovered& asset) { return received(asset); });
  walk.promise(subscription.drain(kPatience) && received.events.size() == 4, "the typed handler was given all four");
  for (const AssetDiscovered& asset : received.events) {
    walk.promise(asset.file_path == "/images/" + asset.asset_id + ".jpg",
                 asset.asset_id + " is at " + asset.file_path + ", tags " + asset.tags);
  }
  const Event first = walk.store.log().read(kDefaultStream, {.limit = 1}).events.at(0).event;
  walk.promise(data_version(first) == 1 && member(first, "path") == "/images/abc123.jpg",
               "the log keeps what was written: version 1, with path");
}

// ── Migration Strategy ───────────────────────────────────────────────────────────────────────────────────────────────

void phase_1(Walk& walk) {
  heading("Migration Strategy, Phase 1: Add Persistence");
  std::vector<std::string> seen;
  const Observation subscriber =
      walk.bus.observe({"asset.*"}, [&seen](const Observed& observed) { seen.push_back(observed.event.subject); });
  walk.bus.publish(EventBuilder("asset.processed", "/scanner").subject("abc123").json("{}").build());
  walk.promise(seen == std::vector<std::string>{"abc123"},
               "a subscriber in process goes on as before, after the append");
}

void phase_2(Walk& walk) {
  heading("Migration Strategy, Phase 2: Enable Persistent Delivery");
  Ledger& ledger = walk.store.ledger();
  std::atomic<bool> mended = false;
  Subscription processor(walk.store,
                         {.group = "critical-processors",
                          .types = {"asset.discovered", "asset.processed"},
                          .start = Start::beginning(),
                          .consumer = "worker-1"},
                         [&mended](const Delivery& delivery) {
                           if (delivery.event.subject == "torn" && !mended) return Outcome::reject("the image is torn");
                           return Outcome::ack();
                         });
  walk.promise(processor.drain(kPatience), "the group is through, from the beginning of the log");

  const GroupInfo group = ledger.group("critical-processors");
  walk.promise(group.dead == 1 && group.lag.waiting == 0 && ledger.pending("critical-processors", {}, 100).empty(),
               "one dead letter, nothing pending: the two are counted apart");
  mended = true;
  walk.promise(
      ledger.redrive("critical-processors", {.dry_run = true}) == 1 && ledger.group("critical-processors").dead == 1,
      "a dry run says what a redrive would hand out, and changes nothing");
  const std::uint64_t handed = ledger.redrive("critical-processors", {});
  walk.promise(handed == 1 && processor.drain(kPatience) && ledger.group("critical-processors").dead == 0,
               "the redrive handed it to this group again, which took it");
  walk.promise(ledger.group("asset-processors").dead == 1, "the dead letter of asset-processors is still its own");
}

void phase_3(Walk& walk) {
  heading("Migration Strategy, Phase 3: Add Schema Versioning");
  walk.bus.publish(EventBuilder("quality.assessed", "/brisque").json(R"({"asset_id":"abc123","score":71.50})").build());
  auto schemas = std::make_shared<SchemaRegistry>();
  schemas->add<QualityAssessed>("Added provider tracking");
  schemas->add({"asset.discovered", 2, "path is called file_path, and there are tags"});
  const auto counts = audit_schemas(walk.store, kDefaultStream, *schemas);
  walk.promise(counts.failed == 4, "before the deploy: 4 stored events would fail, their step is missing");

  schemas->upcast("asset.discovered", 1,
                  {SchemaChange::rename("/path", "file_path"), SchemaChange::add("/tags", "[]")});
  schemas->upcast("quality.assessed", 1, [](Event& event) {
    std::string& json = event.data.value();
    json.insert(json.rfind('}'), R"(,"provider":"brisque","confidence":0.8)");
  });
  walk.promise(audit_schemas(walk.store, kDefaultStream, *schemas).failed == 0, "with the steps none would");

  Received<QualityAssessed> received;
  Subscription subscription(walk.store, {.group = "scores", .start = Start::beginning(), .schemas = schemas},
                            [&received](const QualityAssessed& quality) { return received(quality); });
  walk.promise(subscription.drain(kPatience) && received.events.size() == 1 &&
                   received.events[0].provider == "brisque" && received.events[0].confidence == "0.8",
               "the old assessment comes with provider brisque and confidence 0.8");
}

// ── Code Examples ────────────────────────────────────────────────────────────────────────────────────────────────────

void event_replay(Walk& walk) {
  heading("Code Examples: Event Replay");
  std::vector<Event> events;
  for (int n = 1; n <= 150; ++n) {
    events.push_back(EventBuilder("asset.processed", "/scanner").subject("asset-" + std::to_string(n)).build());
  }
  walk.bus.publish(events);
  const std::uint64_t settled = walk.store.ledger().group("asset-index").processed;

  const Timestamp yesterday = std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now()) - 24h;
  bool all_marked = true;
  const ReplayReport report = walk.bus.replay({.types = {"asset.processed"}, .since = yesterday, .limit = 100},
                                              [&all_marked](const StoredEvent& stored) {
                                                all_marked = all_marked && stored.event.extension(kReplayId) != nullptr;
                                                if (stored.event.subject == "asset-7")
                                                  throw std::runtime_error("no such asset");
                                              },
                                              {.on_error = ReplayOnError::count});
  std::cout << "  " << report.read << " read, " << report.delivered << " delivered, " << report.failed
            << " failed: " << report.first_error << "\n";
  walk.promise(report.finished() && report.read == 100 && report.delivered == 99 && report.failed == 1,
               "100 of the last day; what the handler threw is counted, not swallowed");
  walk.promise(all_marked, "each carried its replayid, so that whoever must not act twice can tell");
  walk.promise(walk.store.ledger().group("asset-index").processed == settled, "no group was given anything again");
}

void consumer_groups(Walk& walk) {
  heading("Code Examples: Consumer Groups");
  std::vector<Event> events;
  for (int n = 1; n <= 60; ++n) {
    events.push_back(EventBuilder("workflow.started", "/workflows").subject("workflow-" + std::to_string(n)).build());
  }
  walk.bus.publish(events);

  std::mutex mutex;
  std::vector<std::string> run;
  std::latch all_three_at_work(3);
  std::vector<std::unique_ptr<Subscription>> executors;
  executors.reserve(3);
  for (int n = 0; n < 3; ++n) {
    executors.push_back(std::make_unique<Subscription>(walk.store,
                                                       SubscriptionOptions{.group = "workflow-executors",
                                                                           .types = {"workflow.started"},
                                                                           .start = Start::beginning(),
                                                                           .consumer = "executor-" + std::to_string(n),
                                                                           .batch = 1},
                                                       [&, first = true](const Delivery& delivery) mutable {
                                                         if (std::exchange(first, false))
                                                           all_three_at_work.arrive_and_wait();
                                                         const std::lock_guard lock(mutex);
                                                         run.push_back(delivery.event.subject);
                                                         return Outcome::ack();
                                                       }));
  }
  walk.promise(executors[0]->drain(kPatience), "three executors of one group ran the workflows, all at the same time");
  std::uint64_t acked = 0;
  for (const auto& executor : executors) {
    executor->stop();
    acked += executor->stats().acked;
    walk.promise(executor->stats().acked > 0, "this one ran " + std::to_string(executor->stats().acked));
  }
  std::sort(run.begin(), run.end());
  walk.promise(acked == 60 && run.size() == 60 && std::unique(run.begin(), run.end()) == run.end(),
               "60 workflows, each run once");
}

void monitoring(Walk& walk) {
  heading("Code Examples: Monitoring");
  std::uint64_t total = 0;
  for (const StreamInfo& stream : walk.store.log().streams()) total += stream.events;
  std::uint64_t pending = 0;
  std::uint64_t dead = 0;
  for (const GroupInfo& group : walk.store.ledger().groups()) {
    pending += group.lag.ahead + group.lag.in_flight + group.lag.waiting;
    dead += group.dead;
    std::cout << "  " << group.name.str() << ": ahead " << group.lag.ahead << ", in flight " << group.lag.in_flight
              << ", waiting " << group.lag.waiting << ", dead letters " << group.dead << ", acknowledged "
              << group.processed << "\n";
  }
  std::cout << "  Total events: " << total << ", pending: " << pending << ", dead letters: " << dead << "\n";
  walk.promise(total == walk.bus.stats().published, "what was acknowledged as stored is in the log, no more, no less");
  walk.promise(dead == 1, "one dead letter is left");

  const TrimResult trimmed = walk.store.log().trim(kDefaultStream, {.max_age = 30 * 24h});
  walk.promise(trimmed.removed == 0, "nothing is older than 30 days");
}

// ── Troubleshooting ──────────────────────────────────────────────────────────────────────────────────────────────────

void events_not_persisting(Walk& walk) {
  heading("Troubleshooting: Events Not Persisting");
  try {
    walk.bus.publish(asset_discovered_v1("abc123"), {.stream = "nowhere"});
    walk.promise(false, "what cannot be stored is not acknowledged");
  } catch (const Error& error) {
    std::cout << "  " << error.what() << "\n";
    walk.promise(error.code() == Errc::unknown_stream, "what cannot be stored is not acknowledged");
  }
  Bus without_store(nullptr);
  walk.promise(without_store.publish(asset_discovered_v1("abc123")).durability == Durability::memory,
               "a bus without a store says that it keeps nothing");
}

void high_memory_usage(Walk& walk) {
  heading("Troubleshooting: High Memory Usage");
  EventLog& log = walk.store.log();
  const StreamInfo events = log.set_retention(kDefaultStream, {.max_events = 50'000, .interval = 6h});
  walk.promise(events.retention.interval == 6h, "at most 50,000 events, trimmed every 6 hours, recorded in the store");

  log.create_stream("thumbnails");
  std::vector<Event> made;
  for (int n = 1; n <= 30; ++n) made.push_back(EventBuilder("thumbnail.made", "/scanner").build());
  const auto stored = walk.bus.publish(made, {.stream = "thumbnails"});
  const Position twentieth = stored.at(19).position.value();
  walk.store.ledger().ensure_group("gallery", {.stream = "thumbnails", .start = Start::after(twentieth)});
  log.set_retention("thumbnails", {.max_events = 5, .interval = 6h});
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!log.stream("thumbnails").last_trim_at && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(10ms);
  }
  const StreamInfo thumbnails = log.stream("thumbnails");
  walk.promise(thumbnails.last_trim.removed == 20 && thumbnails.events == 10,
               "the store's owner trims by itself: 20 of 30 are gone");
  walk.promise(thumbnails.last_trim.kept.size() == 1 && thumbnails.last_trim.kept[0].group == GroupName("gallery") &&
                   thumbnails.last_trim.kept[0].events == 5,
               "5 more were kept for the group gallery, which has not settled them, and it says so");
}

void lost_events(Walk& walk) {
  heading("Troubleshooting: Lost Events");
  for (const DeadLetter& letter : walk.store.ledger().dead_letters("asset-processors", {})) {
    std::cout << "  Failed: " << letter.event.id << " - " << letter.reason << "\n";
    const auto found = walk.store.log().find(kDefaultStream, letter.event.id);
    const Whereabouts here = walk.store.ledger().where("asset-processors", letter.position);
    const Whereabouts there = walk.store.ledger().where("critical-processors", letter.position);
    walk.promise(
        found.size() == 1 && here.state == Whereabouts::State::dead && there.state == Whereabouts::State::settled,
        "it is known where it is: dead in asset-processors, settled in critical-processors");
  }
}

/// A folder that goes away.
struct TemporaryFolder {
  std::string path = (std::filesystem::temp_directory_path() / "millrace-guide-XXXXXX").string();
  TemporaryFolder() {
    if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot make " + path);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const TemporaryFolder folder;
    const std::string url = argc > 1 ? argv[1] : folder.path + "/events.db";
    int broken = 0;
    {
      const auto store = open_store(url);
      std::cout << store->describe() << "\n";
      if (store->log().stream(kDefaultStream).last != Position{}) throw std::runtime_error("name a new store");
      Walk walk(*store);
      for (const auto step :
           {basic_usage, configuration, persistent_subscriptions, event_versioning, phase_1, phase_2, phase_3,
            event_replay, consumer_groups, monitoring, events_not_persisting, high_memory_usage, lost_events}) {
        step(walk);
      }
      broken = walk.broken;
    }
    std::cout << "\n"
              << (broken == 0 ? "every promise holds" : std::to_string(broken) + " promises are broken") << "\n";
    return broken == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "guide_001: " << error.what() << "\n";
    return 1;
  }
}
