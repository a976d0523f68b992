// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <memory>
#include <stdexcept>
#include <thread>

#include "contender.hpp"
#include "figures.hpp"
#include "millrace/bus.hpp"
#include "millrace/subscription.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr double kRate = 10'000;

std::uint64_t number_of(const millrace::Event& event) {
  std::uint64_t number = 0;
  std::from_chars(event.id.data() + 24, event.id.data() + event.id.size(), number, 16);
  return number;
}

}  // namespace

// Open loop: event i is due at start + i / rate, whatever became of those before it, and its latency counts from then.
// A publisher that waited for slow answers would leave out just the moments that were slow (coordinated omission).
void measure_reaction(const Options& options, Report& report) {
  const auto count = static_cast<std::uint64_t>(kRate * options.latency_seconds);
  if (count == 0) throw std::runtime_error("latency: --latency-seconds leaves no event to send");
  Workload workload;
  std::vector<millrace::Event> events = workload.take(count);
  std::vector<double> handled(count, -1), acknowledged(count, -1);  // ms; each slot has one writer
  std::atomic<std::uint64_t> answers{0}, again{0};
  std::atomic<bool> failed{false};
  Clock::time_point start;
  // Behind everything its completions write to.
  const auto store = millrace::open_store("sqlite:" + options.own_dir("reaction") + "/millrace.db");
  millrace::Bus bus(store.get());
  const auto due = [&](std::uint64_t i) {
    return start +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(static_cast<double>(i) / kRate));
  };
  const auto late_ms = [&](std::uint64_t i) {
    return std::chrono::duration<double, std::milli>(Clock::now() - due(i)).count();
  };

  millrace::SubscriptionOptions subscribed{.group = "bench"};
  subscribed.start = millrace::Start::beginning();
  subscribed.batch = kBatch;  // at most: a claim takes what is there, and after a stall it may be much
  subscribed.lease = millrace::Milliseconds{30'000};
  start = Clock::now() + std::chrono::milliseconds(200);
  millrace::Subscription subscription(*store, subscribed, millrace::Handler([&](const millrace::Delivery& delivery) {
    const std::uint64_t i = number_of(delivery.event);
    if (handled.at(i) >= 0) ++again;
    handled.at(i) = late_ms(i);
    return millrace::Outcome::ack();
  }));

  for (std::uint64_t i = 0; i < count; ++i) {
    if (Clock::now() < due(i)) std::this_thread::sleep_until(due(i));
    bus.publish_async({std::move(events[i])}, {}, [&, i](const millrace::AppendAnswer& answer) {
      const auto* const results = std::get_if<std::vector<millrace::AppendResult>>(&answer);
      if (!results || results->at(0).status != millrace::AppendStatus::stored) failed = true;
      acknowledged[i] = late_ms(i);
      ++answers;
    });
  }
  const auto patience = Clock::now() + std::chrono::seconds(60);
  while ((answers < count || subscription.stats().acked < count) && Clock::now() < patience)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  subscription.stop();
  if (failed || answers != count) throw std::runtime_error("latency: an event was not stored");
  if (again != 0 || std::find(handled.begin(), handled.end(), -1.0) != handled.end())
    throw std::runtime_error("latency: not every event was handled once");

  report.latencies.push_back(latency_of(fmt::format("publish → acknowledged, {:.0f} events/s", kRate), acknowledged));
  report.latencies.push_back(latency_of(fmt::format("publish → handler, {:.0f} events/s", kRate), handled));
}

}  // namespace bench
