// SPDX-License-Identifier: Apache-2.0
#include "millrace/subscription.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "base/log.hpp"
#include "base/random.hpp"
#include "delivery/lanes.hpp"
#include "delivery/loop_state.hpp"
#include "delivery/session_keeper.hpp"
#include "delivery/signal.hpp"
#include "delivery/upcasting.hpp"
#include "store/ledger/group_state.hpp"

namespace millrace {
namespace {

using delivery::Action;
using delivery::Input;
using delivery::StoreCall;
using delivery::Time;
namespace action = delivery::action;
namespace input = delivery::input;

constexpr Milliseconds kDrainPoll{20};

std::string default_consumer() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0 || host[0] == '\0') host = {'l', 'o', 'c', 'a', 'l'};
  return fmt::format("{}-{}", host.data(), ::getpid());
}

SubscriptionOptions checked(SubscriptionOptions options) {
  options.validate();
  if (options.consumer.empty()) options.consumer = default_consumer();
  return options;
}

Time after(Milliseconds wait) {
  // Far enough is for ever; beyond it the clock would overflow.
  constexpr Milliseconds kFar{std::chrono::hours{24 * 365}};
  return std::chrono::steady_clock::now() + std::clamp(wait, Milliseconds{0}, kFar);
}

}  // namespace

/// The shell around LoopState: threads, store calls, and nothing decided here.
class Subscription::Impl {
 public:
  Impl(Store& store, SubscriptionOptions options, std::optional<std::int32_t> newest = {})
      : store_(store),
        options_(checked(std::move(options))),
        signal_(std::make_shared<delivery::Signal>()),
        upcasting_(std::make_shared<delivery::Upcasting>(options_.schemas, newest)) {}

  std::shared_ptr<delivery::Signal> signal() const { return signal_; }
  const SubscriptionOptions& options() const { return options_; }
  const delivery::Upcasting& upcasting() const { return *upcasting_; }

  void launch(std::unique_ptr<delivery::Lanes> lanes, std::size_t longest_run);
  bool stop(Milliseconds grace);
  void command(Input input);
  bool drain(Milliseconds timeout);
  Stats stats() const;

 private:
  void run();
  std::vector<Input> gather();
  void publish();
  std::vector<Input> perform(Action& action);
  Input call_store(StoreCall call, const std::function<Input()>& body);
  Input claim(std::size_t max);
  bool nothing_in_hand(Time deadline);

  Store& store_;
  const SubscriptionOptions options_;
  std::shared_ptr<delivery::Signal> signal_;
  std::shared_ptr<delivery::Upcasting> upcasting_;
  std::optional<delivery::LoopState> state_;  // of the claim thread
  std::unique_ptr<delivery::Lanes> lanes_;    // of the claim thread
  std::optional<SessionId> session_;          // of the claim thread
  std::optional<bool> clean_;                 // of the claim thread; set when it ends

  std::atomic<bool> woken_{false};
  std::atomic<SessionId> lost_{0};
  std::mutex commands_mutex_;
  std::vector<Input> commands_;

  mutable std::mutex shown_mutex_;
  std::condition_variable shown_changed_;
  Stats shown_;
  std::size_t shown_in_hand_ = 0;

  std::mutex stop_mutex_;
  bool joined_ = false;
  std::optional<delivery::SessionKeeper> keeper_;
  std::unique_ptr<Watch> watch_;
  std::thread thread_;
};

void Subscription::Impl::launch(std::unique_ptr<delivery::Lanes> lanes, std::size_t longest_run) {
  GroupSpec spec;
  spec.stream = options_.stream;
  spec.start = options_.start;
  spec.types = options_.types;
  spec.order = options_.order;
  spec.settings = options_.settings;
  store_.ledger().ensure_group(options_.group, spec);
  if (options_.schemas != nullptr) delivery::record_steps(store_.kv(), *options_.schemas);

  lanes_ = std::move(lanes);
  state_.emplace(delivery::LoopOptions{options_.batch, options_.concurrency, std::min(longest_run, options_.batch),
                                       options_.timeout});
  watch_ = store_.log().watch([this] {
    woken_.store(true);
    signal_->raise();
  });
  keeper_.emplace(store_.ledger(), options_.lease, [this](SessionId session) {
    lost_.store(session);
    signal_->raise();
  });
  thread_ = std::thread([this] { run(); });
}

