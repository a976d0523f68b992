// SPDX-License-Identifier: Apache-2.0
// Publish → handler on Redis, across two processes.

#include <fmt/format.h>
#include <signal.h>

#include <atomic>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "contender.hpp"
#include "figures.hpp"
#include "millrace/bus.hpp"
#include "millrace/subscription.hpp"
#include "redis_figures.hpp"
#include "redis_server.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr double kRate = 5'000;
constexpr double kMostMs = 10;

std::uint64_t number_of(const millrace::Event& event) {
  std::uint64_t number = 0;
  std::from_chars(event.id.data() + 24, event.id.data() + event.id.size(), number, 16);
  return number;
}

// The steady clock is one for all processes of a machine.
std::int64_t nanoseconds(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// Open loop, as in reaction.cpp: each event has its time, and its latencies count from then.
struct Publishing {
  std::uint64_t count;
  Clock::time_point start{};
  std::vector<double> acknowledged_ms = std::vector<double>(count, -1);  // each has one writer
  std::atomic<std::uint64_t> answers{0};
  std::atomic<bool> failed{false};

  [[nodiscard]] Clock::time_point due(std::uint64_t i) const {
    return start +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(static_cast<double>(i) / kRate));
  }
  void run(millrace::Bus& bus, std::vector<millrace::Event> events) {
    start = Clock::now() + std::chrono::milliseconds(100);
    for (std::uint64_t i = 0; i < count; ++i) {
      if (Clock::now() < due(i)) std::this_thread::sleep_until(due(i));
      bus.publish_async({std::move(events[i])}, {}, [this, i](const millrace::AppendAnswer& answer) {
        const auto* const results = std::get_if<std::vector<millrace::AppendResult>>(&answer);
        if (!results || results->at(0).status != millrace::AppendStatus::stored ||
            results->at(0).durability != millrace::Durability::durable)
          failed = true;
        acknowledged_ms[i] = std::chrono::duration<double, std::milli>(Clock::now() - due(i)).count();
        ++answers;
      });
    }
    const auto patience = Clock::now() + std::chrono::seconds(60);
    while (answers < count && Clock::now() < patience) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (failed || answers != count) throw std::runtime_error("redis latency: an event was not stored durably");
  }
};

}  // namespace

// Says "ready", then one line when all is settled: for each event the nanosecond at which its handler was called.
int run_redis_child(const std::string& url, std::uint64_t events) {
  const auto store = millrace::open_store(url);
  std::vector<std::int64_t> handled(events, 0);  // the one handler's until it has stopped
  std::uint64_t again = 0;
  millrace::SubscriptionOptions options{.group = "bench"};
  options.start = millrace::Start::beginning();
  options.batch = kBatch;
  options.lease = millrace::Milliseconds{30'000};
  millrace::Subscription subscription(*store, options, millrace::Handler([&](const millrace::Delivery& delivery) {
    std::int64_t& when = handled.at(number_of(delivery.event));
    if (when != 0) ++again;
    when = nanoseconds(Clock::now());
    return millrace::Outcome::ack();
  }));
  std::cout << "ready" << std::endl;
  const auto patience = Clock::now() + std::chrono::seconds(120) +
                        std::chrono::seconds(static_cast<std::int64_t>(static_cast<double>(events) / kRate));
  while (subscription.stats().acked < events && Clock::now() < patience)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  subscription.stop();
  const auto group = store->ledger().group("bench");
  if (again != 0 || group.processed != events || group.lag.ahead + group.lag.in_flight + group.lag.waiting != 0)
    throw std::runtime_error(fmt::format("redis latency: {} of {} events are settled, {} were handled again",
                                         group.processed, events, again));
  for (const std::int64_t when : handled) std::cout << when << ' ';
  std::cout << std::endl;
  return 0;
}

void measure_redis_latency(const Options& options, Report& report) {
  const auto count = static_cast<std::uint64_t>(kRate * options.latency_seconds);
  if (count == 0) throw std::runtime_error("redis latency: --latency-seconds leaves no event to send");
  RedisServer server(options.own_dir("redis-latency"));
  Publishing publishing{.count = count};
  const auto store = millrace::open_store(server.url());
  millrace::Bus bus(store.get());
  Workload workload;
  Child consumer({std::filesystem::read_symlink("/proc/self/exe").string(), "--redis-child", server.url(),
                  "--redis-events", std::to_string(count)},
                 {.log = options.dir + "/redis-consumer.log", .read_output = true});
  if (consumer.line() != "ready")
    throw std::runtime_error("redis latency: the consumer did not start; see " + options.dir + "/redis-consumer.log");
  publishing.run(bus, workload.take(count));

  std::istringstream answer(consumer.line());
  std::vector<double> handled_ms;
  for (std::int64_t when = 0; answer >> when;)
    handled_ms.push_back(static_cast<double>(when - nanoseconds(publishing.due(handled_ms.size()))) / 1e6);
  if (consumer.wait() != 0 || handled_ms.size() != count)
    throw std::runtime_error("redis latency: not every event was handled once; see " + options.dir +
                             "/redis-consumer.log");
  verify_log(*store, count, "redis latency");

  const Latency latency =
      latency_of(fmt::format("publish → handler in another process, {:.0f} events/s", kRate), handled_ms);
  report.latencies.push_back(
      latency_of(fmt::format("publish → acknowledged, {:.0f} events/s", kRate), publishing.acknowledged_ms));
  report.latencies.push_back(latency);
  report.bounds.push_back({fmt::format("publish → handler in another process, {:.0f} events/s, p99", kRate),
                           latency.p99_ms, kMostMs, "ms", fmt::format("p50 {:.2f} ms", latency.p50_ms)});
}

}  // namespace bench
