// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/ledger/group_state.hpp"

namespace millrace::ledger {

/// A log of keys, a clock that is set by hand, and a group. What changed is kept as rows, as a store would keep it;
/// with `reload` on, the group is thrown away and loaded from those rows before every step, and nothing may be
/// different.
class GroupStateTest : public testing::TestWithParam<bool> {
 protected:
  class Log : public FreshEvents {
   public:
    Log(const std::vector<std::string>& keys, const std::set<Ordinal>& expired, Ordinal after)
        : keys_(keys), expired_(expired), at_(after) {}
    std::optional<Candidate> next() override {
      if (at_ >= keys_.size()) return std::nullopt;
      ++at_;
      return Candidate{at_, key_hash(keys_[at_ - 1]), 10, expired_.contains(at_)};
    }
    [[nodiscard]] Ordinal scanned_to() const override { return at_; }

   private:
    const std::vector<std::string>& keys_;
    const std::set<Ordinal>& expired_;
    Ordinal at_;
  };

  static KeyHash key_hash(const std::string& key) {
    return hash_key(key == "-" ? std::nullopt : std::optional<std::string>(key));
  }

  /// Keys of the log, one event each; "-" has none.
  void log(const std::string& keys) {
    for (const char c : keys) {
      if (c != ' ') keys_.emplace_back(1, c);
    }
  }

  /// The ordinals handed out, e.g. "1 2 5"; `held_` is the claim.
  std::string claim(const std::string& consumer, std::size_t max = 100, Milliseconds lease = Milliseconds{1000}) {
    return claim_held(consumer, max, lease);
  }
  std::string claim_in_session(SessionId session, std::size_t max = 100) { return claim_held("session", max, session); }
  std::string claim_held(const std::string& consumer, std::size_t max, std::variant<SessionId, Milliseconds> hold) {
    before();
    ClaimRequest request;
    request.consumer = consumer;
    request.max = max;
    request.hold = hold;
    Log fresh(keys_, expired_, state_.progress().cursor);
    out_ = state_.claim(now_, ++claims_, request, fresh, ends());
    std::string text;
    for (const auto& given : out_.events) text += (text.empty() ? "" : " ") + std::to_string(given.ordinal);
    after();
    return text;
  }
  bool settle(std::uint64_t claim_id, Ordinal ordinal, const Outcome& outcome) {
    before();
    const bool done = state_.settle(now_, Lease{claim_id, Position{ordinal}}, outcome, 0.5, ends());
    after();
    return done;
  }
  bool ack(std::uint64_t claim_id, Ordinal ordinal) { return settle(claim_id, ordinal, Outcome::ack()); }
  bool release(std::uint64_t claim_id, Ordinal ordinal) { return settle(claim_id, ordinal, Outcome::release()); }
  bool retry_in(std::uint64_t claim_id, Ordinal ordinal, Milliseconds wait) {
    return settle(claim_id, ordinal, Outcome::retry("no", FailureClass::handler, wait));
  }
  void pass(Milliseconds time) {
    now_ += time;
    before();
    state_.expire(now_, ends());
    after();
  }
  template <class Act>
  auto act(Act change) {
    before();
    if constexpr (std::is_void_v<decltype(change(state_))>) {
      change(state_);
      after();
    } else {
      const auto answer = change(state_);
      after();
      return answer;
    }
  }

  [[nodiscard]] std::uint64_t last_claim() const { return out_.claim; }
  [[nodiscard]] SessionEnd ends() const {
    return [this](SessionId id) -> std::optional<Timestamp> {
      const auto it = sessions_.find(id);
      return it == sessions_.end() ? std::nullopt : std::optional(it->second);
    };
  }

  GroupSettings settings_;
  GroupState state_{settings_};
  std::vector<std::string> keys_;
  std::set<Ordinal> expired_;
  std::map<SessionId, Timestamp> sessions_;
  Timestamp now_{std::chrono::hours{500'000}};
  GroupState::HandOut out_;
  std::uint64_t claims_ = 0;
  Snapshot rows_;
  std::vector<Changes::Dead> dead_;
  std::vector<Ordinal> redriven_done_;
  std::vector<std::string> settled_;  ///< for the history, e.g. "claim 1: 1-5 but 3", "claim 2: again 3", "nobody: 4"
  bool woken_ = false;

 private:
  void before() {
    if (!GetParam()) return;
    Snapshot copy = rows_;
    state_.load(std::move(copy), [this](Ordinal ordinal, bool) {
      return GroupState::OpenEvent{key_hash(keys_.at(ordinal - 1)), 10};
    });
  }
  void after() {
    const Changes changes = state_.take_changes();
    woken_ = changes.wake;
    if (changes.progress) rows_.progress = state_.progress();
    for (const std::uint64_t id : changes.claims) {
      if (const Claim* claim = state_.claim(id)) {
        rows_.claims[id] = *claim;
      } else {
        rows_.claims.erase(id);
      }
    }
    for (const Ordinal ordinal : changes.items) {
      const Item* item = state_.item(ordinal);
      if (item && !item->plain()) {
        rows_.items[ordinal] = *item;
      } else {
        rows_.items.erase(ordinal);
      }
    }
    dead_.insert(dead_.end(), changes.dead.begin(), changes.dead.end());
    for (const Changes::Settled& one : changes.settled) {
      std::string text = one.claim == 0 ? "nobody: " : "claim " + std::to_string(one.claim) + ": ";
      if (one.claim != 0 && !one.fresh) text += "again ";
      if (one.fresh) {
        text += std::to_string(one.first) + (one.last == one.first ? "" : "-" + std::to_string(one.last));
        if (!one.apart.empty()) text += " but " + one.apart.to_string();
      } else {
        text += one.apart.to_string();
      }
      if (one.fresh && one.pass != 0) text += " in pass " + std::to_string(one.pass);
      settled_.push_back(text);
    }
    redriven_done_.insert(redriven_done_.end(), changes.redriven_done.begin(), changes.redriven_done.end());
  }
};

}  // namespace millrace::ledger
