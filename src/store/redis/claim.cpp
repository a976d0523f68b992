// SPDX-License-Identifier: Apache-2.0

// Handing out: what the group's state decides, with the events themselves.

#include "store/redis/claim.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "store/redis/clock.hpp"
#include "store/redis/ledger.hpp"
#include "store/redis/log_rows.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {

// ---- Reading on ----

void AheadOfCursor::start(const Group& group, Timestamp now, std::size_t bytes_per_event,
                          std::optional<ReadAhead> ahead) {
  ++attempts_;
  ahead_ = std::move(ahead);
  group_ = &group;
  now_ = now;
  bytes_per_event_ = std::max<std::size_t>(bytes_per_event, 1);
  scanned_ = 0;
  const Ordinal cursor = group.state.progress().cursor;
  scanned_to_ = cursor;
  read_ = group.entries_read;
  if (!read_any_ || cursor < from_ || cursor > read_to_ || removed_) {
    entries_.clear();
    unfit_ = 0;
    from_ = read_to_ = cursor;
    read_at_ = behind(cursor);
  }
  read_any_ = true;
  removed_.reset();
  at_end_ = more_ = false;
  at_ = static_cast<std::size_t>(
      std::distance(entries_.begin(), std::upper_bound(entries_.begin(), entries_.end(), cursor,
                                                       [](Ordinal o, const Scanned& one) { return o < one.ordinal; })));
}

bool AheadOfCursor::read_on() {
  while (at_ == entries_.size() && !at_end_ && !stopped_early()) {
    const std::size_t affordable = std::clamp<std::size_t>(request_.max_bytes / bytes_per_event_, 4, kMostOfPage);
    const std::size_t wanted = scanned_ == 0 ? request_.max : kMostOfPage;
    page_ = std::min(wanted, affordable);
    std::optional<Entries> page = read_in_advance();
    if (!page) {
      page = read_entries(client_, group_->identity.stream, read_at_, page_, Purpose::ledger, mapping_);
      at_end_ = page->at_end;
    }
    more_ = !page->at_end;
    for (Entry& entry : page->entries) {
      read_at_ = entry.position;
      read_to_ = last_up_to(entry.position);
      if (!fits(entry.position)) {
        ++unfit_;
        ++scanned_;
        continue;
      }
      entries_.push_back(
          {read_to_, entry.n, std::move(entry.event), std::move(entry.aside), std::exchange(unfit_, std::uint64_t{0})});
    }
  }
  return at_ < entries_.size();
}

/// Only what is there: whether there is more by now it cannot tell.
std::optional<Entries> AheadOfCursor::read_in_advance() {
  std::optional<ReadAhead> ahead = std::exchange(ahead_, std::nullopt);
  if (!ahead || ahead->from != read_to_ || ahead->stream != group_->identity.stream) return std::nullopt;
  std::vector<Reply> replies;
  try {
    replies = ahead->replies.get();
  } catch (const Error&) {
    return std::nullopt;  // it is read now, and fails again if it must
  }
  const NativeStream native = decode_native(replies.at(0));
  const Keys keys(client_.key(""));
  Entries page = take_entries(std::span(replies).subspan(1), keys, ahead->stream, ahead->count, mapping_);
  if (page.entries.empty()) return std::nullopt;
  removed_ = native.added - native.length;
  return page;
}

std::optional<ledger::Candidate> AheadOfCursor::next() {
  while (at_ < entries_.size() || read_on()) {
    Scanned& one = entries_[at_++];
    ++scanned_;
    scanned_to_ = one.ordinal;
    if (read_) *read_ += one.unfit + 1;
    one.missing = one.n && read_ && *one.n > *read_ ? *one.n - *read_ : 0;
    if (one.n) read_ = one.n;
    one.read = read_;
    if (!one.event || !group_->types.matches(one.event->type)) continue;
    return candidate(one.ordinal, group_->identity.order, *one.event, now_);
  }
  scanned_to_ = std::max(scanned_to_, read_to_);  // also behind entries that do not fit
  return std::nullopt;
}

