// SPDX-License-Identifier: Apache-2.0
// The first numbers: Millrace beside its limits, in one run, by turns.

#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "bare_sqlite.hpp"
#include "contender.hpp"
#include "loop.hpp"
#include "observers.hpp"
#include "report.hpp"
#include "workload.hpp"

namespace {

using namespace bench;

struct Options {
  std::uint64_t events = 2'000'000;
  std::uint64_t loop_events = 5'000'000;
  std::size_t rounds = 10;
  std::size_t publishers = 1024;
  std::set<std::string> only{"batch", "publishers", "loop", "observer"};
  std::string dir = "build/bench";
  bool markdown = false;
  std::string loop_child;
};

// All contenders of one run, and the events/s each reached, per round.
class Race {
 public:
  explicit Race(const Options& options) : options_(options) {}

  // Files of earlier runs go first: a contender that starts on a full table is another contender.
  std::string own_dir(const std::string& name) {
    const std::string dir = options_.dir + "/data/" + name;
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir);
    return dir;
  }

  bool enter(const std::string& key, std::unique_ptr<Contender> contender) {
    if (!contender) return false;
    entrants_.push_back({key, std::move(contender)});
    return true;
  }
  void enter_loop() { loop_ = std::make_unique<LoopProcess>(own_dir("loop"), options_.loop_events); }

  void run() {
    if (entrants_.empty() && !loop_) return;
    Workload workload;
    for (std::size_t round = 0; round < options_.rounds; ++round) {
      if (!entrants_.empty()) {
        const auto events = workload.take(share(options_.events, round));
        // Another one begins each round, so that nobody always follows the same neighbour.
        for (std::size_t i = 0; i < entrants_.size(); ++i) {
          auto& entrant = entrants_[(i + round) % entrants_.size()];
          rates_[entrant.key].push_back(static_cast<double>(events.size()) / entrant.contender->round(events));
        }
      }
      if (loop_) {
        const auto events = share(options_.loop_events, round);
        rates_["loop"].push_back(static_cast<double>(events) / loop_->round(events));
      }
      fmt::print(stderr, "round {} of {} done\n", round + 1, options_.rounds);
    }
    for (auto& entrant : entrants_) entrant.contender->verify(workload.taken());
    if (loop_) memory_ = loop_->finish();
  }

  [[nodiscard]] const std::vector<double>& rates(const std::string& key) const { return rates_.at(key); }
  [[nodiscard]] bool ran(const std::string& key) const { return rates_.contains(key); }
  [[nodiscard]] const std::vector<MemorySample>& memory() const { return memory_; }
  [[nodiscard]] std::vector<Latency> latencies() const {
    std::vector<Latency> all;
    for (const auto& entrant : entrants_) {
      const auto seconds = entrant.contender->latencies();
      if (seconds.empty()) continue;
      all.push_back({entrant.contender->name(), 1e3 * quantile(seconds, 0.5), 1e3 * quantile(seconds, 0.99),
                     1e3 * quantile(seconds, 0.999), 1e3 * *std::max_element(seconds.begin(), seconds.end())});
    }
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
  std::unique_ptr<LoopProcess> loop_;
  std::map<std::string, std::vector<double>> rates_;
  std::vector<MemorySample> memory_;
};

void enter_all(Race& race, const Options& options, Report& report) {
  const auto wants = [&](const char* figure) { return options.only.contains(figure); };
  if (wants("batch") || wants("publishers")) race.enter("bare", std::make_unique<BareSqlite>(race.own_dir("bare")));
  if (wants("batch")) {
    race.enter("append", make_raw_append(race.own_dir("raw-append")));
    race.enter("preallocated", make_raw_preallocated(race.own_dir("raw-preallocated")));
    if (!race.enter("redis", make_redis(race.own_dir("redis"))))
      report.not_measured.push_back("Redis: redis-server is not installed");
  }
  if (wants("batch") || wants("loop")) race.enter("batches", make_millrace_batches(race.own_dir("millrace-batches")));
  if (wants("publishers"))
    race.enter("publishers", make_millrace_publishers(race.own_dir("millrace-publishers"), options.publishers));
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
    beside("durable append, batches of 1000", "batches", "bare SQLite", "bare", 0.7);
    beside("durable append, batches of 1000", "batches", "Redis, appendfsync always", "redis", 1.5);
    beside("durable append, batches of 1000", "batches", "raw write, append", "append", {});
    beside("durable append, batches of 1000", "batches", "raw write, preallocated", "preallocated", {});
  }
  beside(fmt::format("{} single-event publishers", options.publishers), "publishers", "bare SQLite, batches of 1000",
         "bare", 0.6);
  beside("publish, group, acknowledged", "loop", "Millrace, batches of 1000", "batches", 0.4);
  if (!race.memory().empty()) {
    std::uint64_t peak = 0;
    for (const auto& sample : race.memory()) peak = std::max(peak, sample.rss_bytes);
    report.bounds.push_back({fmt::format("memory over {} events", options.loop_events),
                             second_half_growth(race.memory()), 0.01,
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

int run(const Options& options) {
  std::filesystem::create_directories(options.dir);
  Report report;
  report.conditions = describe_machine(options.dir);
  report.conditions.push_back(
      fmt::format("{} events per figure ({} for publish, group, acknowledged), 256 bytes of data each, UUIDv7 ids; {} "
                  "rounds by turns; "
                  "medians",
                  options.events, options.loop_events, options.rounds));
  if (options.only.contains("observer")) observe(options, report);
  {
    Race race(options);
    enter_all(race, options, report);
    race.run();
    compare(race, options, report);
  }
  std::filesystem::remove_all(options.dir + "/data");

  const std::string path = options.dir + "/results.json";
  std::ofstream out(path);
  out << report.json() << '\n';
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path);
  fmt::print("{}", options.markdown ? report.markdown() : report.table());
  fmt::print(stderr, "\nwritten: {}\n", path);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<std::string> only(options.only.begin(), options.only.end());
  CLI::App app(
      "Millrace's first numbers, each beside its limits. A missed target is printed as missed; the exit code says only "
      "whether "
      "everything ran and every event was found again.");
  app.add_option("--events", options.events, "events per figure")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--loop-events", options.loop_events, "events of publish, group, acknowledged")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds, "rounds the events are divided into")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--publishers", options.publishers, "single-event publishers")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--only", only, "figures: batch, publishers, loop, observer")
      ->delimiter(',')
      ->check(CLI::IsMember(options.only));
  app.add_option("--dir", options.dir, "where data and results.json go; should be a real disk")->capture_default_str();
  app.add_flag("--markdown", options.markdown, "print the section for docs/performance.md");
  app.add_option("--loop-child", options.loop_child)->group("");
  CLI11_PARSE(app, argc, argv);
  options.only = {only.begin(), only.end()};
  if (options.rounds > std::min(options.events, options.loop_events)) {
    fmt::print(stderr, "millrace_bench: --rounds {}: there must be an event for each round\n", options.rounds);
    return 2;
  }

  ::signal(SIGPIPE, SIG_IGN);  // a child that died is an error with words
  try {
    return options.loop_child.empty() ? run(options) : run_loop_child(options.loop_child, options.loop_events);
  } catch (const std::exception& e) {
    fmt::print(stderr, "millrace_bench: {}\n", e.what());
    return 1;
  }
}
