// SPDX-License-Identifier: Apache-2.0
#include "delivery/loop_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace millrace::delivery {
namespace {

using std::chrono::milliseconds;

/// A lane that has not answered anything for so long does not keep the rest of its run while another lane is idle.
constexpr milliseconds kStall{20};
/// A watch may come late: look again anyway.
constexpr std::chrono::seconds kLookAgain{5};
constexpr std::chrono::microseconds kRunTooShort{500};
constexpr std::chrono::microseconds kRunTooLong{2000};
/// Runs this long show a handler that takes some microseconds.
constexpr std::size_t kFastRun = 16;
/// What fits into one run for every lane should be through by then.
constexpr milliseconds kNearlyThrough{3};
constexpr milliseconds kFirstBackoff{1000};
constexpr milliseconds kMaxBackoff{10'000};

Time earlier(std::optional<Time> a, Time b) {
  return a ? std::min(*a, b) : b;
}

std::string in_words(Milliseconds time) {
  return time.count() % 1000 == 0 ? fmt::format("{}s", time.count() / 1000) : fmt::format("{}ms", time.count());
}

bool lets_next_go(const Outcome& outcome) {
  return outcome.kind == Outcome::Kind::ack || outcome.kind == Outcome::Kind::reject;
}

}  // namespace

LoopState::LoopState(LoopOptions options) : options_(options), lanes_(options.concurrency) {
  for (std::size_t i = 0; i < options_.concurrency; ++i) idle_.push(static_cast<LaneId>(i));
}

std::vector<Action> LoopState::step(std::vector<Input> inputs, Time now) {
  actions_.clear();
  for (Input& input : inputs) std::visit([&](auto& what) { on(what, now); }, input);
  if (!stopped_) decide(now);
  return std::move(actions_);
}

std::optional<Time> LoopState::next_wake() const {
  if (stopped_) return std::nullopt;
  std::optional<Time> wake = lanes_due_;
  if (retry_at_) {
    wake = earlier(wake, *retry_at_);
  } else if (claim_at_ && may_claim()) {
    wake = earlier(wake, *claim_at_);
  }
  if (!retry_at_ && claim_due_ && nearly_through_ && may_claim()) wake = earlier(wake, *nearly_through_);
  if (stopping_ && !closed_) wake = earlier(wake, deadline_);
  return wake;
}

// ---- The store's answers ----

void LoopState::on(input::Wake&, Time) {
  claim_due_ = true;
}

void LoopState::on(input::SessionOpened&, Time) {
  calling_ = false;
  session_ = true;
  store_answered();
  claim_due_ = true;
}

void LoopState::on(input::SessionLost&, Time) {
  lose_session();
}

void LoopState::lose_session() {
  // Whatever is in hand belongs to others now; answering it would only be told stale.
  session_ = false;
  for (const Settlement& answer : unsettled_) {
    if (answer.outcome.kind != Outcome::Kind::release) ++stats_.stale;
  }
  unsettled_.clear();
  hands_.clear();
  ready_ = 0;
  in_hand_ = 0;
  for (LaneId id = 0; id < lanes_.size(); ++id) {
    Lane& lane = lanes_[id];
    if (!lane.busy) continue;
    if (!lane.ignored) lane.ignored = lane.lost = true;
    revoke(id);
  }
  claim_due_ = true;
}

void LoopState::on(input::SessionClosed&, Time) {
  calling_ = false;
  session_ = false;
  closed_ = true;
}

void LoopState::on(input::Claimed& claimed, Time now) {
  calling_ = false;
  store_answered();
  if (claimed.deliveries.empty()) {
    claim_due_ = false;
    claim_at_ = now + std::min<std::chrono::nanoseconds>(claimed.next_due.value_or(kLookAgain), kLookAgain);
    look_when_empty_ = in_hand_ != 0;
    return;
  }
  claim_due_ = true;
  auto hand = std::make_shared<Hand>();
  hand->open = claimed.deliveries.size();
  hand->items.resize(claimed.deliveries.size());
  hand->deliveries = std::make_shared<const std::vector<Delivery>>(std::move(claimed.deliveries));
  in_hand_ += hand->open;
  link(*hand, claimed.keys);
  for (std::uint32_t i = 0; i < hand->items.size(); ++i) make_ready(*hand, i, false);
  hands_.push_back(std::move(hand));
}

/// Chains the events of each key.
void LoopState::link(Hand& hand, const std::vector<std::uint64_t>& keys) const {
  if (keys.empty()) return;
  const std::size_t mask = std::bit_ceil(keys.size() * 2) - 1;
  std::vector<std::uint32_t> last(mask + 1, kNone);  // the newest item of each key, by open addressing
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == 0) continue;
    std::size_t slot = (keys[i] * 0x9E3779B97F4A7C15ULL >> 32) & mask;
    while (last[slot] != kNone && keys[last[slot]] != keys[i]) slot = (slot + 1) & mask;
    if (last[slot] != kNone) {
      hand.items[last[slot]].next = i;
      hand.items[i].held_back = true;
    }
    last[slot] = i;
  }
}