std::vector<AheadOfCursor::Scanned>::const_iterator AheadOfCursor::find(Ordinal ordinal) const {
  const auto it = std::lower_bound(entries_.begin(), entries_.end(), ordinal,
                                   [](const Scanned& one, Ordinal o) { return one.ordinal < o; });
  return it != entries_.end() && it->ordinal == ordinal ? it : entries_.end();
}

std::optional<std::uint64_t> AheadOfCursor::read_at(Ordinal ordinal) const {
  const auto it = find(ordinal);
  return it == entries_.end() ? std::nullopt : it->read;
}

std::optional<std::size_t> AheadOfCursor::bytes_per_event() const {
  constexpr std::size_t kSample = 32;
  std::size_t count = 0;
  std::size_t bytes = 0;
  for (const Scanned& one : entries_) {
    if (!one.event || count >= kSample) continue;
    bytes += event_bytes(*one.event);
    ++count;
  }
  return count == 0 ? std::nullopt : std::optional(bytes / count);
}

Event AheadOfCursor::take(Ordinal ordinal) {
  return std::move(*entries_[static_cast<std::size_t>(std::distance(entries_.cbegin(), find(ordinal)))].event);
}

std::vector<std::string> AheadOfCursor::asides(Ordinal up_to) const {
  std::vector<std::string> words;
  for (const Scanned& one : entries_) {
    if (one.event || one.ordinal > up_to) continue;
    words.push_back(id_of(unpack(one.ordinal)));
    words.push_back(one.aside);
  }
  return words;
}

std::uint64_t AheadOfCursor::missing(Ordinal after, Ordinal up_to) const {
  std::uint64_t count = 0;
  for (const Scanned& one : entries_) {
    if (one.ordinal > after && one.ordinal <= up_to) count += one.missing;
  }
  return count;
}

// ---- Handing out ----

ClaimAnswer RedisLedger::claim(const GroupName& name, const ClaimRequest& request) {
  check_claim(request);
  AheadOfCursor ahead(client_, options_.mapping, request);
  std::optional<StreamName> stream;
  Ordinal began_at = 0;
  Ordinal cursor = 0;
  ClaimAnswer answer = decide(name, "claim", [&](Turn& turn) {
    began_at = turn.group.state.progress().cursor;
    ClaimAnswer tried = hand_out(turn, request, ahead);
    stream = turn.group.identity.stream;
    cursor = turn.group.state.progress().cursor;
    return tried;
  });
  if (options_.caches && ahead.more_after(cursor)) read_ahead(name, *stream, cursor, ahead.page());
  for (Delivery& delivery : answer.deliveries) {
    if (delivery.event.id.empty()) delivery.event = ahead.take(pack(delivery.position));
  }
  if (const auto asides = ahead.asides(cursor); !asides.empty()) {
    counts_.set_aside += asides.size() / 2;
    try {
      client_.run(Purpose::ledger, scripts::aside, {keys_.stream(*stream), keys_.aside(*stream)}, asides);
    } catch (const Error& error) {  // the claim is made, and it is its holder's
      log::write(log::Level::warn, error);
    }
  }
  if (const std::uint64_t missing = ahead.missing(began_at, cursor); missing != 0) {
    counts_.lost_events += missing;
    log::error(
        "events_lost", name.str(),
        std::to_string(missing) + " events of stream " + stream->str() + " between " + id_of(unpack(began_at)) +
            " and " + id_of(unpack(cursor)) +
            " were removed before this group got them: by somebody else (XTRIM, XDEL, XADD with MAXLEN), or by a trim "
            "while the group had not been used for longer than it expires");
  }
  return answer;
}

