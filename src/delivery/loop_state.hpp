// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The decisions of a subscription, without clock, thread or I/O: what happened goes in, what to do comes out.
///
/// A *lane* is one of the `concurrency` places where a handler may run. It gets a run of deliveries of one claim,
/// handles them one after another and stops by itself after an answer that is neither ack nor reject. Runs are short:
/// as many deliveries as take about a millisecond, so that nothing waits long behind a slow one; a lane that makes no
/// progress has the rest of its run taken back (`Revoke`).
///
/// Order: events of one key within a claim form a chain; one is handled after the one before it was acknowledged or
/// rejected. Was it to be retried or released, the rest of the chain is released. (Across claims the ledger sees to
/// it.)

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <variant>
#include <vector>

#include "millrace/subscription.hpp"

namespace millrace::delivery {

using Time = std::chrono::steady_clock::time_point;
using LaneId = std::uint32_t;

/// Deliveries for one lane, in this order.
struct Work {
  std::shared_ptr<const std::vector<Delivery>> deliveries;
  std::vector<std::uint32_t> items;  ///< indexes
};

struct LoopOptions {
  std::size_t batch = 100;
  std::size_t concurrency = 1;
  std::size_t longest_run = 1024;  ///< 1 for handlers that return before they are done
  Milliseconds timeout{30'000};
};

enum class StoreCall { open_session, claim, settle, close_session };

namespace input {
struct Tick {};  ///< time has passed
struct Wake {};  ///< the store says: look
struct SessionOpened {};
struct SessionLost {};
struct SessionClosed {};
struct Claimed {
  std::vector<Delivery> deliveries;
  std::vector<std::uint64_t> keys;  ///< hash of each order key, 0 = none; empty = no order at all
  std::optional<Milliseconds> next_due;
};
struct Settled {
  std::vector<std::size_t> stale;
};
struct StoreFailed {
  StoreCall call;
  Errc code;
  double random;  ///< in [0, 1), the jitter
};
/// The next deliveries of the lane's work were answered.
struct Answered {
  LaneId lane;
  std::vector<Outcome> outcomes;
};
/// The lane is free; what it did not answer it did not begin.
struct Finished {
  LaneId lane;
  std::chrono::nanoseconds took;
};
/// Answer to Revoke, after an Answered with all that had come by then: from `started` on nothing was and will be begun.
struct Revoked {
  LaneId lane;
  std::size_t started;
};
struct Pause {};
struct Resume {};
struct Stop {
  Time deadline;
};
}  // namespace input
using Input = std::variant<input::Tick, input::Wake, input::SessionOpened, input::SessionLost, input::SessionClosed,
                           input::Claimed, input::Settled, input::StoreFailed, input::Answered, input::Finished,
                           input::Revoked, input::Pause, input::Resume, input::Stop>;

namespace action {
struct OpenSession {};
struct CloseSession {};
struct Claim {
  std::size_t max;
};
struct Settle {
  std::vector<Settlement> settlements;
};
struct Start {
  LaneId lane;
  Work work;
};
struct Revoke {
  LaneId lane;
};
struct Stopped {
  bool clean;  ///< nothing had to be released
};
}  // namespace action
/// A store action is answered, by its result or StoreFailed, before any other input; a Revoke too.
using Action = std::variant<action::OpenSession, action::CloseSession, action::Claim, action::Settle, action::Start,
                            action::Revoke, action::Stopped>;

/// Not thread-safe.
class LoopState {
 public:
  explicit LoopState(LoopOptions options);