void LoopState::on(input::Settled& settled, Time) {
  calling_ = false;
  store_answered();
  std::size_t next_stale = 0;
  std::sort(settled.stale.begin(), settled.stale.end());
  for (std::size_t i = 0; i < settling_.size(); ++i) {
    const Outcome::Kind kind = settling_[i].outcome.kind;
    if (next_stale < settled.stale.size() && settled.stale[next_stale] == i) {
      ++next_stale;
      if (kind != Outcome::Kind::release) ++stats_.stale;
      continue;
    }
    switch (kind) {
      case Outcome::Kind::ack:
        ++stats_.acked;
        break;
      case Outcome::Kind::retry:
        ++stats_.retried;
        break;
      case Outcome::Kind::reject:
        ++stats_.rejected;
        break;
      case Outcome::Kind::release:
        ++stats_.released;
        break;
    }
  }
  in_hand_ -= settling_.size();
  settling_.clear();
  if (in_hand_ == 0 && look_when_empty_) claim_due_ = true;
}

void LoopState::store_answered() {
  errors_ = 0;
  retry_at_.reset();
}

void LoopState::on(input::StoreFailed& failed, Time now) {
  calling_ = false;
  if (failed.call == StoreCall::claim && failed.code == Errc::timed_out) {  // the session expired; the store is well
    lose_session();
    return;
  }
  ++stats_.store_errors;
  const auto wait = std::min(kMaxBackoff, kFirstBackoff * (1U << std::min(errors_, 10U)));
  ++errors_;
  retry_at_ = now + std::chrono::duration_cast<std::chrono::nanoseconds>(wait * (0.5 + failed.random / 2));
  if (failed.call == StoreCall::close_session) closed_ = true;  // the lease will end it
  if (failed.call != StoreCall::settle) return;
  const bool hopeless = failed.code == Errc::unknown_group || (stopping_ && now >= deadline_);
  if (hopeless) {
    stats_.stale += settling_.size();
    in_hand_ -= settling_.size();
    if (stopping_) clean_ = false;
  } else {
    unsettled_.insert(unsettled_.begin(), std::make_move_iterator(settling_.begin()),
                      std::make_move_iterator(settling_.end()));
  }
  settling_.clear();
}

// ---- The handlers' answers ----

void LoopState::on(input::Answered& answered, Time now) {
  Lane& lane = lanes_[answered.lane];
  lane.progress_at = now;
  for (Outcome& outcome : answered.outcomes) {
    const std::uint32_t index = lane.items[lane.answered++];
    if (!lane.ignored) {
      answer(*lane.hand, index, std::move(outcome));
      continue;
    }
    ++stats_.stale;
    if (lane.lost) ++stats_.delivered;
  }
  forget_done_hands();
}

void LoopState::answer(Hand& hand, std::uint32_t index, Outcome outcome, bool timed_out) {
  ++stats_.delivered;
  if (timed_out) ++stats_.timed_out;
  if (outcome.kind == Outcome::Kind::reject && outcome.reason.empty()) outcome.reason = "rejected without a reason";
  Item& item = hand.items[index];
  item.state = Item::State::done;
  --hand.open;
  const bool go_on = lets_next_go(outcome);
  unsettled_.push_back({(*hand.deliveries)[index].lease, std::move(outcome)});
  if (item.next == kNone) return;
  if (!go_on) {
    give_up(hand, item.next);
    return;
  }
  Item& next = hand.items[item.next];
  next.held_back = false;
  if (!serial() && next.state == Item::State::queued) make_ready(hand, item.next, false);
}

/// Releases an event that no handler has begun, and those of its key after it.
void LoopState::give_up(Hand& hand, std::uint32_t index) {
  for (; index != kNone; index = hand.items[index].next) {
    Item& item = hand.items[index];
    if (item.state == Item::State::done) continue;
    if (item.state == Item::State::queued && (serial() || !item.held_back)) --ready_;
    item.state = Item::State::done;
    --hand.open;
    unsettled_.push_back({(*hand.deliveries)[index].lease, Outcome::release()});
    if (stopping_) clean_ = false;
  }
}

