// SPDX-License-Identifier: Apache-2.0
#include "http_batches.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "daemon.hpp"
#include "millrace/store.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr std::size_t kEvents = 100;
constexpr std::size_t kConnections = 8;

void put_json(std::string& out, const millrace::Event& e) {
  // The workload's texts need no escapes, and its data is a JSON value.
  out += R"({"specversion":"1.0","id":")" + e.id + R"(","source":")" + e.source + R"(","type":")" + e.type +
         R"(","subject":")" + e.subject + R"(","time":")" + e.time + R"(","datacontenttype":")" + e.datacontenttype +
         R"(","data":)" + *e.data + "}\n";
}

std::size_t count_of(std::string_view text, std::string_view what) {
  std::size_t count = 0;
  for (auto at = text.find(what); at != std::string_view::npos; at = text.find(what, at + what.size())) ++count;
  return count;
}

double own_cpu_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

}  // namespace

struct HttpBatches::Impl {
  std::string path;
  Daemon daemon;
  std::vector<std::unique_ptr<Connection>> connections{};
  std::vector<double> latencies{};
  double generator_cpu = 0;
  double server_cpu = 0;
  std::uint64_t sent = 0;

  Impl(const std::string& program, const std::string& dir) : path(dir + "/millrace.db"), daemon(program, path, dir) {
    for (std::size_t i = 0; i < kConnections; ++i) connections.push_back(std::make_unique<Connection>(daemon.port()));
  }
};

HttpBatches::HttpBatches(const std::string& program, const std::string& dir)
    : impl_(std::make_unique<Impl>(program, dir)) {}
HttpBatches::~HttpBatches() = default;
std::string HttpBatches::name() const {
  return fmt::format("HTTP, batches of {} on {} connections", kEvents, kConnections);
}
std::vector<double> HttpBatches::latencies() const {
  return impl_->latencies;
}
std::string HttpBatches::cpu() const {
  return fmt::format("HTTP: {} events took {:.2f} s of CPU in the load generator and {:.2f} s in the daemon",
                     impl_->sent, impl_->generator_cpu, impl_->server_cpu);
}

double HttpBatches::round(std::span<const millrace::Event> events) {
  struct Request {
    std::string bytes;
    std::size_t events;
    double seconds = 0;
  };
  std::vector<Request> requests;
  for (std::size_t at = 0; at < events.size(); at += kEvents) {
    const auto batch = events.subspan(at, std::min(kEvents, events.size() - at));
    std::string body;
    for (const auto& event : batch) put_json(body, event);
    requests.push_back({post("/v1/streams/events/events", "application/x-ndjson", body), batch.size()});
  }
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&](Connection& connection) {
    try {
      for (std::size_t i = 0; (i = next.fetch_add(1)) < requests.size();) {
        const auto start = Clock::now();
        const std::string answer = connection.call(requests[i].bytes);
        requests[i].seconds = seconds_since(start);
        if (count_of(answer, R"("status":"stored")") != requests[i].events ||
            count_of(answer, R"("durability":"durable")") != requests[i].events)
          throw std::runtime_error("HTTP: an event was not stored durably: " + answer.substr(0, 300));
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      next = requests.size();
    }
  };
  const double generator_before = own_cpu_seconds();
  const double server_before = impl_->daemon.process().cpu_seconds();
  const auto start = Clock::now();
  {
    std::vector<std::jthread> threads;
    for (auto& connection : impl_->connections) threads.emplace_back(work, std::ref(*connection));
  }
  const double seconds = seconds_since(start);
  impl_->generator_cpu += own_cpu_seconds() - generator_before;
  impl_->server_cpu += impl_->daemon.process().cpu_seconds() - server_before;
  if (failure) std::rethrow_exception(failure);
  impl_->sent += events.size();
  for (const auto& request : requests) impl_->latencies.push_back(request.seconds);
  return seconds;
}

void HttpBatches::verify(std::uint64_t count) {
  impl_->connections.clear();
  impl_->daemon.stop();
  verify_log(*millrace::open_store("sqlite:" + impl_->path), count, name());
}

}  // namespace bench
