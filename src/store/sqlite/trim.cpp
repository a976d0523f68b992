// SPDX-License-Identifier: Apache-2.0

// Removing what nobody needs any more: old events, and what housekeeping finds.

#include <algorithm>

#include "base/log.hpp"
#include "store/sqlite/ledger.hpp"
#include "store/sqlite/log.hpp"
#include "store/sqlite/rows.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

/// Most events one transaction removes, so that nobody waits long behind a trim.
constexpr std::uint64_t kTrimStep = 5'000;
/// Free pages are given back to the file system from here on, so many at a time; fewer are soon used again.
constexpr std::int64_t kVacuumFrom = 4'096;
constexpr std::int64_t kVacuumStep = 512;

/// The position below which `count` kept events stand, counted from the oldest.
Ordinal end_of_oldest(const StreamState& stream, std::uint64_t count) {
  Ordinal end = stream.trimmed_to;
  for (const auto& [first, last] : stream.skipped) {
    if (last <= end) continue;
    if (end + count < first) break;
    count -= std::min(count, first - 1 - std::min(end, first - 1));
    end = last;
  }
  return std::min(end + count, stream.head());
}

std::size_t row_bytes(const Statement::Rows& row, int first) {
  std::size_t bytes = 0;
  for (int column = first; column < first + kEventColumnCount; ++column) bytes += row.size(column);
  return bytes;
}

/// The last position to remove so that at most `most` bytes are kept.
Ordinal end_of_bytes(StreamState& stream, std::uint64_t most) {
  std::uint64_t left = stream.bytes;
  Ordinal end = stream.trimmed_to;
  auto rows = stream.after.query(stream.trimmed_to);
  while (left > most && rows.next()) {
    const std::uint64_t bytes = row_bytes(rows, 1);
    left -= std::min(left, bytes);
    end = rows.number(0);
  }
  return end;
}

Ordinal wanted_end(State& state, StreamState& stream, const TrimRequest& request) {
  Ordinal end = stream.trimmed_to;
  if (request.up_to) end = std::max(end, std::min(request.up_to->low, stream.head()));
  if (request.max_events && stream.events > *request.max_events) {
    end = std::max(end, end_of_oldest(stream, stream.events - *request.max_events));
  }
  if (request.max_bytes && stream.bytes > *request.max_bytes)
    end = std::max(end, end_of_bytes(stream, *request.max_bytes));
  if (request.max_age) {
    end = std::max(end, last_before(state.connection(), stream.id, stream.trimmed_to + 1, stream.head(),
                                    state.now() - *request.max_age));
  }
  return end;
}

/// Everything up to here is settled in the group.
Ordinal settled_to(const Group& group) {
  const Ordinal open = group.state.oldest_open();
  const Ordinal cursor = group.state.progress().cursor;
  return open == 0 ? cursor : std::min(cursor, open - 1);
}

void remove(State& state, StreamState& stream, Ordinal end, std::chrono::seconds dedup_keep, TrimResult& result) {
  Connection& connection = state.connection();
  std::uint64_t bytes = 0;
  std::uint64_t removed = 0;
  {
    Statement& remember = connection.prepared("INSERT OR REPLACE INTO " + trimmed_table(stream.id) +
                                              " (id, source, position, fingerprint, trimmed_at) VALUES (?,?,?,?,?)");
    auto rows = stream.after.query(stream.trimmed_to);
    while (rows.next() && rows.number(0) <= end) {
      ++removed;
      bytes += row_bytes(rows, 1);
      if (dedup_keep.count() == 0) continue;
      remember.run(rows.text(1), rows.text(2), rows.number(0),
                   content_fingerprint(rows.text(1 + kTypeColumn), rows.blob(kEventColumnCount)), state.now());
      stream.has_trimmed_ids = true;
    }
  }
  connection.prepared("DELETE FROM " + event_table(stream.id) + " WHERE position <= ?").run(end);
  result.removed += removed;
  stream.events -= std::min(stream.events, removed);
  stream.bytes = stream.events == 0 ? 0 : stream.bytes - std::min(stream.bytes, bytes);
  stream.trimmed_to = end;
  stream.dirty = true;
}

}  // namespace

TrimResult SqliteLog::trim(const StreamName& name, const TrimRequest& request) {
  if (request.up_to) ordinal_of(*request.up_to, "trim");
  TrimResult result;
  std::optional<Ordinal> target;  // decided by the first step, so that new events do not prolong the work
  bool more = true;
  while (more) {
    more = writer_.call(true, [&](State& state) {
      StreamState& stream = state.stream(name, "trim");
      if (!target) target = wanted_end(state, stream, request);
      Ordinal end = *target;
      result.kept.clear();
      if (!request.force) {
        for (Group* group : state.all_groups()) {
          if (group->identity.stream != name || !group->live(state.now())) continue;
          group->state.expire(state.now(), state.session_end());
          state.touch(*group, false);
          const Ordinal floor = std::max(settled_to(*group), stream.trimmed_to);
          if (floor >= *target) continue;
          result.kept.push_back({group->name, positions_between(stream.skipped, floor, *target)});
          end = std::min(end, floor);
        }
      }
      const Ordinal step = std::min(end, std::max(stream.trimmed_to, end_of_oldest(stream, kTrimStep)));
      if (step > stream.trimmed_to) {
        remove(state, stream, step, writer_.dedup_keep(), result);
        if (request.force) {
          for (Group* group : state.all_groups()) {
            if (group->identity.stream != name) continue;
            state.touch(*group, false);
            group->state.forget_up_to(step);
          }
        }
      }
      result.trimmed_to = Position(stream.trimmed_to);
      return stream.trimmed_to < end;
    });
  }
  return result;
}

void keep_house(State& state, std::chrono::seconds dedup_keep, bool owner) {
  Connection& connection = state.connection();
  const Timestamp now = state.now();
  for (auto& [name, stream] : state.streams()) {
    if (!stream->has_trimmed_ids) continue;
    const std::string table = trimmed_table(stream->id);
    connection
        .prepared("DELETE FROM " + table + " WHERE (id, source) IN (SELECT id, source FROM " + table +
                  " WHERE trimmed_at < ? LIMIT 5000)")
        .run(now - dedup_keep);
    if (connection.changes() != 0) {
      stream->has_trimmed_ids = connection.integer("SELECT EXISTS (SELECT 1 FROM " + table + ")") != 0;
    }
  }
  connection
      .prepared("DELETE FROM key_value WHERE rowid IN (SELECT rowid FROM key_value WHERE expires_at <= ? LIMIT 1000)")
      .run(now);
  if (!owner) return;

  std::vector<SessionId> ended;
  for (const auto& [id, session] : state.sessions()) {
    if (session.until <= now) ended.push_back(id);
  }
  for (Group* group : state.all_groups()) {
    if (!group->live(now)) {
      log::info("group_expired", group->name.str(),
                "nobody has used this group for as long as it was to be kept: deleted");
      state.delete_group(*group);
    } else if (!ended.empty()) {
      group->state.expire(now, state.session_end());
      state.touch(*group, false);
    }
  }
  for (const SessionId id : ended) {
    connection.prepared("DELETE FROM session WHERE id = ?").run(id);
    state.sessions().erase(id);
    state.note_ended(id);
  }
  if (connection.integer("PRAGMA freelist_count") > kVacuumFrom) {
    connection.execute("PRAGMA incremental_vacuum(" + std::to_string(kVacuumStep) + ")");
    state.mark_written();
  }
}

}  // namespace millrace::store::sqlite
