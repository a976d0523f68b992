// SPDX-License-Identifier: Apache-2.0
// Millrace beside its limits, in one run, by turns.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "bare_sqlite.hpp"
#include "contender.hpp"
#include "figures.hpp"
#include "http_batches.hpp"
#include "loop.hpp"
#include "observers.hpp"
#include "options.hpp"
#include "report.hpp"
#include "workload.hpp"

namespace {

using namespace bench;

// All contenders of one run, and the events/s each reached, per round.
class Race {
 public:
  explicit Race(const Options& options) : options_(options) {}

  bool enter(const std::string& key, std::unique_ptr<Contender> contender) {
    if (!contender) return false;
    entrants_.push_back({key, std::move(contender)});
    return true;
  }
  // By turns with the others, each with its own number of events.
  void enter_http() { http_ = std::make_unique<HttpBatches>(options_.program, options_.own_dir("http")); }
  void enter_loop() { loop_ = std::make_unique<LoopProcess>(options_.own_dir("loop"), options_.loop_events); }

  void run() {
    if (entrants_.empty() && !loop_) return;
    Workload workload;
    Workload over_http;
    for (std::size_t round = 0; round < options_.rounds; ++round) {
      if (!entrants_.empty()) {
        const auto events = workload.take(share(options_.events, round));
        // Another one begins each round, so that nobody always follows the same neighbour.
        for (std::size_t i = 0; i < entrants_.size(); ++i) {
          auto& entrant = entrants_[(i + round) % entrants_.size()];
          rates_[entrant.key].push_back(static_cast<double>(events.size()) / entrant.contender->round(events));
        }
      }
      if (http_) {
        const auto events = over_http.take(share(options_.http_events, round));
        rates_["http"].push_back(static_cast<double>(events.size()) / http_->round(events));
      }
      if (loop_) {
        const auto events = share(options_.loop_events, round);
        rates_["loop"].push_back(static_cast<double>(events) / loop_->round(events));
      }
      fmt::print(stderr, "round {} of {} done\n", round + 1, options_.rounds);
    }
    for (auto& entrant : entrants_) entrant.contender->verify(workload.taken());
    if (http_) http_->verify(over_http.taken());
    if (loop_) memory_ = loop_->finish();
  }
  [[nodiscard]] const HttpBatches* http() const { return http_.get(); }

  [[nodiscard]] const std::vector<double>& rates(const std::string& key) const { return rates_.at(key); }
  [[nodiscard]] bool ran(const std::string& key) const { return rates_.contains(key); }
  [[nodiscard]] const std::vector<MemorySample>& memory() const { return memory_; }
  [[nodiscard]] std::vector<Latency> latencies() const {
    std::vector<Latency> all;
    const auto add = [&](const Contender& contender) {
      std::vector<double> ms = contender.latencies();
      for (double& value : ms) value *= 1e3;
      if (!ms.empty()) all.push_back(latency_of(contender.name(), ms));
    };
    for (const auto& entrant : entrants_) add(*entrant.contender);
    if (http_) add(*http_);
    return all;
  }

 private:
  // This round's part of the whole; the first rounds take what does not divide.
  [[nodiscard]] std::uint64_t share(std::uint64_t all, std::size_t round) const {
    return all / options_.rounds + (round < all % options_.rounds ? 1 : 0);
  }

