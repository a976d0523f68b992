// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <mutex>
#include <utility>

#include "delivery/lanes.hpp"

namespace millrace::delivery {
namespace {

/// Where answers wait for the claim thread. Lives as long as somebody may still answer.
struct Mailbox {
  explicit Mailbox(std::shared_ptr<Signal> wake) : signal(std::move(wake)) {}

  void put(LaneId lane, Outcome outcome) {
    {
      const std::lock_guard lock(mutex);
      answers.emplace_back(lane, std::move(outcome));
    }
    signal->raise();
  }

  std::mutex mutex;
  std::vector<std::pair<LaneId, Outcome>> answers;
  std::shared_ptr<Signal> signal;
};

/// The right to answer one delivery once; gone unused, it answers for the handler. Keeps the delivery alive.
class Token {
 public:
  Token(std::shared_ptr<Mailbox> mailbox, LaneId lane, std::shared_ptr<const std::vector<Delivery>> deliveries)
      : mailbox_(std::move(mailbox)), lane_(lane), deliveries_(std::move(deliveries)) {}
  ~Token() { answer(Outcome::retry("handler gave no answer")); }
  Token(const Token&) = delete;
  Token& operator=(const Token&) = delete;

  void answer(Outcome outcome) {
    if (!used_.exchange(true)) mailbox_->put(lane_, std::move(outcome));
  }

 private:
  std::shared_ptr<Mailbox> mailbox_;
  LaneId lane_;
  std::shared_ptr<const std::vector<Delivery>> deliveries_;
  std::atomic<bool> used_{false};
};

class AsyncLanes final : public Lanes {
 public:
  AsyncLanes(AsyncHandler handler, std::shared_ptr<Signal> signal)
      : handler_(std::move(handler)), mailbox_(std::make_shared<Mailbox>(std::move(signal))) {}

  void start(LaneId lane, Work work) override {
    const Delivery& delivery = (*work.deliveries)[work.items.front()];
    const auto token = std::make_shared<Token>(mailbox_, lane, work.deliveries);
    try {
      handler_(delivery, [token](Outcome outcome) { token->answer(std::move(outcome)); });
    } catch (const std::exception& error) {
      token->answer(Outcome::retry(error.what()));
    } catch (...) {
      token->answer(Outcome::retry("the handler threw something that is no std::exception"));
    }
  }

  /// Work is one delivery, begun when it was started; its answer comes with the next collect.
  std::size_t revoke(LaneId, std::vector<Outcome>&) override { return 1; }

  void collect(std::vector<Report>& reports) override {
    std::vector<std::pair<LaneId, Outcome>> answers;
    {
      const std::lock_guard lock(mailbox_->mutex);
      answers.swap(mailbox_->answers);
    }
    for (auto& [lane, outcome] : answers) {
      Report& report = reports.emplace_back();
      report.lane = lane;
      report.outcomes.push_back(std::move(outcome));
      report.finished = true;
    }
  }

  void join() override {}

 private:
  const AsyncHandler handler_;
  const std::shared_ptr<Mailbox> mailbox_;
};

}  // namespace

std::unique_ptr<Lanes> make_async_lanes(AsyncHandler handler, std::shared_ptr<Signal> signal) {
  return std::make_unique<AsyncLanes>(std::move(handler), std::move(signal));
}

}  // namespace millrace::delivery