  /// Takes in all of `inputs`, then decides once: a decision between two of them would be made on half of what is known
  /// (a lane's answers without its end).
  std::vector<Action> step(std::vector<Input> inputs, Time now);
  /// When to step a Tick if nothing else happens.
  [[nodiscard]] std::optional<Time> next_wake() const;
  [[nodiscard]] const Subscription::Stats& stats() const { return stats_; }
  /// Claimed and not yet settled.
  [[nodiscard]] std::size_t in_hand() const { return in_hand_; }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  struct Item {
    enum class State : std::uint8_t { queued, placed, done };
    std::uint32_t next = kNone;  ///< the next one of its key
    State state = State::queued;
    bool held_back = false;  ///< the one before it of its key is not acknowledged yet
  };
  /// One claim. Lives while something of it is not answered, or a lane has work of it.
  struct Hand {
    std::shared_ptr<const std::vector<Delivery>> deliveries;
    std::vector<Item> items;
    std::deque<std::uint32_t> ready;  ///< may hold items that are done meanwhile
    std::size_t open = 0;
  };
  struct Lane {
    std::shared_ptr<Hand> hand;
    std::vector<std::uint32_t> items;
    std::size_t answered = 0;
    Time progress_at;
    bool busy = false;
    bool revoked = false;      ///< asked to begin nothing more
    bool revoke_open = false;  ///< and has not said yet what it had begun
    bool ignored = false;      ///< what it runs was given up
    bool hung = false;         ///< because it timed out
    bool lost = false;         ///< because the session was lost
    Time timeout_seen;         ///< progress_at for which a timeout was noticed
    bool timeout_noticed = false;
  };
  void on(input::Tick&, Time) {}
  void on(input::Wake&, Time now);
  void on(input::SessionOpened&, Time now);
  void on(input::SessionLost&, Time now);
  void on(input::SessionClosed&, Time now);
  void on(input::Claimed& claimed, Time now);
  void on(input::Settled& settled, Time now);
  void on(input::StoreFailed& failed, Time now);
  void on(input::Answered& answered, Time now);
  void on(input::Finished& finished, Time now);
  void on(input::Revoked& revoked, Time now);
  void on(input::Pause&, Time now);
  void on(input::Resume&, Time now);
  void on(input::Stop& stop, Time now);

  void decide(Time now);
  void check_lanes(Time now);
  void revoke_all();
  void abandon_running();
  void shed();
  void start_lanes(Time now);
  [[nodiscard]] std::vector<std::uint32_t> next_run(Hand& hand, std::size_t most);
  void decide_store(Time now);
  void decide_end(Time now);

  void link(Hand& hand, const std::vector<std::uint64_t>& keys) const;
  void answer(Hand& hand, std::uint32_t index, Outcome outcome, bool timed_out = false);
  void give_up(Hand& hand, std::uint32_t index);
  void make_ready(Hand& hand, std::uint32_t index, bool front);
  void take_back(Lane& lane, std::size_t from);
  void revoke(LaneId id);
  void time_out(Lane& lane);
  void store_answered();
  void lose_session();
  void forget_done_hands();

  [[nodiscard]] bool serial() const { return options_.concurrency == 1; }
  [[nodiscard]] bool shedding() const { return paused_ || stopping_ || hung_ == options_.concurrency; }
  [[nodiscard]] bool may_claim() const;

  LoopOptions options_;
  Subscription::Stats stats_;
  std::vector<Action> actions_;

  std::vector<std::shared_ptr<Hand>> hands_;
  std::vector<Lane> lanes_;
  std::priority_queue<LaneId, std::vector<LaneId>, std::greater<>> idle_;
  std::size_t ready_ = 0;  ///< could be started now
  std::size_t in_hand_ = 0;
  std::size_t hung_ = 0;
  std::size_t run_ = 1;  ///< how many deliveries a lane gets at once
  std::optional<Time> lanes_due_;

  std::vector<Settlement> unsettled_;  ///< answered, in the order of the answers
  std::vector<Settlement> settling_;
  bool calling_ = false;  ///< a store call is under way
  bool session_ = false;

  bool claim_due_ = true;
  std::optional<Time> claim_at_;
  /// Handlers this fast are through before a claim could be: until then it would only park what comes after the same
  /// keys, and every parked event is written down and handed out again.
  std::optional<Time> nearly_through_;
  bool look_when_empty_ = false;  ///< the ledger gave nothing while we held something: that may have been the reason

  unsigned errors_ = 0;  ///< in a row
  std::optional<Time> retry_at_;

  bool paused_ = false;
  bool stopping_ = false;
  bool clean_ = true;
  bool closed_ = false;
  bool stopped_ = false;
  Time deadline_;
};

}  // namespace millrace::delivery
