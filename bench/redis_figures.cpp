// SPDX-License-Identifier: Apache-2.0
// The store on Redis beside its limits, by turns. Each contender has a redis-server of its own.

#include "redis_figures.hpp"

#include <fmt/format.h>
#include <time.h>

#include <functional>
#include <stdexcept>

#include "figures.hpp"
#include "millrace/store.hpp"
#include "redis_bare.hpp"
#include "workload.hpp"

namespace bench {
namespace {

/// A contender of Millrace's, on a server of its own.
class OnRedis : public ServedContender {
 public:
  OnRedis(const std::string& dir, const std::function<std::unique_ptr<Contender>(const std::string& url)>& make)
      : server_(dir), contender_(make(server_.url())) {}
  const RedisServer& server() const override { return server_; }
  std::string name() const override { return contender_->name(); }
  double round(std::span<const millrace::Event> events) override { return contender_->round(events); }
  void verify(std::uint64_t count) override { contender_->verify(count); }
  std::vector<double> latencies() const override { return contender_->latencies(); }

 private:
  RedisServer server_;
  std::unique_ptr<Contender> contender_;
};

double own_cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

struct Entrant {
  std::string key;
  std::unique_ptr<ServedContender> contender;
  std::vector<double> rates{};
  std::vector<double> bytes{};  ///< of the server's memory, per event of a round
  double own_cpu = 0;
  double server_cpu = 0;
};

class Race {
 public:
  explicit Race(const Options& options) : options_(options) {}

  void enter(const std::string& key, std::unique_ptr<ServedContender> contender) {
    entrants_.push_back({key, std::move(contender)});
  }
  void run() {
    if (entrants_.empty()) return;
    Workload workload;
    for (std::size_t round = 0; round < options_.rounds; ++round) {
      const auto share =
          options_.redis_events / options_.rounds + (round < options_.redis_events % options_.rounds ? 1 : 0);
      const auto events = workload.take(share);
      for (std::size_t i = 0; i < entrants_.size(); ++i) give(entrants_[(i + round) % entrants_.size()], events);
      fmt::print(stderr, "round {} of {} done\n", round + 1, options_.rounds);
    }
    for (auto& entrant : entrants_) entrant.contender->verify(workload.taken());
  }
  [[nodiscard]] const Entrant* find(const std::string& key) const {
    for (const auto& entrant : entrants_)
      if (entrant.key == key) return &entrant;
    return nullptr;
  }
  [[nodiscard]] const std::vector<Entrant>& entrants() const { return entrants_; }

 private:
  static void give(Entrant& entrant, const std::vector<millrace::Event>& events) {
    const RedisServer& server = entrant.contender->server();
    entrant.contender->prepare(events);
    const auto count = static_cast<double>(events.size());
    const double own = own_cpu_seconds();
    const double servers = server.cpu_seconds();
    const auto memory = static_cast<double>(server.used_memory());
    entrant.rates.push_back(count / entrant.contender->round(events));
    entrant.own_cpu += own_cpu_seconds() - own;
    entrant.server_cpu += server.cpu_seconds() - servers;
    entrant.bytes.push_back((static_cast<double>(server.used_memory()) - memory) / count);
  }