// ---- The claim thread ----

void Subscription::Impl::run() {
  while (!clean_) {
    signal_->clear();
    std::vector<Input> inputs = gather();
    while (!inputs.empty() && !clean_) {
      std::vector<Action> actions = state_->step(std::exchange(inputs, {}), std::chrono::steady_clock::now());
      publish();
      for (Action& action : actions) {
        for (Input& result : perform(action)) inputs.push_back(std::move(result));
      }
    }
    if (!clean_) signal_->wait(state_->next_wake());
  }
}

std::vector<Input> Subscription::Impl::gather() {
  std::vector<Input> inputs;
  {
    const std::lock_guard lock(commands_mutex_);
    for (Input& command : commands_) inputs.push_back(std::move(command));
    commands_.clear();
  }
  const SessionId lost = lost_.exchange(0);
  if (lost != 0 && session_ == lost) {
    session_.reset();
    log::warn("session_lost", options_.group.str(),
              "the session expired in the store; what was in hand goes to others");
    inputs.emplace_back(input::SessionLost{});
  }
  std::vector<delivery::Lanes::Report> reports;
  lanes_->collect(reports);
  for (auto& report : reports) {
    if (!report.outcomes.empty()) inputs.emplace_back(input::Answered{report.lane, std::move(report.outcomes)});
    if (report.finished) inputs.emplace_back(input::Finished{report.lane, report.took});
  }
  if (woken_.exchange(false)) inputs.emplace_back(input::Wake{});
  inputs.emplace_back(input::Tick{});
  return inputs;
}

void Subscription::Impl::publish() {
  const std::lock_guard lock(shown_mutex_);
  shown_ = state_->stats();
  const std::size_t before = std::exchange(shown_in_hand_, state_->in_hand());
  if (shown_in_hand_ == 0 && before != 0) shown_changed_.notify_all();
}

std::vector<Input> Subscription::Impl::perform(Action& asked) {
  std::vector<Input> results;
  if (auto* start = std::get_if<action::Start>(&asked)) {
    lanes_->start(start->lane, std::move(start->work));
  } else if (const auto* revoke = std::get_if<action::Revoke>(&asked)) {
    std::vector<Outcome> outcomes;
    const std::size_t started = lanes_->revoke(revoke->lane, outcomes);
    if (!outcomes.empty()) results.emplace_back(input::Answered{revoke->lane, std::move(outcomes)});
    results.emplace_back(input::Revoked{revoke->lane, started});
  } else if (const auto* settle = std::get_if<action::Settle>(&asked)) {
    results.push_back(call_store(StoreCall::settle, [&]() -> Input {
      return input::Settled{store_.ledger().settle(options_.group, settle->settlements)};
    }));
  } else if (const auto* wanted = std::get_if<action::Claim>(&asked)) {
    results.push_back(call_store(StoreCall::claim, [&] { return claim(wanted->max); }));
  } else if (std::holds_alternative<action::OpenSession>(asked)) {
    results.push_back(call_store(StoreCall::open_session, [&]() -> Input {
      session_ = store_.ledger().open_session(options_.consumer, options_.lease);
      keeper_->keep(*session_);
      return input::SessionOpened{};
    }));
  } else if (std::holds_alternative<action::CloseSession>(asked)) {
    keeper_->let_go();
    results.push_back(call_store(StoreCall::close_session, [&]() -> Input {
      if (session_) store_.ledger().close_session(*session_);
      session_.reset();
      return input::SessionClosed{};
    }));
  } else {
    clean_ = std::get<action::Stopped>(asked).clean;
  }
  return results;
}

Input Subscription::Impl::call_store(StoreCall call, const std::function<Input()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (call == StoreCall::claim && error.code() == Errc::timed_out) session_.reset();
    log::write(log::Level::warn, error);
    return input::StoreFailed{call, error.code(), random_unit()};
  } catch (const std::exception& error) {  // memory, say: as good a reason to try again as any
    log::error("internal", options_.group.str(), error.what());
    return input::StoreFailed{call, Errc::internal, random_unit()};
  }
}