  struct Entrant {
    std::string key;
    std::unique_ptr<Contender> contender;
  };
  const Options& options_;
  std::vector<Entrant> entrants_;
  std::unique_ptr<HttpBatches> http_;
  std::unique_ptr<LoopProcess> loop_;
  std::map<std::string, std::vector<double>> rates_;
  std::vector<MemorySample> memory_;
};

void enter_all(Race& race, const Options& options, Report& report) {
  const auto wants = [&](const char* figure) { return options.only.contains(figure); };
  if (wants("batch") || wants("publishers")) race.enter("bare", std::make_unique<BareSqlite>(options.own_dir("bare")));
  if (wants("batch")) {
    race.enter("append", make_raw_append(options.own_dir("raw-append")));
    race.enter("preallocated", make_raw_preallocated(options.own_dir("raw-preallocated")));
    if (!race.enter("redis", make_redis(options.own_dir("redis"))))
      report.not_measured.push_back("Redis: redis-server is not installed");
    if (!race.enter("postgres", make_postgres(options.own_dir("postgres"))))
      report.not_measured.push_back("PostgreSQL: its server is not installed");
  }
  if (wants("batch") || wants("loop") || wants("http"))
    race.enter("batches", make_millrace_batches(options.sqlite_url("millrace-batches")));
  if (wants("publishers"))
    race.enter("publishers", make_millrace_publishers(options.sqlite_url("millrace-publishers"), options.publishers));
  if (wants("http")) race.enter_http();
  if (wants("loop")) race.enter_loop();
}

void compare(const Race& race, const Options& options, Report& report) {
  const auto beside = [&](std::string name, const std::string& ours, std::string limit_name, const std::string& limit,
                          std::optional<double> at_least) {
    if (race.ran(ours) && race.ran(limit))
      report.figures.push_back(
          {std::move(name), std::move(limit_name), "events/s", race.rates(ours), race.rates(limit), at_least, {}});
  };
  if (options.only.contains("batch")) {
    beside("durable append, batches of 1000", "batches", "bare SQLite", "bare", 0.8);
    beside("durable append, batches of 1000", "batches", "Redis, appendfsync always", "redis", 1.5);
    beside("durable append, batches of 1000", "batches", "PostgreSQL, the same index", "postgres", 1.2);
    beside("durable append, batches of 1000", "batches", "raw write, append", "append", {});
    beside("durable append, batches of 1000", "batches", "raw write, preallocated", "preallocated", {});
  }
  beside(fmt::format("{} single-event publishers", options.publishers), "publishers", "bare SQLite, batches of 1000",
         "bare", 0.7);
  beside("publish, group, acknowledged", "loop", "Millrace, batches of 1000", "batches", 0.5);
  beside("HTTP, batches of 100", "http", "Millrace, batches of 1000", "batches", 0.4);
  if (race.http()) report.notes.push_back(race.http()->cpu());
  if (!race.memory().empty()) {
    std::uint64_t peak = 0;
    for (const auto& sample : race.memory()) peak = std::max(peak, sample.rss_bytes);
    report.bounds.push_back({fmt::format("memory over {} events", options.loop_events),
                             100 * second_half_growth(race.memory()), 1, "%",
                             fmt::format("growth in the second half; at most {} MiB", peak >> 20)});
  }
  report.latencies = race.latencies();
}

void observe(const Options& options, Report& report) {
  Figure figure{"one publish to one observer, no store", "Boost.Signals2", "ns", {}, {}, {}, 1.0};
  for (std::size_t round = 0; round < options.rounds; ++round) {
    const auto calls = std::max<std::uint64_t>(100, options.events / options.rounds);
    const auto [bus, signal] = run_observer_round(calls);
    figure.ours.push_back(1e9 * bus / static_cast<double>(calls));
    figure.limit.push_back(1e9 * signal / static_cast<double>(calls));
  }
  report.figures.push_back(std::move(figure));
}

void measure_figures(const Options& options, Report& report) {
  report.conditions.push_back(
      fmt::format("{} events per figure ({} for publish, group, acknowledged; {} over HTTP; {} by one publisher), 256 "
                  "bytes of data each, UUIDv7 ids; {} rounds by turns; medians",
                  options.events, options.loop_events, options.http_events, options.single_events, options.rounds));
  if (options.only.contains("observer")) observe(options, report);
  {
    Race race(options);
    enter_all(race, options, report);
    race.run();
    compare(race, options, report);
  }
  if (options.only.contains("single")) measure_one_publisher(options, report);
  if (options.only.contains("latency")) measure_reaction(options, report);
  if (options.only.contains("start")) measure_start(options, report);
}

int run(const Options& options) {
  std::filesystem::create_directories(options.dir);
  Report report;
  report.conditions = describe_machine(options.dir);
  if (options.growth) {
    measure_growth(options, report);
  } else if (options.redis) {
    measure_redis(options, report);
  } else {
    measure_figures(options, report);
  }
  std::filesystem::remove_all(options.dir + "/data");

  const std::string path = options.dir + (options.growth  ? "/growth.json"
                                          : options.redis ? "/redis.json"
                                                          : "/results.json");
  std::ofstream out(path);
  out << report.json() << '\n';
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path);
  fmt::print("{}", options.markdown ? report.markdown() : report.table());
  fmt::print(stderr, "\nwritten: {}\n", path);
  return 0;
}

