// SPDX-License-Identifier: Apache-2.0

// Operation sequences on one group's decisions. Everything is done twice: on a state that lives, and on one that is
// loaded anew from the rows before every step. Both must do the same, and neither may lose an event, hand out one twice
// or break the order of a key.

#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "fuzz.hpp"
#include "store/ledger/group_state.hpp"

namespace millrace::fuzz {
namespace {

using ledger::GroupState;
using ledger::Ordinal;

constexpr std::size_t kEvents = 40;
constexpr std::size_t kSteps = 200;

GroupSettings settings() {
  GroupSettings chosen;
  chosen.retry.max_attempts = 3;
  chosen.retry.max_crashes = 2;
  chosen.max_parked = 8;
  return chosen;
}

/// Four keys and none, in a fixed order that mixes them; every eleventh event has expired.
ledger::KeyHash key_at(Ordinal ordinal) {
  static constexpr std::string_view kKeys = "aab-cab-dba-ccbadd-a";
  const char key = kKeys[(ordinal - 1) % kKeys.size()];
  return ledger::hash_key(key == '-' ? std::nullopt : std::optional(std::string(1, key)));
}
bool expired_at(Ordinal ordinal) {
  return ordinal % 11 == 0;
}

class Log : public ledger::FreshEvents {
 public:
  Log(Ordinal after, Ordinal end) : at_(after), end_(end) {}
  std::optional<ledger::Candidate> next() override {
    if (at_ >= end_) return std::nullopt;
    ++at_;
    return ledger::Candidate{at_, key_at(at_), 10, expired_at(at_)};
  }
  [[nodiscard]] Ordinal scanned_to() const override { return at_; }

 private:
  Ordinal at_, end_;
};

auto fields(const ledger::Item& item) {
  return std::tuple(item.key, item.claim, item.due, item.suspect, item.redriven, item.attempts, item.handler_failures,
                    item.failures, item.crashes, item.first_failure_at, item.last_error, item.replayid);
}
auto fields(const ledger::Claim& claim) {
  return std::tuple(claim.consumer, claim.session, claim.lease_until, claim.lease, claim.claimed_at, claim.alone,
                    claim.open.to_string(), claim.fresh_first, claim.fresh_last, claim.apart.to_string(),
                    claim.again.to_string());
}
auto fields(const GroupState::HandOut::Given& given) {
  return std::tuple(given.ordinal, given.attempt, given.failures, given.crashes, given.fresh, given.redriven);
}

class Walk {
 public:
  explicit Walk(std::string_view input) : bytes_(input) {}

  void run() {
    for (std::size_t step = 0; step < kSteps && !bytes_.empty(); ++step) {
      switch (bytes_.below(14)) {
        case 0:
        case 1:
          head_ = std::min<Ordinal>(kEvents, head_ + 1 + bytes_.below(6));
          break;
        case 2:
        case 3:
          claim();
          break;
        case 4:
        case 5:
        case 6:
          settle();
          break;
        case 7:
          now_ += Milliseconds{bytes_.byte() * 20};
          each([&](GroupState& group) { group.expire(now_, ends()); });
          break;
        case 8:
          extend();
          break;
        case 9:
          session();
          break;
        case 10:
          seek();
          break;
        case 11:
          skip();
          break;
        case 12:
          open_again();
          break;
        default:
          trim();
      }
      check();
    }
  }

 private:
  /// On both states; what they answer and what they want written must be the same.
  template <class Act>
  auto each(Act act) -> decltype(act(std::declval<GroupState&>())) {
    GroupState loaded(settings());
    loaded.load(ledger::Snapshot(rows_), [](Ordinal ordinal, bool) {
      return GroupState::OpenEvent{key_at(ordinal), 10};
    });
    if constexpr (std::is_void_v<decltype(act(kept_))>) {
      act(kept_);
      act(loaded);
      written(loaded);
    } else {
      auto answer = act(kept_);
      require(same(answer, act(loaded)), "a group from rows answers like the one that wrote them");
      written(loaded);
      return answer;
    }
  }
  static bool same(bool a, bool b) { return a == b; }
  static bool same(const GroupState::HandOut& a, const GroupState::HandOut& b) {
    if (a.claim != b.claim || a.next_due != b.next_due || a.events.size() != b.events.size()) return false;
    for (std::size_t i = 0; i < a.events.size(); ++i) {
      if (fields(a.events[i]) != fields(b.events[i])) return false;
    }
    return true;
  }