Input Subscription::Impl::claim(std::size_t max) {
  ClaimRequest request;
  request.consumer = options_.consumer;
  request.max = max;
  request.hold = session_.value_or(0);
  ClaimAnswer answer = store_.ledger().claim(options_.group, request);
  upcasting_->pin(answer.max_dataversion);
  input::Claimed claimed;
  claimed.next_due = answer.next_due;
  if (options_.order.kind != OrderRule::Kind::none) {
    claimed.keys.reserve(answer.deliveries.size());
    for (const Delivery& delivery : answer.deliveries) {
      claimed.keys.push_back(ledger::hash_key(options_.order.key_of(delivery.event)));
    }
  }
  claimed.deliveries = std::move(answer.deliveries);
  return claimed;
}

// ---- Calls from outside ----

void Subscription::Impl::command(Input command) {
  {
    const std::lock_guard lock(commands_mutex_);
    commands_.push_back(std::move(command));
  }
  signal_->raise();
}

bool Subscription::Impl::stop(Milliseconds grace) {
  command(input::Stop{after(grace)});  // before waiting for another stop: a shorter grace shortens that one
  const std::lock_guard lock(stop_mutex_);
  if (!joined_) {
    joined_ = true;
    if (thread_.joinable()) thread_.join();
    watch_.reset();
    keeper_.reset();
    lanes_->join();
  }
  return clean_.value_or(true);
}

Subscription::Stats Subscription::Impl::stats() const {
  const std::lock_guard lock(shown_mutex_);
  return shown_;
}

bool Subscription::Impl::nothing_in_hand(Time deadline) {
  std::unique_lock lock(shown_mutex_);
  return shown_changed_.wait_until(lock, deadline, [this] { return shown_in_hand_ == 0; });
}

bool Subscription::Impl::drain(Milliseconds timeout) {
  const Time deadline = after(timeout);
  for (;;) {
    nothing_in_hand(deadline);
    try {
      // The ledger first, then the loop: what it settled it counts before it shows an empty hand.
      const Lag lag = store_.ledger().group(options_.group).lag;
      if (lag.ahead == 0 && lag.in_flight == 0 && lag.waiting == 0 && nothing_in_hand(deadline)) return true;
    } catch (const Error& error) {
      if (!is_transient(error.code())) throw;
    }
    const Time now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    std::this_thread::sleep_until(std::min(deadline, now + kDrainPoll));
  }
}

// ---- The public face ----

Subscription::Subscription(Store& store, SubscriptionOptions options, Handler handler)
    : impl_(std::make_unique<Impl>(store, std::move(options))) {
  if (handler == nullptr) throw Error(Errc::invalid_argument, "subscribe", "handler", "a handler must be callable");
  launch(std::move(handler));
}

Subscription::Subscription(Store& store, SubscriptionOptions options, Handler handler, std::int32_t newest)
    : impl_(std::make_unique<Impl>(store, std::move(options), newest)) {
  launch(std::move(handler));
}

void Subscription::launch(Handler handler) {
  handler = impl_->upcasting().before(std::move(handler));
  impl_->launch(delivery::make_thread_lanes(impl_->options().concurrency, std::move(handler), impl_->signal()), 1024);
}

Subscription::Subscription(Store& store, SubscriptionOptions options, AsyncHandler handler)
    : impl_(std::make_unique<Impl>(store, std::move(options))) {
  if (handler == nullptr) throw Error(Errc::invalid_argument, "subscribe", "handler", "a handler must be callable");
  handler = impl_->upcasting().before(std::move(handler));
  impl_->launch(delivery::make_async_lanes(std::move(handler), impl_->signal()), 1);
}

Subscription::~Subscription() {
  impl_->stop(Milliseconds{0});
}

bool Subscription::stop(Milliseconds grace) {
  return impl_->stop(grace);
}
void Subscription::pause() {
  impl_->command(input::Pause{});
}
void Subscription::resume() {
  impl_->command(input::Resume{});
}
bool Subscription::drain(Milliseconds timeout) {
  return impl_->drain(timeout);
}
Subscription::Stats Subscription::stats() const {
  return impl_->stats();
}

}  // namespace millrace