/// Asks for what comes next while somebody handles what was claimed. Not when another thread works on the group: it
/// would be waited for here, and takes what comes next.
void RedisLedger::read_ahead(const GroupName& name, const StreamName& stream, Ordinal from, std::size_t count) {
  const std::shared_ptr<Slot> slot = slot_of(name);
  const std::unique_lock lock(slot->mutex, std::try_to_lock);
  if (!lock || !slot->group || slot->group->state.progress().cursor != from) return;
  std::vector<Command> commands{{"XINFO", "STREAM", keys_.log(stream)}};
  entry_commands(commands, keys_, stream, behind(from), count);
  try {
    slot->ahead = ReadAhead{.stream = stream,
                            .from = from,
                            .count = count,
                            .asked = client_.now(),
                            .replies = client_.pipeline_async(Purpose::ledger, commands, Access::read)};
  } catch (const Error&) {
    slot->ahead.reset();  // the next claim asks, and says why it cannot
  }
}

ClaimAnswer RedisLedger::hand_out(Turn& turn, const ClaimRequest& request, AheadOfCursor& ahead) {
  Group& group = turn.group;
  Timestamp lease_until;
  if (const auto* id = std::get_if<SessionId>(&request.hold)) {
    const auto session = sessions_.find(*id, turn.now);
    if (!session || session->until <= turn.now) {
      const auto server = session ? time_of(client_.call(Purpose::ledger, {"TIME"}, Access::read)) : std::nullopt;
      if (!server || session->until <= *server) {
        throw session_ended(group.name);
      }
      turn.attempt.clock_ahead = client_.now() - *server;  // it was set back, and we have not noticed yet
      turn.stale = true;
      return {};
    }
    lease_until = session->until;
    turn.commit.require_session_lives(*id);
    if (!sessions_.used(*id).contains(group.name)) {
      turn.commit.command(sessions_.use_command(*id, group.name));
      turn.used_by = *id;
    }
  } else {
    lease_until = turn.now + std::get<Milliseconds>(request.hold);
  }
  turn.seen = true;
  ClaimAnswer answer;
  answer.max_dataversion = group.identity.settings.max_dataversion;
  if (group.paused) return answer;

  turn.commit.require_native_at(group.identity.stream, group.native_cursor);
  while (true) {
    ahead.start(group, turn.now, turn.slot.bytes_per_event, std::exchange(turn.slot.ahead, std::nullopt));
    const std::uint64_t id = take_id(turn.slot, group);
    const auto out = group.state.claim(turn.now, id, request, ahead, session_end());
    if (ahead.removed()) turn.commit.require_removed_is(group.identity.stream, *ahead.removed());
    turn.slot.bytes_per_event = ahead.bytes_per_event().value_or(turn.slot.bytes_per_event);
    const Ordinal cursor = group.state.progress().cursor;
    if (cursor != group.native_cursor) group.entries_read = ahead.read_at(cursor);
    if (!out.events.empty()) {
      group.last_claim = turn.claim = id;
      ++turn.slot.next_id;
    }
    std::set<Ordinal> again;
    std::set<Ordinal> copied;
    for (const auto& given : out.events) {
      if (given.fresh) continue;
      again.insert(given.ordinal);
      const ledger::Item* item = group.state.item(given.ordinal);
      if (item && item->has_row) copied.insert(given.ordinal);
    }
    Events others = load_events(group, again, copied);
    answer.deliveries.reserve(out.events.size());
    for (const auto& given : out.events) {
      std::optional<Event> event;
      if (given.fresh) {
        event.emplace();  // taken from what was read when the claim is sure
      } else {
        std::optional<Entry>& entry = others.at(given.ordinal);
        event =
            store::deliverable(group.state, given.ordinal, entry ? std::move(entry->event) : std::nullopt, turn.now);
      }
      if (!event) continue;
      answer.deliveries.push_back(delivery(out.claim, given, unpack(given.ordinal), lease_until, std::move(*event)));
    }
    if (!answer.deliveries.empty()) return answer;
    if (!out.events.empty()) continue;  // all of it was settled instead: there may be more
    answer.next_due = out.next_due;
    // The scan stopped in the middle: what comes next may well match.
    if (ahead.stopped_early() && group.state.stalled().empty() && group.state.suspects() == 0) {
      answer.next_due = Milliseconds{0};
    }
    return answer;
  }
}

}  // namespace millrace::store::redis