void LoopState::make_ready(Hand& hand, std::uint32_t index, bool front) {
  Item& item = hand.items[index];
  item.state = Item::State::queued;
  // One lane alone takes everything as it came: what is before it in the line is before it in the lane.
  if (item.held_back && !serial()) return;
  front ? hand.ready.push_front(index) : hand.ready.push_back(index);
  ++ready_;
}

void LoopState::on(input::Finished& finished, Time) {
  Lane& lane = lanes_[finished.lane];
  if (!lane.ignored) take_back(lane, lane.answered);
  if (lane.hung) --hung_;
  if (finished.took < kRunTooShort && lane.answered >= run_) {
    run_ = std::min(run_ * 2, options_.longest_run);
  } else if (finished.took > kRunTooLong) {
    run_ = std::max<std::size_t>(1, std::min(run_, lane.answered) / 4);
  }
  lane = Lane{};
  idle_.push(finished.lane);
}

void LoopState::on(input::Revoked& revoked, Time now) {
  Lane& lane = lanes_[revoked.lane];
  if (!lane.busy) return;
  lane.revoke_open = false;
  if (lane.ignored) return;
  take_back(lane, revoked.started);
  const bool running = lane.items.size() > lane.answered;
  if (lane.timeout_noticed && running && lane.progress_at == lane.timeout_seen) {
    time_out(lane);
    forget_done_hands();
  } else if (running) {
    lanes_due_ = earlier(lanes_due_, std::max(now, lane.progress_at + options_.timeout));
  }
}

void LoopState::take_back(Lane& lane, std::size_t from) {
  from = std::max(from, lane.answered);
  for (std::size_t i = lane.items.size(); i > from; --i) {
    const std::uint32_t index = lane.items[i - 1];
    if (lane.hand->items[index].state == Item::State::placed) make_ready(*lane.hand, index, true);
  }
  lane.items.resize(std::min(lane.items.size(), from));
}

void LoopState::time_out(Lane& lane) {
  answer(*lane.hand, lane.items[lane.answered],
         Outcome::retry("timed out after " + in_words(options_.timeout), FailureClass::transient), true);
  lane.ignored = lane.hung = true;
  ++hung_;
}

// ---- Commands ----

void LoopState::on(input::Pause&, Time) {
  paused_ = true;
}

void LoopState::on(input::Resume&, Time) {
  paused_ = false;
  claim_due_ = true;
}

void LoopState::on(input::Stop& stop, Time) {
  deadline_ = stopping_ ? std::min(deadline_, stop.deadline) : stop.deadline;
  stopping_ = true;
}

// ---- Decisions ----

void LoopState::decide(Time now) {
  if (lanes_due_ && now >= *lanes_due_) check_lanes(now);
  if (shedding()) {
    revoke_all();
    if (stopping_ && now >= deadline_) abandon_running();
    shed();
  } else if (session_) {
    start_lanes(now);
  }
  if (retry_at_ && (now >= *retry_at_ || (stopping_ && now >= deadline_))) retry_at_.reset();
  if (!calling_ && !retry_at_) decide_store(now);
  if (stopping_) decide_end(now);
}

void LoopState::check_lanes(Time now) {
  lanes_due_.reset();
  for (LaneId id = 0; id < lanes_.size(); ++id) {
    Lane& lane = lanes_[id];
    if (!lane.busy || lane.ignored) continue;
    const Time timeout_at = lane.progress_at + options_.timeout;
    const bool running = lane.items.size() > lane.answered;
    if (now >= timeout_at && running && !lane.revoke_open) {
      if (lane.revoked) {
        time_out(lane);
        continue;
      }
      lane.timeout_noticed = true;
      lane.timeout_seen = lane.progress_at;
      revoke(id);
      continue;
    }
    if (running && now < timeout_at) lanes_due_ = earlier(lanes_due_, timeout_at);
    if (lane.revoked || lane.items.size() <= lane.answered + 1) continue;
    if (now - lane.progress_at >= kStall) {
      run_ = 1;
      if (!idle_.empty()) {
        revoke(id);
        continue;
      }
    }
    lanes_due_ = earlier(lanes_due_, now + kStall);
  }
  forget_done_hands();
}

void LoopState::revoke(LaneId id) {
  Lane& lane = lanes_[id];
  if (lane.revoked) return;
  lane.revoked = lane.revoke_open = true;
  actions_.emplace_back(action::Revoke{id});
}

