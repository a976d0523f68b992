// SPDX-License-Identifier: Apache-2.0

// Handing out: what the group's state decides, with the events themselves.

#include "store/ledger_calls.hpp"
#include "store/sqlite/ledger.hpp"
#include "store/sqlite/log_scan.hpp"
#include "store/sqlite/rows.hpp"

namespace millrace::store::sqlite {
namespace {

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
  if (given.fresh) return scan.take(given.ordinal, group);
  std::optional<Event> event = group.set_aside.take(given.ordinal);
  if (!event) event = stored_event(state, group, given.ordinal, given.redriven);
  return store::deliverable(group.state, given.ordinal, std::move(event), state.now());
}

}  // namespace

ClaimAnswer hand_out(State& state, const GroupName& name, const ClaimRequest& request, ReadAhead& ahead,
                     ReadAheads& standings) {
  Group& group = state.group(name, "claim");
  Timestamp lease_until;
  if (const auto* id = std::get_if<SessionId>(&request.hold)) {
    const auto session = state.sessions().find(*id);
    if (session == state.sessions().end() || session->second.until <= state.now()) throw session_ended(name);
    lease_until = session->second.until;
    state.note_use(*id, name);
  } else {
    lease_until = state.now() + std::get<Milliseconds>(request.hold);
  }
  state.touch(group, true);
  ClaimAnswer answer;
  answer.max_dataversion = group.identity.settings.max_dataversion;
  if (group.paused) return answer;

  while (true) {
    LogScan scan(state, group, request.max_bytes, ahead);
    const auto out = group.state.claim(state.now(), state.new_id(), request, scan, state.session_end());
    answer.deliveries.reserve(out.events.size());
    for (const auto& given : out.events) {
      if (auto event = deliverable(state, group, scan, given)) {
        answer.deliveries.push_back(
            delivery(out.claim, given, Position(given.ordinal), lease_until, std::move(*event)));
      }
    }
    scan.finish(group);
    standings.note(group, state.stream(group.identity.stream, "claim").id);
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
