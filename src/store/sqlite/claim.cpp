// SPDX-License-Identifier: Apache-2.0

// Handing out: what the group's state decides, with the events themselves.

#include <deque>
#include <unordered_map>

#include "store/sqlite/ledger.hpp"
#include "store/sqlite/rows.hpp"

namespace millrace::store::sqlite {
namespace {

/// Most events one claim looks at; the next one goes on from there.
constexpr std::size_t kScanBudget = 10'000;

/// The log after the cursor. Keeps the events it showed, because most of them are handed out.
class LogScan final : public ledger::FreshEvents {
 public:
  LogScan(State& state, const Group& group, std::size_t max_bytes)
      : group_(group),
        stream_(state.stream(group.identity.stream, "claim")),
        now_(state.now()),
        most_bytes_(max_bytes + (1 << 20)),
        scanned_to_(std::max(group.state.progress().cursor, stream_.trimmed_to)) {}

  std::optional<ledger::Candidate> next() override {
    if (at_end_ || scanned_ >= kScanBudget || bytes_ >= most_bytes_) return std::nullopt;
    if (!rows_) {
      if (scanned_to_ >= stream_.head()) return end();
      rows_.emplace(stream_.after.query(scanned_to_));
    }
    while (rows_->next()) {
      ++scanned_;
      scanned_to_ = rows_->number(0);
      constexpr int kFirst = 1;
      if (!group_.types.matches(rows_->text(kFirst + kTypeColumn))) {
        if (scanned_ >= kScanBudget) return std::nullopt;
        continue;
      }
      Event event = decode_event(*rows_, kFirst);
      ledger::Candidate candidate{scanned_to_, ledger::hash_key(group_.identity.order.key_of(event)),
                                  event_bytes(event), false};
      const auto end = expires_at(event);
      candidate.expired = end && *end <= now_;
      bytes_ += candidate.bytes;
      if (!candidate.expired) events_.emplace_back(scanned_to_, std::move(event));
      return candidate;
    }
    return end();
  }
  [[nodiscard]] Ordinal scanned_to() const override { return scanned_to_; }

  /// The event shown as `ordinal`; asked for in ascending order.
  Event take(Ordinal ordinal) {
    while (events_.front().first != ordinal) events_.pop_front();
    Event event = std::move(events_.front().second);
    events_.pop_front();
    return event;
  }
  [[nodiscard]] bool at_end() const { return at_end_; }

 private:
  std::optional<ledger::Candidate> end() {
    at_end_ = true;
    scanned_to_ = std::max(scanned_to_, stream_.head());
    return std::nullopt;
  }

  const Group& group_;
  StreamState& stream_;
  Timestamp now_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  std::size_t scanned_ = 0;
  Ordinal scanned_to_;
  bool at_end_ = false;
  std::optional<Statement::Rows> rows_;
  std::deque<std::pair<Ordinal, Event>> events_;
};

std::optional<Event> stored_event(State& state, Group& group, Ordinal ordinal, bool redriven) {
  StreamState& stream = state.stream(group.identity.stream, "claim");
  auto row = redriven ? state.connection()
                            .prepared(std::string("SELECT ") + kEventColumns +
                                      " FROM dead_letter WHERE group_id = ? AND position = ?")
                            .query(group.id, ordinal)
                      : stream.by_position.query(ordinal);
  if (!row.next()) return std::nullopt;
  return decode_event(row, 0);
}

/// The event to deliver; nothing when it must not be delivered any more, which is then settled.
std::optional<Event> deliverable(State& state, Group& group, LogScan& scan,
                                 const ledger::GroupState::HandOut::Given& given) {
  if (given.fresh) return scan.take(given.ordinal);
  std::optional<Event> event = stored_event(state, group, given.ordinal, given.redriven);
  if (!event) {
    group.state.bury(given.ordinal, "event_lost: trimmed by force before it was settled");
    return std::nullopt;
  }
  const auto end = expires_at(*event);
  if (end && *end <= state.now()) {
    group.state.settle_expired(given.ordinal);
    return std::nullopt;
  }
  return event;
}

}  // namespace

ClaimAnswer hand_out(State& state, const GroupName& name, const ClaimRequest& request) {
  Group& group = state.group(name, "claim");
  Timestamp lease_until;
  if (const auto* id = std::get_if<SessionId>(&request.hold)) {
    const auto session = state.sessions().find(*id);
    if (session == state.sessions().end() || session->second.until <= state.now()) {
      throw Error(Errc::timed_out, "claim", name.str(), "the session has ended; open a new one");
    }
    lease_until = session->second.until;
  } else {
    lease_until = state.now() + std::get<Milliseconds>(request.hold);
  }
  state.touch(group, true);
  ClaimAnswer answer;
  if (group.paused) return answer;

  while (true) {
    LogScan scan(state, group, request.max_bytes);
    const auto out = group.state.claim(state.now(), state.new_id(), request, scan, state.session_end());
    for (const auto& given : out.events) {
      if (auto event = deliverable(state, group, scan, given)) {
        const Position position(given.ordinal);
        answer.deliveries.push_back({{out.claim, position},
                                     position,
                                     given.attempt,
                                     given.failures,
                                     given.crashes,
                                     lease_until,
                                     std::move(*event)});
      }
    }
    if (!answer.deliveries.empty()) return answer;
    if (!out.events.empty()) continue;  // all of it was settled instead: there may be more
    answer.next_due = out.next_due;
    // The scan stopped in the middle: what comes next may well match.
    if (!scan.at_end() && group.state.stalled().empty() && group.state.suspects() == 0) {
      if (scan.scanned_to() < state.stream(group.identity.stream, "claim").head()) answer.next_due = Milliseconds{0};
    }
    return answer;
  }
}

}  // namespace millrace::store::sqlite
