// SPDX-License-Identifier: Apache-2.0

// Removing what nobody needs any more: old events, and what housekeeping finds.

#include <algorithm>

#include "base/log.hpp"
#include "store/ledger_calls.hpp"
#include "store/records.hpp"
#include "store/sqlite/ledger.hpp"
#include "store/sqlite/log.hpp"
#include "store/sqlite/rows.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

using Clock = std::chrono::steady_clock;

/// Most events one transaction removes, and how much of them (and one), so that what it has to write stays small.
constexpr std::uint64_t kTrimStep = 5'000;
constexpr std::uint64_t kTrimStepBytes = 2 << 20;
/// The clock is looked at after so many, or so much.
constexpr std::uint64_t kTrimAtOnce = 250;
constexpr std::uint64_t kTrimAtOnceBytes = kTrimStepBytes / 16;

/// For how long one transaction removes: whoever appends waits behind it. What a trim removes was decided at its start,
/// so one that has been at work for long is falling behind those who append, and takes more of the writer's time.
Clock::duration time_for_a_step(Clock::duration at_work) {
  using std::chrono::milliseconds;
  return std::clamp<Clock::duration>(at_work / 100, milliseconds(10), milliseconds(100));
}

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

Ordinal wanted_end(State& state, StreamState& stream, const TrimRequest& request) {
  Ordinal end = stream.trimmed_to;
  if (request.up_to) end = std::max(end, std::min(request.up_to->low, stream.head()));
  if (request.max_events && stream.events > *request.max_events) {
    end = std::max(end, end_of_oldest(stream, stream.events - *request.max_events));
  }
  if (request.max_age) {
    end = std::max(end, last_before(state.connection(), stream.id, stream.trimmed_to + 1, stream.head(),
                                    state.now() - *request.max_age));
  }
  return end;
}

/// Removes the oldest events up to `end`, as many of them as may go at once. Returns their bytes.
std::uint64_t remove(State& state, StreamState& stream, Ordinal end, std::chrono::seconds dedup_keep,
                     TrimResult& result) {
  Connection& connection = state.connection();
  std::uint64_t bytes = 0;
  std::uint64_t removed = 0;
  Ordinal last = stream.trimmed_to;
  bool more = true;
  {
    Statement& remember = connection.prepared("INSERT OR REPLACE INTO " + trimmed_table(stream.id) +
                                              " (id, source, position, fingerprint, trimmed_at) VALUES (?,?,?,?,?)");
    constexpr int kFirst = 1;
    auto rows = stream.after.query(stream.trimmed_to);
    while (removed < kTrimAtOnce && bytes < kTrimAtOnceBytes) {
      more = rows.next() && rows.number(0) <= end;
      if (!more) break;
      last = rows.number(0);
      ++removed;
      bytes += row_bytes(rows, kFirst);
      if (dedup_keep.count() == 0) continue;
      const std::uint64_t fingerprint =
          row_is_erased(rows, kFirst)
              ? kErasedFingerprint
              : content_fingerprint(rows.text(kFirst + kTypeColumn), rows.blob(kFirst + kDataColumn));
      remember.run(rows.text(kFirst), rows.text(kFirst + 1), last, fingerprint, state.now());
      stream.has_trimmed_ids = true;
    }
  }
  if (!more) last = end;  // skipped positions may stand before it
  connection.prepared("DELETE FROM " + event_table(stream.id) + " WHERE position <= ?").run(last);
  result.removed += removed;
  stream.events -= std::min(stream.events, removed);
  stream.bytes = stream.events == 0 ? 0 : stream.bytes - std::min(stream.bytes, bytes);
  stream.trimmed_to = last;
  stream.dirty = true;
  return bytes;
}

/// Up to where events may be removed; says in `result` for whom the others are kept.
Ordinal unheld_end(State& state, StreamState& stream, Ordinal target, TrimResult& result) {
  Ordinal end = target;
  for (Group* group : state.all_groups()) {
    if (group->identity.stream != stream.name || !group->live(state.now())) continue;
    group->state.expire(state.now(), state.session_end());
    state.touch(*group, false);
    const Ordinal floor = std::max(settled_to(group->state), stream.trimmed_to);
    if (floor >= target) continue;
    result.kept.push_back({group->name, positions_between(stream.skipped, floor, target)});
    end = std::min(end, floor);
  }
  return end;
}

void note_trim(State& state, const StreamState& stream, const TrimResult& result, const Retention* applied) {
  Connection& connection = state.connection();
  connection.prepared("UPDATE stream SET last_trim_at = ?, last_trim = ? WHERE id = ?")
      .run(state.now(), encode_trim(result, PositionForm::number), stream.id);
  if (!applied) return;
  auto row = connection.prepared("SELECT retention FROM stream WHERE id = ?").query(stream.id);
  if (!row.next() || decode_retention(row.text(0)).retention != *applied) return;  // another was set meanwhile
  connection.prepared("UPDATE stream SET retention = ? WHERE id = ?")
      .run(encode_retention({*applied, state.now()}), stream.id);
}

}  // namespace

