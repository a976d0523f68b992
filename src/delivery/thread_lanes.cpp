// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "delivery/lanes.hpp"

namespace millrace::delivery {
namespace {

Outcome answer_of(const Handler& handler, const Delivery& delivery) {
  try {
    return handler(delivery);
  } catch (const std::exception& error) {
    return Outcome::retry(error.what());
  } catch (...) {
    return Outcome::retry("the handler threw something that is no std::exception");
  }
}

bool lets_next_go(const Outcome& outcome) {
  return outcome.kind == Outcome::Kind::ack || outcome.kind == Outcome::Kind::reject;
}

/// A thread and the run it works through. Per delivery it costs two atomic writes that nobody else competes for.
class ThreadLane {
 public:
  ThreadLane(const Handler& handler, Signal& signal)
      : handler_(handler), signal_(signal), thread_([this] { live(); }) {}

  void start(Work work) {
    const std::lock_guard lock(mutex_);
    work_ = std::move(work);
    outcomes_.assign(work_.items.size(), {});
    collected_ = 0;
    next_.store(0, std::memory_order_relaxed);
    answered_.store(0, std::memory_order_relaxed);
    finished_.store(false, std::memory_order_relaxed);
    busy = has_work_ = true;
    condition_.notify_one();
  }

  std::size_t revoke() { return std::min(next_.exchange(kRevoked), work_.items.size()); }

  void collect(std::vector<Outcome>& outcomes) {
    const std::size_t answered = answered_.load(std::memory_order_acquire);
    for (; collected_ < answered; ++collected_) outcomes.push_back(std::move(outcomes_[collected_]));
  }

  /// To be asked before collect: when it is true, that collects the last answer.
  [[nodiscard]] bool finished() const { return finished_.load(std::memory_order_acquire); }
  [[nodiscard]] std::chrono::nanoseconds took() const { return took_; }

  void quit() {
    const std::lock_guard lock(mutex_);
    quit_ = true;
    condition_.notify_one();
  }
  void join() { thread_.join(); }

  bool busy = false;  ///< of the claim thread

 private:
  static constexpr std::size_t kRevoked = SIZE_MAX / 2;

  void live() {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        condition_.wait(lock, [this] { return has_work_ || quit_; });
        if (!has_work_) return;
        has_work_ = false;
      }
      run();
    }
  }

  void run() {
    const auto begun = std::chrono::steady_clock::now();
    for (;;) {
      const std::size_t i = next_.fetch_add(1);
      if (i >= work_.items.size()) break;
      outcomes_[i] = answer_of(handler_, (*work_.deliveries)[work_.items[i]]);
      const bool go_on = lets_next_go(outcomes_[i]);  // once it is counted it belongs to the collector
      answered_.store(i + 1, std::memory_order_release);
      if (!go_on) break;
    }
    took_ = std::chrono::steady_clock::now() - begun;
    finished_.store(true, std::memory_order_release);
    signal_.raise();
  }

  const Handler& handler_;
  Signal& signal_;
  Work work_;
  std::vector<Outcome> outcomes_;
  std::size_t collected_ = 0;  ///< of the claim thread
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> answered_{0};
  std::atomic<bool> finished_{false};
  std::chrono::nanoseconds took_{0};
  std::mutex mutex_;
  std::condition_variable condition_;
  bool has_work_ = false;
  bool quit_ = false;
  std::thread thread_;
};

class ThreadLanes final : public Lanes {
 public:
  ThreadLanes(std::size_t count, Handler handler, std::shared_ptr<Signal> signal)
      : handler_(std::move(handler)), signal_(std::move(signal)), lanes_(count) {}
  ~ThreadLanes() override { join(); }

  void start(LaneId id, Work work) override {
    auto& lane = lanes_[id];
    if (lane == nullptr) lane = std::make_unique<ThreadLane>(handler_, *signal_);
    lane->start(std::move(work));
  }

  std::size_t revoke(LaneId id, std::vector<Outcome>& outcomes) override {
    const std::size_t started = lanes_[id]->revoke();
    lanes_[id]->collect(outcomes);
    return started;
  }

  void collect(std::vector<Report>& reports) override {
    for (std::size_t id = 0; id < lanes_.size(); ++id) {
      ThreadLane* lane = lanes_[id].get();
      if (lane == nullptr || !lane->busy) continue;
      Report report;
      report.lane = static_cast<LaneId>(id);
      report.finished = lane->finished();
      lane->collect(report.outcomes);
      if (report.finished) {
        report.took = lane->took();
        lane->busy = false;
      }
      if (report.finished || !report.outcomes.empty()) reports.push_back(std::move(report));
    }
  }

  void join() override {
    for (const auto& lane : lanes_) {
      if (lane != nullptr) lane->quit();
    }
    for (auto& lane : lanes_) {
      if (lane == nullptr) continue;
      lane->join();
      lane.reset();
    }
  }

 private:
  const Handler handler_;
  const std::shared_ptr<Signal> signal_;
  std::vector<std::unique_ptr<ThreadLane>> lanes_;
};

}  // namespace

std::unique_ptr<Lanes> make_thread_lanes(std::size_t count, Handler handler, std::shared_ptr<Signal> signal) {
  return std::make_unique<ThreadLanes>(count, std::move(handler), std::move(signal));
}

}  // namespace millrace::delivery
