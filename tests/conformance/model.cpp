// SPDX-License-Identifier: Apache-2.0
#include "model.hpp"

#include <algorithm>

#include "millrace/replay.hpp"
#include "subject.hpp"

namespace millrace::conformance {

// ---- The log ----

void LogModel::appended(const std::vector<Event>& events, const std::vector<AppendResult>& answers) {
  require_equal(answers.size(), events.size(), "one answer per appended event");
  for (std::size_t i = 0; i < events.size(); ++i) {
    const Event& event = events[i];
    const AppendResult& answer = answers[i];
    const auto identity = std::pair(event.source, event.id);
    const auto known = ever_.find(identity);
    if (known == ever_.end()) {
      conformance::require(answer.status == AppendStatus::stored && answer.position,
                           event.id + " is new, so it is stored");
      conformance::require(*answer.position > last_, event.id + ": positions strictly increase");
      last_ = *answer.position;
      events_.emplace(last_, event);
      ever_.emplace(identity, std::pair(last_, event));
      continue;
    }
    const auto& [position, first] = known->second;
    if (first.type == event.type && first.data == event.data) {
      conformance::require(answer.status == AppendStatus::duplicate, event.id + " is a duplicate");
      conformance::require(answer.position == position, event.id + ": a duplicate answers the first position");
    } else {
      conformance::require(answer.status == AppendStatus::conflict && !answer.position, event.id + " is a conflict");
    }
  }
}

void LogModel::trimmed(Position to) {
  events_.erase(events_.begin(), events_.upper_bound(to));
  trimmed_to_ = std::max(trimmed_to_, to);
}

std::uint64_t LogModel::after(Position position) const {
  return static_cast<std::uint64_t>(std::distance(events_.upper_bound(position), events_.end()));
}

void LogModel::check_log(EventLog& log, std::size_t page_size) const {
  auto expected = events_.begin();
  ReadQuery query;
  query.limit = page_size;
  for (std::size_t pages = 0;; ++pages) {
    conformance::require(pages <= events_.size() + 2, "reading onward comes to an end");
    const Page page = log.read(kDefaultStream, query);
    for (const StoredEvent& stored : page.events) {
      conformance::require(expected != events_.end(), "the log holds no event that was not stored or was trimmed");
      conformance::require(stored.position == expected->first,
                           "the log at " + stored.position.to_string() + " instead of " + expected->first.to_string());
      conformance::require(stored.event == expected->second, "event " + expected->second.id + " is as it was stored");
      ++expected;
    }
    if (page.at_end) break;
    query.after = page.next;
  }
  conformance::require(expected == events_.end(), "no stored event is missing from the log");
  const StreamInfo info = log.stream(kDefaultStream);
  require_equal(info.events, events_.size(), "StreamInfo::events");
  conformance::require(info.last == last_, "StreamInfo::last is the newest ever stored");
}

// ---- A group ----

void GroupModel::fail(const std::string& what, Position position) const {
  std::string text = "group " + name_.str() + ": " + what;
  if (position != Position{}) {
    text += " (position " + position.to_string();
    if (const auto it = fates_.find(position); it != fates_.end()) {
      const Fate& f = it->second;
      text += ", key '" + f.key + "', claim " + std::to_string(f.claim) + ", attempts " + std::to_string(f.attempts) +
              ", failures " + std::to_string(f.failures) + ", crashes " + std::to_string(f.crashes) +
              (f.settled ? ", settled" : "") + (f.suspect ? ", suspect" : "") + (f.due ? "" : ", not due") +
              (f.redriven ? ", redriven" : "");
    }
    text += ")";
  }
  throw Violation(text);
}

void GroupModel::appended(Position position, const Event& event) {
  if (!matches(event)) return;
  Fate fate;
  fate.key = event.subject;
  fates_.emplace(position, fate);
}

bool GroupModel::earlier_unsettled(Position position, std::uint64_t but_in_claim) const {
  const Fate& fate = fates_.at(position);
  return std::any_of(fates_.begin(), fates_.find(position), [&](const auto& entry) {
    // A redriven event does not wait for what a seek back put ahead of the cursor: somebody asked for it by name.
    if (fate.redriven && !entry.second.open) return false;
    return !entry.second.settled && same_key(entry.second, fate) &&
           (but_in_claim == 0 || entry.second.claim != but_in_claim);
  });
}

bool GroupModel::key_claimed(Position position) const {
  const Fate& fate = fates_.at(position);
  return std::any_of(fates_.begin(), fates_.end(), [&](const auto& entry) {
    return entry.first != position && !entry.second.settled && entry.second.claim != 0 && same_key(entry.second, fate);
  });
}

bool GroupModel::holds(const std::string& holder, bool suspects_only) const {
  return std::any_of(fates_.begin(), fates_.end(), [&](const auto& entry) {
    const Fate& fate = entry.second;
    return fate.claim != 0 && claims_.at(fate.claim).holder == holder && (!suspects_only || fate.suspect);
  });
}

void GroupModel::claimed(const std::string& holder, std::size_t max, const ClaimAnswer& answer) {
  const bool held = holds(holder, false);
  const bool holds_suspect = holds(holder, true);
  bool suspects = false;
  bool others = false;
  for (const auto& [position, fate] : fates_) {
    if (fate.settled || fate.claim != 0 || !fate.due || earlier_unsettled(position, 0) || key_claimed(position))
      continue;
    (fate.suspect ? suspects : others) = true;
  }
  const auto& deliveries = answer.deliveries;
  if (paused_) {
    require(deliveries.empty(), "a paused group hands nothing out");
    return;
  }
  if (suspects ? !held : (others && !holds_suspect)) require(!deliveries.empty(), "what can be claimed is handed out");
  require(deliveries.size() <= max, "no more than asked for");
  if (deliveries.empty()) return;

  const std::uint64_t id = deliveries.front().lease.claim;
  require(id != 0 && used_claims_.insert(id).second, "a claim's number is never used again");
  for (const Delivery& delivery : deliveries) {
    const Position position = delivery.position;
    const auto it = fates_.find(position);
    require(it != fates_.end(), "only events of the group are handed out", position);
    Fate& fate = it->second;
    require(delivery.lease.claim == id && delivery.lease.position == position, "a lease names its claim and position");
    require(!fate.settled, "a settled event is not handed out again", position);
    require(fate.claim == 0, "a claimed event is not handed out again", position);
    require(fate.due, "a retry is not handed out before it is due", position);
    require(!earlier_unsettled(position, id), "no event overtakes an earlier one of its key", position);
    require(!fate.suspect || (deliveries.size() == 1 && !held), "a suspect is handed out alone", position);
    require(!holds_suspect, "who holds a suspect gets nothing else", position);
    require(delivery.attempt == fate.attempts + 1, "attempt is " + std::to_string(delivery.attempt), position);
    require(delivery.failures == fate.failures && delivery.crashes == fate.crashes, "failures and crashes are told",
            position);
    const auto stored = log_.events().find(position);
    if (!fate.redriven) require(stored != log_.events().end(), "an unsettled event stands in the log", position);
    if (stored != log_.events().end()) {
      Event expected = stored->second;
      if (!fate.replayid.empty()) expected.set_extension(kReplayId, fate.replayid);
      require(delivery.event == expected, "delivered as it was stored, a replay's with its id", position);
    }
    fate.claim = id;
    fate.open = true;
    ++fate.attempts;
  }
  for (auto& [other_id, other] : claims_) {
    if (other.holder == holder) other.alone = false;
  }
  claims_[id] = {holder, deliveries.size() == 1 && !held};
}

bool GroupModel::current(const Lease& lease) const {
  const auto it = fates_.find(lease.position);
  return it != fates_.end() && lease.claim != 0 && it->second.claim == lease.claim;
}

void GroupModel::settle(Position position) {
  Fate& fate = fates_.at(position);
  // Redriven after a seek back, and settled before the new pass came to it: the pass still hands it out.
  const bool comes_again = fate.redriven && position > cursor_ && log_.events().contains(position);
  if (comes_again) fate.attempts = fate.failures = fate.handler_failures = fate.crashes = 0;
  fate.settled = !comes_again;
  fate.open = false;
  fate.redriven = false;
  fate.replayid.clear();
  fate.settled_in = 0;
  fate.claim = 0;
  fate.suspect = false;
  fate.due = true;
}

void GroupModel::die(Position position) {
  settle(position);
  dead_.insert(position);
  ++rejected_;
}

void GroupModel::give_back(Position position) {
  Fate& fate = fates_.at(position);
  fate.claim = 0;
  --fate.attempts;
}

void GroupModel::withdraw_later(Position position, std::uint64_t claim) {
  const Fate& first = fates_.at(position);
  for (auto& [other, fate] : fates_) {
    if (other > position && fate.claim == claim && same_key(fate, first)) give_back(other);
  }
}

bool GroupModel::settled(const Lease& lease, const Outcome& outcome) {
  if (!current(lease)) return true;
  const Position position = lease.position;
  Fate& fate = fates_.at(position);
  for (const auto& [other, earlier] : fates_) {
    if (other < position && earlier.claim == lease.claim && same_key(earlier, fate)) return true;
  }
  switch (outcome.kind) {
    case Outcome::Kind::ack:
      settle(position);
      fate.settled_in = lease.claim;
      ++processed_;
      break;
    case Outcome::Kind::reject:
      die(position);
      break;
    case Outcome::Kind::release:
      give_back(position);
      withdraw_later(position, lease.claim);
      break;
    case Outcome::Kind::retry:
      ++failures_;
      ++fate.failures;
      if (outcome.failure == FailureClass::handler) ++fate.handler_failures;
      if (outcome.failure == FailureClass::handler && fate.handler_failures >= policy_.max_attempts) {
        die(position);
        break;
      }
      fate.claim = 0;
      fate.suspect = false;
      fate.due = outcome.after == Milliseconds{0};
      withdraw_later(position, lease.claim);
      break;
  }
  return false;
}

void GroupModel::holder_released(const std::string& holder) {
  for (auto& [position, fate] : fates_) {
    if (fate.claim != 0 && claims_.at(fate.claim).holder == holder) give_back(position);
  }
}

void GroupModel::holder_expired(const std::string& holder) {
  std::set<std::uint64_t> ended;
  for (const auto& [position, fate] : fates_) {
    if (fate.claim != 0 && claims_.at(fate.claim).holder == holder) ended.insert(fate.claim);
  }
  for (const std::uint64_t claim : ended) claim_expired(claim);
}

void GroupModel::claim_expired(std::uint64_t claim) {
  if (!claims_.contains(claim)) return;
  const bool charge = claims_.at(claim).alone;
  for (auto& [position, fate] : fates_) {
    if (fate.claim != claim) continue;
    fate.claim = 0;
    fate.suspect = true;
    if (!charge) continue;
    ++fate.crashes;
    ++crashes_;
    if (fate.crashes >= policy_.max_crashes) die(position);
  }
}

void GroupModel::skipped(Position position) {
  if (fates_.at(position).redriven) dead_.erase(position);
  settle(position);
}

void GroupModel::sought(Position cursor) {
  cursor_ = cursor;
  for (auto& [position, fate] : fates_) {
    if (fate.redriven) {  // somebody asked for it: it stays
      if (fate.claim != 0) give_back(position);
      continue;
    }
    const std::string key = fate.key;
    fate = Fate{};
    fate.key = key;
    // What was trimmed cannot come again.
    fate.settled = position <= cursor || !log_.events().contains(position);
  }
}

std::uint64_t GroupModel::redriven() {
  std::uint64_t count = 0;
  for (auto it = dead_.begin(); it != dead_.end();) {
    Fate& fate = fates_.at(*it);
    if (!fate.settled && fate.open) {
      ++it;
      continue;
    }
    const std::string key = fate.key;
    fate = Fate{};
    fate.key = key;
    fate.open = fate.redriven = true;
    ++count;
    it = dead_.erase(it);
  }
  return count;
}

std::vector<ReplayStatus> GroupModel::replayed(const std::string& replayid, const std::vector<Position>& positions) {
  std::vector<ReplayStatus> answers;
  for (const Position position : positions) {
    const auto it = fates_.find(position);
    if (it != fates_.end() && !it->second.settled && (it->second.open || position <= cursor_)) {
      answers.push_back(ReplayStatus::open);
    } else if (!log_.events().contains(position)) {
      answers.push_back(ReplayStatus::gone);
    } else if (it == fates_.end()) {
      answers.push_back(ReplayStatus::filtered_out);
    } else if (position > cursor_) {
      answers.push_back(ReplayStatus::ahead);
    } else {
      Fate fate;
      fate.key = it->second.key;
      fate.open = true;
      fate.redriven = dead_.erase(position) != 0;
      fate.replayid = replayid;
      it->second = fate;
      answers.push_back(ReplayStatus::accepted);
    }
  }
  return answers;
}

std::uint64_t GroupModel::purged() {
  const std::uint64_t count = dead_.size();
  dead_.clear();
  return count;
}

void GroupModel::forced_trim(Position to) {
  for (auto& [position, fate] : fates_) {
    if (position <= to && !fate.settled && !fate.redriven) settle(position);
  }
  cursor_ = std::max(cursor_, to);
}

Position GroupModel::settled_up_to(Position target) const {
  Position bound = std::min(target, cursor_);
  for (const auto& [position, fate] : fates_) {
    if (position > bound) break;
    if (fate.settled || fate.redriven || !fate.open) continue;
    const auto stored = log_.events().find(position);
    return stored == log_.events().begin() ? log_.trimmed_to() : std::prev(stored)->first;
  }
  return bound;
}

void GroupModel::cursor_moved(Position cursor) {
  require(cursor >= cursor_, "the cursor goes back only by a seek");
  cursor_ = cursor;
}

void GroupModel::check_info(const GroupInfo& info) {
  cursor_moved(info.cursor);
  std::uint64_t in_flight = 0, waiting = 0, suspects = 0;
  for (auto& [position, fate] : fates_) {
    if (fate.settled) continue;
    if (position <= cursor_) fate.open = true;
    require(fate.claim == 0 || fate.open, "what was handed out lies behind the cursor", position);
    if (!fate.open) continue;
    ++(fate.claim != 0 ? in_flight : waiting);
    suspects += fate.claim == 0 && fate.suspect;
  }
  const auto equal = [&](std::uint64_t actual, std::uint64_t expected, const char* what) {
    require(actual == expected,
            std::string(what) + " is " + std::to_string(actual) + ", not " + std::to_string(expected));
  };
  equal(info.lag.ahead, log_.after(cursor_), "lag.ahead");
  equal(info.lag.in_flight, in_flight, "lag.in_flight");
  equal(info.lag.waiting, waiting, "lag.waiting");
  equal(info.suspects, suspects, "suspects");
  equal(info.dead, dead_.size(), "dead");
  equal(info.processed, processed_, "processed");
  equal(info.failures, failures_, "failures");
  equal(info.crashes, crashes_, "crashes");
  equal(info.rejected, rejected_, "rejected");
  require(info.paused == paused_, "paused");
}

void GroupModel::check_pending(const std::vector<PendingEvent>& pending) const {
  auto next = pending.begin();
  for (const auto& [position, fate] : fates_) {
    if (fate.settled || !fate.open) continue;
    require(next != pending.end() && next->position == position, "pending lists every unsettled event in order",
            position);
    require(next->attempt == fate.attempts && next->failures == fate.failures && next->crashes == fate.crashes,
            "pending tells attempt " + std::to_string(next->attempt) + ", failures " + std::to_string(next->failures) +
                ", crashes " + std::to_string(next->crashes),
            position);
    using State = PendingEvent::State;
    if (fate.claim != 0) {
      require(next->state == State::claimed && next->lease == Lease{fate.claim, position}, "pending: claimed",
              position);
    } else if (earlier_unsettled(position, 0)) {
      require(next->state == State::parked || next->state == State::waiting || next->state == State::suspect,
              "pending: not claimed", position);
    } else if (!key_claimed(position)) {
      require(next->state == (fate.suspect ? State::suspect : State::waiting), "pending: suspect or waiting", position);
    }
    ++next;
  }
  require(next == pending.end(), "pending lists no settled event", next == pending.end() ? Position{} : next->position);
}

void GroupModel::check_dead(const std::vector<DeadLetter>& dead) const {
  auto next = dead.begin();
  for (const Position position : dead_) {
    require(next != dead.end() && next->position == position, "every dead letter is listed", position);
    const auto stored = log_.events().find(position);
    if (stored != log_.events().end()) require(next->event == stored->second, "a dead letter is a copy", position);
    require(!next->reason.empty(), "a dead letter has a reason", position);
    ++next;
  }
  require(next == dead.end(), "no dead letter is listed that nobody buried");
}

void GroupModel::check_where(Position position, const Whereabouts& where) const {
  using State = Whereabouts::State;
  const auto it = fates_.find(position);
  const auto is = [&](State state) {
    require(where.state == state,
            "where says " + std::string(to_string(where.state)) + ", not " + std::string(to_string(state)), position);
  };
  if (it == fates_.end()) return is(State::filtered_out);
  const Fate& fate = it->second;
  if (!fate.settled && (fate.open || position <= cursor_)) {
    is(State::open);
    require(where.pending && where.pending->position == position && where.pending->attempt == fate.attempts &&
                (where.pending->state == PendingEvent::State::claimed) == (fate.claim != 0),
            "where tells what is pending", position);
    if (where.parked_behind) {
      require(same_key(fates_.at(*where.parked_behind), fate), "parked behind one of its key", position);
    }
  } else if (position > cursor_) {
    is(State::ahead);
    require(where.behind == log_.after(cursor_) - log_.after(position) - 1, "how far ahead it is", position);
  } else if (dead_.contains(position)) {
    is(State::dead);
    require(!where.reason.empty() && where.died_at, "why it is dead", position);
  } else {
    is(State::settled);
    require(where.settled_before.has_value(), "before when it was settled", position);
    if (fate.settled_in != 0) {
      require(where.claim == fate.settled_in && where.settled_after && *where.settled_after <= *where.settled_before,
              "in which claim it was settled", position);
    }
  }
}

std::vector<Position> GroupModel::open() const {
  std::vector<Position> positions;
  for (const auto& [position, fate] : fates_) {
    if (!fate.settled && fate.open) positions.push_back(position);
  }
  return positions;
}

bool GroupModel::all_settled() const {
  return std::all_of(fates_.begin(), fates_.end(), [](const auto& entry) { return entry.second.settled; });
}

}  // namespace millrace::conformance