/// One trim on its way through its steps.
struct SqliteLog::TrimJob {
  StreamName name;
  TrimRequest request;
  std::optional<Retention> applied = {};  ///< the retention it is made by, if it is
  Ordinal end_of_bytes = 0;
  std::optional<Ordinal> target = {};  ///< decided by the first step, so that new events do not prolong the work
  Clock::time_point began = Clock::now();
  TrimResult result = {};
};

TrimResult SqliteLog::trim(const StreamName& name, const TrimRequest& request) {
  if (request.up_to) ordinal_of(*request.up_to, "trim");
  TrimJob job{.name = name, .request = request};
  return run_trim(job, {});
}

std::vector<RetentionHost::Retained> SqliteLog::retained() {
  return readers_.read([](Connection& connection) {
    std::vector<Retained> all;
    auto rows = connection.prepared("SELECT name, retention FROM stream WHERE retention != ''").query();
    while (rows.next()) all.push_back({StreamName(rows.text(0)), decode_retention(rows.text(1))});
    return all;
  });
}

TrimResult SqliteLog::apply_retention(const StreamName& name, const std::stop_token& stop) {
  const Retention retention = stream(name).retention;
  TrimJob job{.name = name, .request = request_of(retention), .applied = retention};
  return run_trim(job, stop);
}

TrimResult SqliteLog::run_trim(TrimJob& job, const std::stop_token& stop) {
  if (job.request.max_bytes) job.end_of_bytes = end_of_bytes(job.name, *job.request.max_bytes, stop);
  bool more = true;
  while (more) {
    if (stop.stop_requested()) throw Error(Errc::stopped, "trim", job.name.str(), "the store is being closed");
    more = writer_.call(!job.request.dry_run, [&](State& state) { return trim_step(state, job); });
  }
  if (!job.request.dry_run) log_trim(job.name, job.result);
  return job.result;
}

/// True when there is more to do.
bool SqliteLog::trim_step(State& state, TrimJob& job) {
  StreamState& stream = state.stream(job.name, "trim");
  TrimResult& result = job.result;
  if (!job.target) job.target = std::max(wanted_end(state, stream, job.request), job.end_of_bytes);
  result.kept.clear();
  const Ordinal end = job.request.force ? *job.target : unheld_end(state, stream, *job.target, result);
  if (job.request.dry_run) {
    result.removed = positions_between(stream.skipped, stream.trimmed_to, end);
    result.trimmed_to = Position(std::max(stream.trimmed_to, end));
    return false;
  }
  if (end > stream.trimmed_to) {
    const auto now = Clock::now();
    const auto until = now + time_for_a_step(now - job.began);
    const std::uint64_t removed_before = result.removed;
    std::uint64_t bytes = 0;
    do {
      bytes += remove(state, stream, end, writer_.dedup_keep(), result);
    } while (stream.trimmed_to < end && result.removed - removed_before < kTrimStep && bytes < kTrimStepBytes &&
             Clock::now() < until);
    if (job.request.force) {
      for (Group* group : state.all_groups()) {
        if (group->identity.stream != job.name) continue;
        state.touch(*group, false);
        group->state.forget_up_to(stream.trimmed_to);
      }
    }
  }
  result.trimmed_to = Position(stream.trimmed_to);
  if (stream.trimmed_to < end) return true;
  note_trim(state, stream, result, job.applied ? &*job.applied : nullptr);
  return false;
}

/// The last position to remove so that at most `most` bytes are kept. Sizes of single events are kept nowhere but with
/// them, so this looks at each; beside the writer, and a while at a time, so that it holds nobody up.
Ordinal SqliteLog::end_of_bytes(const StreamName& name, std::uint64_t most, const std::stop_token& stop) {
  constexpr std::size_t kAtOnce = 20'000;
  std::optional<std::uint64_t> excess;
  Ordinal end = 0;
  for (bool more = true; more && !stop.stop_requested();) {
    readers_.read([&](Connection& connection) {
      const StreamRow stream = stream_row(connection, name, "trim");
      if (!excess) excess = stream.bytes > most ? stream.bytes - most : 0;
      // length() of the last column is in the row's header: its overflow pages are not read.
      auto rows = connection
                      .prepared(
                          "SELECT position, id, source, type, subject, time, datacontenttype, dataschema, extensions, "
                          "length(data) FROM " +
                          event_table(stream.id) + " WHERE position > ? ORDER BY position")
                      .query(std::max(end, stream.trimmed_to));
      more = false;
      for (std::size_t seen = 0; *excess > 0 && rows.next(); ++seen) {
        std::uint64_t bytes = rows.number(kEventColumnCount);
        for (int column = 1; column < kEventColumnCount; ++column) bytes += rows.size(column);
        *excess -= std::min(*excess, bytes);
        end = rows.number(0);
        more = seen + 1 == kAtOnce;
        if (more) break;
      }
    });
  }
  return end;
}

void keep_house(State& state, bool owner) {
  Connection& connection = state.connection();
  const Timestamp now = state.now();
  connection
      .prepared("DELETE FROM key_value WHERE rowid IN (SELECT rowid FROM key_value WHERE expires_at <= ? LIMIT 1000)")
      .run(now);
  if (!owner) return;
  forget_history(state);

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
}

}  // namespace millrace::store::sqlite