void LoopState::revoke_all() {
  for (LaneId id = 0; id < lanes_.size(); ++id) {
    if (lanes_[id].busy) revoke(id);
  }
}

/// The time to stop has come: gives back what handlers still run.
void LoopState::abandon_running() {
  for (Lane& lane : lanes_) {
    if (!lane.busy || lane.ignored || lane.revoke_open || lane.items.size() <= lane.answered) continue;
    ++stats_.delivered;
    give_up(*lane.hand, lane.items[lane.answered]);
    lane.ignored = true;
  }
}

/// Gives back what waits for a handler, except behind one of its key that runs: that one is settled first.
void LoopState::shed() {
  for (const auto& hand : hands_) {
    std::deque<std::uint32_t> kept;
    for (const std::uint32_t index : std::exchange(hand->ready, {})) {
      const Item& item = hand->items[index];
      if (item.state != Item::State::queued) continue;
      if (item.held_back) {
        kept.push_back(index);
      } else {
        give_up(*hand, index);
      }
    }
    hand->ready = std::move(kept);
  }
  forget_done_hands();
}

void LoopState::forget_done_hands() {
  std::erase_if(hands_, [](const auto& hand) { return hand->open == 0; });
}

void LoopState::start_lanes(Time now) {
  const std::size_t fair = (ready_ + options_.concurrency - 1) / options_.concurrency;
  const std::size_t most = std::max<std::size_t>(1, std::min(run_, fair));
  for (std::size_t h = 0; h < hands_.size() && !idle_.empty() && ready_ != 0;) {
    std::vector<std::uint32_t> run = next_run(*hands_[h], most);
    if (run.empty()) {
      ++h;
      continue;
    }
    const LaneId id = idle_.top();
    idle_.pop();
    Lane& lane = lanes_[id];
    lane.hand = hands_[h];
    lane.items = run;
    lane.progress_at = now;
    lane.busy = true;
    lanes_due_ = earlier(lanes_due_, now + (run.size() > 1 ? std::min(kStall, options_.timeout) : options_.timeout));
    actions_.emplace_back(action::Start{id, {hands_[h]->deliveries, std::move(run)}});
  }
}

std::vector<std::uint32_t> LoopState::next_run(Hand& hand, std::size_t most) {
  std::vector<std::uint32_t> run;
  while (run.size() < most && !hand.ready.empty()) {
    std::uint32_t index = hand.ready.front();
    hand.ready.pop_front();
    if (hand.items[index].state != Item::State::queued) continue;
    --ready_;
    hand.items[index].state = Item::State::placed;
    run.push_back(index);
    // What follows it in its key may go along: it stays in order in the same lane.
    while (!serial() && run.size() < most && (index = hand.items[index].next) != kNone) {
      hand.items[index].state = Item::State::placed;
      run.push_back(index);
    }
  }
  return run;
}

bool LoopState::may_claim() const {
  return !shedding() && session_ && ready_ < options_.concurrency &&
         in_hand_ < 4 * options_.batch + 2 * options_.concurrency;
}

void LoopState::decide_store(Time now) {
  if (closed_) return;
  if (!session_) {
    if (stopping_) return;
    calling_ = true;
    actions_.emplace_back(action::OpenSession{});
    return;
  }
  if (!unsettled_.empty()) {
    settling_ = std::exchange(unsettled_, {});
    calling_ = true;
    actions_.emplace_back(action::Settle{settling_});
    return;
  }
  if (claim_at_ && now >= *claim_at_) claim_due_ = true;
  if (!claim_due_ || !may_claim()) return;
  if (in_hand_ != 0 && run_ >= kFastRun && in_hand_ <= run_ * options_.concurrency) {
    if (!nearly_through_) nearly_through_ = now + kNearlyThrough;
    if (now < *nearly_through_) return;
  }
  claim_at_.reset();
  nearly_through_.reset();
  look_when_empty_ = false;
  calling_ = true;
  actions_.emplace_back(action::Claim{options_.batch});
}

void LoopState::decide_end(Time now) {
  if (calling_) return;
  const bool in_lanes = std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) {
    return lane.busy && !lane.ignored && lane.items.size() > lane.answered;
  });
  if (in_lanes || !hands_.empty()) return;
  if (!unsettled_.empty() && now < deadline_) return;  // the store fails; there is time to try again
  if (session_ && !closed_) {
    calling_ = true;
    actions_.emplace_back(action::CloseSession{});
    return;
  }
  stopped_ = true;
  actions_.emplace_back(action::Stopped{clean_});
}

}  // namespace millrace::delivery
