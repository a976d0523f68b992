// SPDX-License-Identifier: Apache-2.0
// Millrace's log through its public interface: batches, and many publishers of single events.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <variant>

#include "contender.hpp"
#include "millrace/store.hpp"
#include "workload.hpp"

namespace bench {
namespace {

using millrace::AppendAnswer;
using millrace::AppendResult;
using millrace::AppendStatus;
using millrace::Durability;
using millrace::Event;

void check(const std::vector<AppendResult>& results, std::size_t count) {
  if (results.size() != count) throw std::runtime_error("Millrace: not an answer for each event");
  for (const auto& result : results)
    if (result.status != AppendStatus::stored || result.durability != Durability::durable)
      throw std::runtime_error("Millrace: an event was not stored durably");
}

class MillraceLog : public Contender {
 public:
  explicit MillraceLog(const std::string& url) : store_(millrace::open_store(url)) {}

  void verify(std::uint64_t count) override { verify_log(*store_, count, name()); }
  std::vector<double> latencies() const override { return latencies_; }

 protected:
  std::unique_ptr<millrace::Store> store_;
  std::vector<double> latencies_;
};

class Batches : public MillraceLog {
 public:
  using MillraceLog::MillraceLog;
  std::string name() const override { return "Millrace, batches of 1000"; }

  double round(std::span<const Event> events) override {
    const auto start = Clock::now();
    for (std::size_t at = 0; at < events.size(); at += kBatch) {
      const auto batch = events.subspan(at, std::min(kBatch, events.size() - at));
      const auto batch_start = Clock::now();
      check(store_->log().append(millrace::kDefaultStream, batch), batch.size());
      latencies_.push_back(seconds_since(batch_start));
    }
    return seconds_since(start);
  }
};

// Each publisher has one event on its way and sends its next one when that is acknowledged.
class Publishers : public MillraceLog {
 public:
  Publishers(const std::string& url, std::size_t publishers) : MillraceLog(url), publishers_(publishers) {}
  std::string name() const override { return "Millrace, " + std::to_string(publishers_) + " single-event publishers"; }

  double round(std::span<const Event> events) override {
    Run run{.log = store_->log()};
    for (const auto& event : events) run.events.push_back({event});
    run.seconds.resize(events.size());
    run.sent.resize(events.size());
    const std::size_t publishers = std::min(publishers_, events.size());
    run.active = publishers;

    const auto start = Clock::now();
    for (std::size_t i = 0; i < publishers; ++i) run.send_next();
    {
      std::unique_lock lock(run.mutex);
      run.done.wait(lock, [&] { return run.active == 0; });
    }
    const double seconds = seconds_since(start);
    if (!run.failure.empty()) throw std::runtime_error(run.failure);
    latencies_.insert(latencies_.end(), run.seconds.begin(), run.seconds.end());
    return seconds;
  }

 private:
  struct Run {
    millrace::EventLog& log;
    std::vector<std::vector<Event>> events{};
    std::vector<double> seconds{};
    std::vector<Clock::time_point> sent{};
    std::atomic<std::size_t> next{0};
    std::mutex mutex{};
    std::condition_variable done{};
    std::size_t active = 0;
    std::string failure{};
    const millrace::StreamName stream{millrace::kDefaultStream};

    void send_next() {
      const std::size_t at = next.fetch_add(1, std::memory_order_relaxed);
      if (at >= events.size()) {
        std::lock_guard lock(mutex);
        if (--active == 0) done.notify_one();
        return;
      }
      sent[at] = Clock::now();
      log.append_async(stream, std::move(events[at]), Durability::durable, [this, at](const AppendAnswer& answer) {
        seconds[at] = seconds_since(sent[at]);
        note(answer);
        send_next();
      });
    }

    void note(const AppendAnswer& answer) {
      std::string what;
      if (const auto* error = std::get_if<millrace::Error>(&answer)) {
        what = error->what();
      } else {
        const auto& results = std::get<std::vector<AppendResult>>(answer);
        if (results.size() == 1 && results[0].status == AppendStatus::stored &&
            results[0].durability == Durability::durable)
          return;
        what = "Millrace: an event was not stored durably";
      }
      std::lock_guard lock(mutex);
      failure = what;
    }
  };

  std::size_t publishers_;
};

}  // namespace

std::unique_ptr<Contender> make_millrace_batches(const std::string& url) {
  return std::make_unique<Batches>(url);
}
std::unique_ptr<Contender> make_millrace_publishers(const std::string& url, std::size_t publishers) {
  return std::make_unique<Publishers>(url, publishers);
}

}  // namespace bench