  void written(GroupState& loaded) {
    const ledger::Changes changes = kept_.take_changes();
    if (changes.progress) rows_.progress = kept_.progress();
    for (const std::uint64_t id : changes.claims) {
      if (const ledger::Claim* claim = kept_.claim(id)) {
        rows_.claims[id] = *claim;
      } else {
        rows_.claims.erase(id);
      }
    }
    for (const Ordinal ordinal : changes.items) {
      const ledger::Item* item = kept_.item(ordinal);
      if (item != nullptr && !item->plain()) {
        rows_.items[ordinal] = *item;
        rows_.items[ordinal].place = ledger::Item::Place::none;  // derived: a row does not have it
      } else {
        rows_.items.erase(ordinal);
      }
    }
    for (const auto& dead : changes.dead) {
      require(!kept_.item(dead.ordinal), "a dead event is not open");
      dead_.insert(dead.ordinal);
      through_.insert(dead.ordinal);
    }
    for (const Ordinal ordinal : changes.redriven_done) dead_.erase(ordinal);

    require(
        kept_.progress().cursor == loaded.progress().cursor && kept_.progress().counters == loaded.progress().counters,
        "the same progress");
    require(kept_.in_flight() == loaded.in_flight() && kept_.waiting() == loaded.waiting(), "the same counts");
    require(kept_.parked() == loaded.parked() && kept_.suspects() == loaded.suspects(),
            "as many parked and suspect: " + std::to_string(kept_.parked()) + " and " +
                std::to_string(kept_.suspects()) + ", from rows " + std::to_string(loaded.parked()) + " and " +
                std::to_string(loaded.suspects()));
    require(kept_.oldest_open() == loaded.oldest_open(), "the same oldest open event");
    require(kept_.stalled() == loaded.stalled(),
            "the same reason to stall: \"" + kept_.stalled() + "\" and \"" + loaded.stalled() + "\"");
    require(kept_.items().size() == loaded.items().size() && kept_.claims().size() == loaded.claims().size(),
            "as many items and claims");
    for (const auto& [ordinal, item] : kept_.items()) {
      const ledger::Item* other = loaded.item(ordinal);
      require(other != nullptr && fields(item) == fields(*other) && kept_.state_of(ordinal) == loaded.state_of(ordinal),
              "the same item " + std::to_string(ordinal));
    }
    for (const auto& [id, claim] : kept_.claims()) {
      const ledger::Claim* other = loaded.claim(id);
      require(other != nullptr && fields(claim) == fields(*other), "the same claim " + std::to_string(id));
    }
  }

  ledger::SessionEnd ends() const {
    return [this](SessionId id) -> std::optional<Timestamp> {
      const auto it = sessions_.find(id);
      return it == sessions_.end() ? std::nullopt : std::optional(it->second);
    };
  }

  void claim() {
    ClaimRequest request;
    request.consumer = std::string(1, static_cast<char>('x' + bytes_.below(3)));
    request.max = 1 + bytes_.below(8);
    const std::size_t hold = bytes_.below(4);
    if (hold == 3 && !sessions_.empty() && sessions_.begin()->second > now_) {
      request.hold = sessions_.begin()->first;
    } else {
      request.hold = Milliseconds{100 * (1 + hold)};
    }
    const std::uint64_t id = ++claims_;
    const Ordinal before = kept_.progress().cursor;
    const auto out = each([&](GroupState& group) {
      Log fresh(group.progress().cursor, head_);
      return group.claim(now_, id, request, fresh, ends());
    });
    require(out.events.size() <= request.max, "no more than asked for");
    std::map<ledger::KeyHash, Ordinal> last;
    for (const auto& given : out.events) {
      require(!through_.contains(given.ordinal), "a settled event is not handed out: " + std::to_string(given.ordinal));
      require(given.ordinal <= head_, "only what the log has");
      const ledger::KeyHash key = key_at(given.ordinal);
      if (key != 0) require(std::exchange(last[key], given.ordinal) < given.ordinal, "a key in order within a claim");
      leases_.push_back(Lease{out.claim, Position{given.ordinal}});
    }
    for (Ordinal ordinal = before + 1; ordinal <= kept_.progress().cursor; ++ordinal) {
      if (expired_at(ordinal) && !kept_.item(ordinal)) through_.insert(ordinal);
    }
  }

  void settle() {
    if (leases_.empty()) return;
    const Lease lease = leases_[bytes_.below(leases_.size())];
    const std::size_t how = bytes_.below(6);
    const Outcome outcome = how < 3    ? Outcome::ack()
                            : how == 3 ? Outcome::release()
                            : how == 4 ? Outcome::reject("no")
                                       : Outcome::retry("later", FailureClass::handler, Milliseconds{bytes_.byte()});
    const bool done = each([&](GroupState& group) { return group.settle(now_, lease, outcome, 0.5, ends()); });
    const Ordinal ordinal = lease.position.low;
    if (!done) return;
    if (outcome.kind == Outcome::Kind::ack) {
      require(!kept_.item(ordinal), "an acknowledged event is not open");
      through_.insert(ordinal);
    }
    require(!each([&](GroupState& group) { return group.settle(now_, lease, Outcome::ack(), 0.5, ends()); }),
            "a lease settles once");
  }