  const Options& options_;
  std::vector<Entrant> entrants_;
};

void compare(const Race& race, const Options& options, Report& report) {
  const auto beside = [&](std::string name, const char* ours, const char* limit, std::string limit_name,
                          std::optional<double> at_least) {
    const Entrant* const one = race.find(ours);
    const Entrant* const other = race.find(limit);
    if (!one || !other) return;
    report.figures.push_back(
        {std::move(name), std::move(limit_name), "events/s", one->rates, other->rates, at_least, {}});
  };
  const std::string batches = "Redis: durable append, batches of 1000";
  beside(batches, "batches", "script batches", "bare client, one EVALSHA per batch", 0.6);
  beside(batches, "batches", "xadd batches", "bare client, 1000 XADD in one go", 0.6);
  const std::string publishers = fmt::format("Redis: {} single-event publishers", options.publishers);
  beside(publishers, "publishers", "script publishers",
         fmt::format("bare client, {} EVALSHA on their way", options.publishers), 0.6);
  beside(publishers, "publishers", "xadd publishers",
         fmt::format("bare client, {} XADD on their way", options.publishers), 0.6);
  beside("Redis: consume and acknowledge", "consumer", "bare consumer", "bare client, XREADGROUP + XACK", 0.5);
  if (const Entrant* ours = race.find("batches")) {
    report.figures.push_back({"Redis: memory of an event",
                              "bare client, XADD and a set of ids",
                              "bytes",
                              ours->bytes,
                              race.find("script batches")->bytes,
                              {},
                              {}});
  }
  const auto all = static_cast<double>(options.redis_events);
  for (const Entrant& entrant : race.entrants()) {
    report.notes.push_back(fmt::format("{}: {:.2f} µs of CPU an event in the client, {:.2f} in the server",
                                       entrant.contender->name(), 1e6 * entrant.own_cpu / all,
                                       1e6 * entrant.server_cpu / all));
    std::vector<double> ms = entrant.contender->latencies();
    for (double& value : ms) value *= 1e3;
    if (!ms.empty()) report.latencies.push_back(latency_of(entrant.contender->name(), ms));
  }
}

/// How much more of the server's memory an event needs while it is in somebody's hands, and while it waits for a retry.
void measure_memory(const Options& options, Report& report) {
  constexpr std::size_t kEvents = 10'000;
  RedisServer server(options.own_dir("redis-memory"));
  const auto store = millrace::open_store(server.url());
  Workload workload;
  for (std::size_t i = 0; i < kEvents / kBatch; ++i)
    for (const auto& result : store->log().append(millrace::kDefaultStream, workload.take(kBatch)))
      if (result.status != millrace::AppendStatus::stored)
        throw std::runtime_error("redis memory: an event was not stored");
  const millrace::GroupName group("bench");
  millrace::GroupSpec spec;
  spec.stream = millrace::StreamName(millrace::kDefaultStream);
  spec.start = millrace::Start::beginning();
  spec.order = millrace::OrderRule::parse("none");
  store->ledger().ensure_group(group, spec);
  const auto per_event = [&](std::uint64_t since) {
    return (static_cast<double>(server.used_memory()) - static_cast<double>(since)) / kEvents;
  };
  const std::uint64_t stored = server.used_memory();
  std::vector<millrace::Delivery> held;
  while (held.size() < kEvents) {
    auto answer =
        store->ledger().claim(group, {.consumer = "bench", .max = kBatch, .hold = millrace::Milliseconds{600'000}});
    if (answer.deliveries.empty()) throw std::runtime_error("redis memory: not every event was handed out");
    for (auto& delivery : answer.deliveries) held.push_back(std::move(delivery));
  }
  const double in_flight = per_event(stored);
  std::vector<millrace::Settlement> retries;
  retries.reserve(held.size());
  for (const auto& delivery : held)
    retries.push_back({delivery.lease, millrace::Outcome::retry("bench", millrace::FailureClass::handler,
                                                                millrace::Milliseconds{600'000})});
  for (std::size_t at = 0; at < retries.size(); at += kBatch)
    if (!store->ledger().settle(group, std::span(retries).subspan(at, kBatch)).empty())
      throw std::runtime_error("redis memory: a retry was refused");
  if (store->ledger().group(group).lag.waiting != kEvents)
    throw std::runtime_error("redis memory: not every event waits for its retry");
  report.notes.push_back(
      fmt::format("Redis: an event in somebody's hands takes {:.0f} bytes more, one that waits for a retry {:.0f}",
                  in_flight, per_event(stored)));
}

}  // namespace

void measure_redis(const Options& options, Report& report) {
  if (!RedisServer::installed()) throw std::runtime_error("redis-server is not installed");
  report.conditions.push_back(
      fmt::format("Redis on its unix socket, appendfsync always; {} events per figure, 256 bytes of data each, UUIDv7 "
                  "ids; {} rounds by turns; medians; latency over {:.0f} s",
                  options.redis_events, options.rounds, options.latency_seconds));
  const auto wants = [&](const char* figure) { return options.only.contains(figure); };
  {
    Race race(options);
    if (wants("batch")) {
      race.enter("script batches", make_bare_batches(options.own_dir("redis-script"), BareWay::script));
      race.enter("batches", std::make_unique<OnRedis>(options.own_dir("redis-batches"), make_millrace_batches));
      race.enter("xadd batches", make_bare_batches(options.own_dir("redis-xadd"), BareWay::xadd));
    }
    if (wants("publishers")) {
      const std::size_t publishers = options.publishers;
      race.enter("script publishers",
                 make_bare_publishers(options.own_dir("redis-scripts"), BareWay::script, publishers));
      race.enter("publishers",
                 std::make_unique<OnRedis>(options.own_dir("redis-publishers"), [publishers](const std::string& url) {
                   return make_millrace_publishers(url, publishers);
                 }));
      race.enter("xadd publishers", make_bare_publishers(options.own_dir("redis-xadds"), BareWay::xadd, publishers));
    }
    if (wants("loop")) {
      race.enter("bare consumer", make_bare_consumer(options.own_dir("redis-bare-consumer")));
      race.enter("consumer", make_millrace_consumer(options.own_dir("redis-consumer")));
    }
    race.run();
    compare(race, options, report);
  }
  if (wants("batch")) measure_memory(options, report);
  if (wants("latency")) measure_redis_latency(options, report);
  if (report.figures.empty() && report.latencies.empty())
    throw std::runtime_error("--redis measures batch, publishers, loop and latency; --only names none of them");
}

}  // namespace bench