// The program built beside this one.
std::string program_beside() {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "millrace").string();
}

// What is wrong with the options; empty when nothing is.
std::string fault_of(const Options& options) {
  if (options.rounds > std::min({options.events, options.loop_events, options.http_events}))
    return fmt::format("--rounds {}: there must be an event for each round", options.rounds);
  if (options.growth &&
      (options.sizes.empty() || options.sizes.front() == 0 ||
       std::adjacent_find(options.sizes.begin(), options.sizes.end(), std::greater_equal<>()) != options.sizes.end()))
    return "--sizes: each must be more than the one before";
  if (options.redis && options.rounds > options.redis_events)
    return fmt::format("--rounds {}: there must be an event for each round", options.rounds);
  if (options.redis && options.growth) return "--growth and --redis are measured one at a time";
  const bool needs_program =
      !options.growth && !options.redis && (options.only.contains("http") || options.only.contains("start"));
  if (needs_program && !std::filesystem::exists(options.program))
    return fmt::format("--program {}: it is not there; build target millrace_program, or leave out http and start",
                       options.program);
  return {};
}

}  // namespace

std::string bench::Options::own_dir(const std::string& name) const {
  const std::string own = dir + "/data/" + name;
  std::filesystem::remove_all(own);
  std::filesystem::create_directories(own);
  return own;
}

std::string bench::Options::sqlite_url(const std::string& name) const {
  return "sqlite:" + own_dir(name) + "/millrace.db";
}

int main(int argc, char** argv) {
  Options options;
  options.program = program_beside();
  std::vector<std::string> only(options.only.begin(), options.only.end());
  CLI::App app(
      "Millrace's numbers, each beside its limits. A missed target is printed as missed; the exit code says only "
      "whether "
      "everything ran and every event was found again.");
  const auto count = [&](const char* flag, auto& value, const char* what) {
    app.add_option(flag, value, what)->capture_default_str()->check(CLI::PositiveNumber);
  };
  count("--events", options.events, "events per figure");
  count("--loop-events", options.loop_events, "events of publish, group, acknowledged");
  count("--single-events", options.single_events, "events of one publisher alone");
  count("--http-events", options.http_events, "events over HTTP");
  count("--start-events", options.start_events, "events in the store that a daemon starts with");
  count("--latency-seconds", options.latency_seconds, "how long 10,000 events/s are published (with --redis, 5,000)");
  count("--redis-events", options.redis_events, "events per figure with --redis");
  count("--rounds", options.rounds, "rounds the events are divided into");
  count("--publishers", options.publishers, "single-event publishers");
  app.add_option("--only", only, fmt::format("figures: {}", fmt::join(options.only, ", ")))
      ->delimiter(',')
      ->check(CLI::IsMember(options.only));
  app.add_flag("--redis", options.redis,
               "instead: batch, publishers, loop and latency of the store on Redis (redis.json)");
  app.add_flag("--growth", options.growth, "instead: what operations cost as one table grows (growth.json)");
  app.add_option("--sizes", options.sizes, "sizes of the table with --growth")->delimiter(',')->capture_default_str();
  app.add_option("--dir", options.dir, "where data and results.json go; should be a real disk")->capture_default_str();
  app.add_option("--program", options.program, "the millrace that serves")->capture_default_str();
  app.add_flag("--markdown", options.markdown, "print the section for docs/performance.md");
  app.add_option("--loop-child", options.loop_child)->group("");
  app.add_option("--redis-child", options.redis_child)->group("");
  CLI11_PARSE(app, argc, argv);
  options.only = {only.begin(), only.end()};
  const bool child = !options.loop_child.empty() || !options.redis_child.empty();
  if (const std::string fault = child ? std::string() : fault_of(options); !fault.empty()) {
    fmt::print(stderr, "millrace_bench: {}\n", fault);
    return 2;
  }

  ::signal(SIGPIPE, SIG_IGN);  // a child that died is an error with words
  try {
    if (!options.loop_child.empty()) return run_loop_child(options.loop_child, options.loop_events);
    if (!options.redis_child.empty()) return run_redis_child(options.redis_child, options.redis_events);
    return run(options);
  } catch (const std::exception& e) {
    fmt::print(stderr, "millrace_bench: {}\n", e.what());
    return 1;
  }
}