  void extend() {
    if (leases_.empty()) return;
    const Lease lease = leases_[bytes_.below(leases_.size())];
    const Milliseconds by{bytes_.byte() * 10};
    each([&](GroupState& group) { return group.extend(now_, lease, by, ends()); });
  }

  void session() {
    if (sessions_.empty()) {
      sessions_[++session_] = now_ + Milliseconds{50 * bytes_.byte()};
      return;
    }
    const SessionId closed = sessions_.begin()->first;
    if (sessions_.begin()->second <= now_) each([&](GroupState& group) { group.expire(now_, ends()); });
    sessions_.clear();
    each([&](GroupState& group) { group.release_session(closed); });
  }

  void seek() {
    const Ordinal cursor = std::max<Ordinal>(horizon_, bytes_.below(head_ + 1));
    each([&](GroupState& group) { group.seek(cursor, 0); });
    leases_.clear();
    through_.clear();
    for (Ordinal ordinal = 1; ordinal <= cursor; ++ordinal) {
      if (!kept_.item(ordinal)) through_.insert(ordinal);
    }
  }

  void skip() {
    const Ordinal ordinal = 1 + bytes_.below(kEvents);
    if (each([&](GroupState& group) { return group.skip(ordinal); })) through_.insert(ordinal);
  }

  void open_again() {
    const Ordinal ordinal = 1 + bytes_.below(kEvents);
    if (ordinal > kept_.progress().cursor || !through_.contains(ordinal)) return;
    const GroupState::OpenEvent event{key_at(ordinal), 10};
    const bool dead = dead_.contains(ordinal);
    const bool redrive = bytes_.below(2) == 0;
    if (redrive ? !dead : ordinal <= horizon_ && !dead) return;
    const bool done = each([&](GroupState& group) {
      return redrive ? group.redrive(ordinal, event) : group.replay(ordinal, event, "again", dead);
    });
    require(done, "a settled event can be opened again");
    through_.erase(ordinal);
    dead_.erase(ordinal);
  }

  void trim() {
    const Ordinal horizon = bytes_.below(head_ + 1);
    if (horizon <= horizon_) return;
    horizon_ = horizon;
    each([&](GroupState& group) { group.forget_up_to(horizon); });
    for (Ordinal ordinal = 1; ordinal <= horizon; ++ordinal) {
      if (!kept_.item(ordinal)) through_.insert(ordinal);
    }
  }

  void check() {
    const Ordinal cursor = kept_.progress().cursor;
    std::map<ledger::KeyHash, std::uint64_t> holder;
    std::uint64_t claimed = 0;
    for (const auto& [ordinal, item] : kept_.items()) {
      require(!through_.contains(ordinal), "what is settled is not open: " + std::to_string(ordinal));
      if (item.claim == 0) continue;
      ++claimed;
      const ledger::Claim* claim = kept_.claim(item.claim);
      require(claim != nullptr && claim->open.contains(ordinal), "a claimed event stands in its claim");
      if (item.key == 0) continue;
      const auto [at, first] = holder.emplace(item.key, item.claim);
      require(first || at->second == item.claim, "a key is in one claim at a time");
    }
    require(claimed == kept_.in_flight(), "in flight are the claimed ones");
    for (const auto& [id, claim] : kept_.claims()) {
      require(!claim.open.empty(), "a claim that is through is gone");
      for (const auto& [first, last] : claim.open.ranges()) {
        for (Ordinal ordinal = first; ordinal <= last; ++ordinal) {
          const ledger::Item* item = kept_.item(ordinal);
          require(item != nullptr && item->claim == id, "what a claim holds is open and its own");
        }
      }
    }
    for (Ordinal ordinal = 1; ordinal <= cursor; ++ordinal) {
      require(kept_.item(ordinal) != nullptr || through_.contains(ordinal),
              "event " + std::to_string(ordinal) + " is neither open nor settled: lost");
    }
  }

  Bytes bytes_;
  GroupState kept_{settings()};
  ledger::Snapshot rows_;
  Timestamp now_{std::chrono::hours{500'000}};
  std::map<SessionId, Timestamp> sessions_;
  SessionId session_ = 0;
  std::uint64_t claims_ = 0;
  Ordinal head_ = 0, horizon_ = 0;
  std::vector<Lease> leases_;
  std::set<Ordinal> through_;  ///< settled, and not opened again since
  std::set<Ordinal> dead_;
};

}  // namespace

void group_operations(std::string_view input) {
  Walk(input).run();
}

}  // namespace millrace::fuzz
