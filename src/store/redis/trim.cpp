// SPDX-License-Identifier: Apache-2.0

// Trimming: where the events end that a request would remove is found by reading; what of them nobody needs is decided
// and removed by a script, a slice at a time, so that the server is never held up for long.

#include <algorithm>

#include "base/log.hpp"
#include "store/common.hpp"
#include "store/records.hpp"
#include "store/redis/log.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

/// Of one slice: so many events at most, and about so many bytes of them.
constexpr std::size_t kSlice = 1'000;
constexpr std::size_t kSliceBytes = 2 << 20;
constexpr std::size_t kFirstSlice = 100;
/// How long a process that trims by retention is believed to be at it.
constexpr const char* kLeaseMilliseconds = "30000";

void check(const std::stop_token& stop, const StreamName& name) {
  if (stop.stop_requested()) throw Error(Errc::stopped, "trim", name.str(), "the store is being closed");
}

std::size_t slice_for(std::size_t bytes, std::size_t events) {
  if (events == 0 || bytes == 0) return kSlice;
  return std::clamp<std::size_t>(kSliceBytes / (bytes / events + 1), 1, kSlice);
}

}  // namespace

/// One trim on its way.
struct RedisLog::TrimJob {
  StreamName name;
  TrimRequest request;
  std::optional<RetentionRecord> applied = {};  ///< the retention it is made by, if it is
  Position end = {};                            ///< decided once, so that new events do not prolong the work
  Position at = {};                             ///< up to here it is done
  std::size_t slice = kFirstSlice;
  TrimResult result = {};
};

TrimResult RedisLog::trim(const StreamName& name, const TrimRequest& request) {
  if (request.up_to) (void)pack(*request.up_to, "trim");
  TrimJob job{.name = name, .request = request};
  return run_trim(job, {});
}

TrimResult RedisLog::run_trim(TrimJob& job, const std::stop_token& stop) {
  const StreamRow row = row_of(job.name, "trim");
  job.at = row.trimmed_to;
  job.result.trimmed_to = row.trimmed_to;
  job.end = wanted_end(job, row, stop);
  if (job.request.dry_run) {
    dry_run(job, row);
    return job.result;
  }
  do {
    check(stop, job.name);
    if (job.applied) {
      (void)client_.call(Purpose::ledger, {"PEXPIRE", keys_.trimmer(job.name), kLeaseMilliseconds});
    }
  } while (job.at < job.end && trim_slice(job));
  std::string before, after;
  if (job.applied) {
    before = encode_retention(*job.applied);
    after = encode_retention({job.applied->retention, client_.now()});
  }
  (void)client_.run(Purpose::ledger, scripts::note_trim, {keys_.stream(job.name)},
                    {encode_trim(job.result, PositionForm::pair), before, after});
  log_trim(job.name, job.result);
  return job.result;
}

/// One slice; true when there is more to do.
bool RedisLog::trim_slice(TrimJob& job) {
  Entries found = entries_after(job.name, job.at, job.slice);
  std::vector<std::string> events;
  Position last = job.at;
  std::size_t bytes = 0, count = 0;
  for (const Entry& entry : found.entries) {
    if (entry.position > job.end) break;
    const std::size_t weight = entry.event ? event_bytes(*entry.event) : 0;
    const bool ours = entry.n && entry.event;
    events.push_back(id_of(entry.position));
    events.push_back(entry.n ? std::to_string(*entry.n) : "");
    events.push_back(ours ? entry.event->id : "");
    events.push_back(ours ? entry.event->source : "");
    events.push_back(ours ? std::to_string(weight) : "0");
    last = entry.position;
    bytes += weight;
    ++count;
  }
  const Reply answer = trim_script(job, job.request.force ? "force" : "trim", std::move(events));
  const std::string& removed_to = answer.as_array().at(0).as_text();
  if (!removed_to.empty()) {
    job.at = job.result.trimmed_to = position_of(removed_to, "trim's answer");
    job.result.removed += static_cast<std::uint64_t>(answer.items.at(1).as_integer());
  }
  const bool more = job.at == last && last < job.end && count == found.entries.size() && !found.at_end;
  job.slice = slice_for(bytes, count);
  if (!more) tell_kept(job, answer);
  return more;
}

Reply RedisLog::trim_script(const TrimJob& job, const char* mode, std::vector<std::string> events) {
  std::vector<std::string> args{
      job.name.str(), keys_.prefix() + "millrace:group:",          mode,
      id_of(job.end), std::to_string(options_.dedup_keep.count()), std::to_string(events.size() / 5)};
  std::move(events.begin(), events.end(), std::back_inserter(args));
  return client_.run(Purpose::ledger, scripts::trim,
                     {keys_.log(job.name), keys_.stream(job.name), keys_.ids(job.name), keys_.trimmed(job.name),
                      keys_.erased(job.name), keys_.groups()},
                     std::move(args));
}

void RedisLog::dry_run(TrimJob& job, const StreamRow& row) {
  if (job.end <= row.trimmed_to) return;
  const Reply answer = trim_script(job, job.request.force ? "force_ask" : "ask", {});
  const auto newest = newest_up_to(job.name, position_of(answer.as_array().at(0).as_text(), "trim's answer"));
  if (newest) {
    job.result.trimmed_to = std::max(row.trimmed_to, newest->position);
    job.result.removed = count_up_to(job.name, newest->position);
  }
  tell_kept(job, answer);
}

/// For whom how many events of those up to `end` are kept.
void RedisLog::tell_kept(TrimJob& job, const Reply& answer) {
  if (answer.items.size() <= 2) return;
  const std::uint64_t all = count_up_to(job.name, job.end);
  for (std::size_t i = 2; i + 1 < answer.items.size(); i += 2) {
    const Position settled = position_of(answer.items[i + 1].as_text(), "trim's answer");
    const std::uint64_t here = count_up_to(job.name, settled);
    if (all > here) job.result.kept.push_back({GroupName(answer.items[i].as_text()), all - here});
  }
  std::sort(job.result.kept.begin(), job.result.kept.end(),
            [](const TrimResult::Kept& a, const TrimResult::Kept& b) { return a.group < b.group; });
}

// ---- How far a request goes ----

Position RedisLog::wanted_end(const TrimJob& job, const StreamRow& row, const std::stop_token& stop) {
  const TrimRequest& request = job.request;
  Position end = row.trimmed_to;
  const auto at_least = [&](const std::optional<Entry>& entry) {
    if (entry) end = std::max(end, entry->position);
  };
  if (request.up_to) at_least(newest_up_to(job.name, *request.up_to));
  if (request.max_age) at_least(newest_up_to(job.name, last_before(client_.now() - *request.max_age)));
  if (request.max_events) {
    const std::uint64_t events = infos({job.name}).at(0).events;
    if (events > *request.max_events) {
      end = std::max(end, end_of_oldest(job.name, row, events - *request.max_events, stop));
    }
  }
  if (request.max_bytes && row.bytes > *request.max_bytes) {
    end = std::max(end, end_of_bytes(job.name, row, row.bytes - *request.max_bytes, stop));
  }
  return end;
}

/// The position of the oldest events' last. The count in our entries goes on by one from each to the next, so it is
/// searched for by halves; in a stretch of another producer's, it is walked to.
Position RedisLog::end_of_oldest(const StreamName& name, const StreamRow& row, std::uint64_t count,
                                 const std::stop_token& stop) {
  const auto walk = [&] {
    Position at = row.trimmed_to;
    for (std::uint64_t left = count; left > 0;) {
      check(stop, name);
      const Entries found = entries_after(name, at, std::min<std::uint64_t>(left, kSlice));
      if (found.entries.empty()) break;
      left -= found.entries.size();
      at = found.entries.back().position;
    }
    return at;
  };
  if (count <= kSlice) return walk();
  const Entries first = entries_after(name, row.trimmed_to, 1);
  const auto last = newest_up_to(name, kLastPosition);
  if (first.entries.empty() || !first.entries[0].n || !last) return walk();
  const std::uint64_t target = *first.entries[0].n + count - 1;
  Ordinal low = pack(first.entries[0].position) - 1;  // behind it goes on what is to be removed
  Ordinal high = pack(last->position);                // behind it what is to be kept, or nothing
  while (high - low > 1) {
    check(stop, name);
    const Ordinal middle = low + (high - low) / 2;
    const Entries next = entries_after(name, unpack(middle), 1);
    if (!next.entries.empty() && !next.entries[0].n) return walk();
    if (next.entries.empty() || *next.entries[0].n > target) {
      high = middle;
    } else {
      low = std::max(middle, pack(next.entries[0].position) - 1);
    }
  }
  return unpack(high);
}

/// Sizes of single events stand nowhere but with them, so this looks at each that is to be removed.
Position RedisLog::end_of_bytes(const StreamName& name, const StreamRow& row, std::uint64_t excess,
                                const std::stop_token& stop) {
  Position at = row.trimmed_to;
  std::size_t chunk = kFirstSlice;
  while (excess > 0) {
    check(stop, name);
    const Entries found = entries_after(name, at, chunk);
    std::size_t bytes = 0;
    for (const Entry& entry : found.entries) {
      if (excess == 0) break;
      const std::uint64_t weight = entry.n && entry.event ? event_bytes(*entry.event) : 0;
      excess -= std::min(excess, weight);
      bytes += weight;
      at = entry.position;
    }
    if (found.at_end) break;
    chunk = slice_for(bytes, found.entries.size());
  }
  return at;
}

std::uint64_t RedisLog::count_up_to(const StreamName& name, Position position) {
  const Entries first = entries_after(name, {}, 1);
  if (first.entries.empty() || first.entries[0].position > position) return 0;
  const auto newest = newest_up_to(name, position);
  if (first.entries[0].n && newest && newest->n && *newest->n >= *first.entries[0].n) {
    return *newest->n - *first.entries[0].n + 1;
  }
  std::uint64_t count = 0;  // one end is another producer's
  for (Position at; true;) {
    const Entries found = entries_after(name, at, kSlice);
    for (const Entry& entry : found.entries) {
      if (entry.position > position) return count;
      ++count;
    }
    if (found.at_end) return count;
    at = found.entries.back().position;
  }
}

// ---- Retention ----

StreamInfo RedisLog::change_retention(const StreamName& name, const RetentionChange& change) {
  for (bool changed = false; !changed;) {
    (void)row_of(name, "set retention");
    const Reply recorded = client_.call(Purpose::ledger, {"HGET", keys_.stream(name), "retention"}, Access::read);
    const std::string before = recorded.is_nil() ? std::string{} : recorded.as_text();
    const Retention retention = change(decode_retention(before).retention);
    retention.validate();
    changed = client_
                  .run(Purpose::ledger, scripts::set_retention, {keys_.stream(name)},
                       {before, encode_retention({retention, std::nullopt})})
                  .as_integer() == 1;
  }
  schedule_.wake();
  return stream(name);
}

std::vector<RetentionHost::Retained> RedisLog::retained() {
  const Reply names = client_.call(Purpose::ledger, {"SMEMBERS", keys_.streams()}, Access::read);
  std::vector<Command> commands;
  for (const Reply& name : names.as_array()) {
    commands.push_back({"HGET", keys_.stream(name.as_text()), "retention"});
    commands.push_back({"GET", keys_.trimmer(name.as_text())});
  }
  const auto replies = client_.pipeline(Purpose::ledger, std::move(commands), Access::read);
  std::vector<Retained> all;
  for (std::size_t i = 0; i < names.items.size(); ++i) {
    const Reply& retention = checked(replies.at(2 * i), "read retention", names.items[i].text);
    const Reply& trimmer = checked(replies.at(2 * i + 1), "read retention", names.items[i].text);
    if (retention.is_nil() || (!trimmer.is_nil() && trimmer.as_text() != self_)) continue;
    const RetentionRecord record = decode_retention(retention.as_text());
    if (!record.retention.keeps_all()) all.push_back({names.items[i].text, record});
  }
  return all;
}

TrimResult RedisLog::apply_retention(const StreamName& name, const std::stop_token& stop) {
  const std::string lease = keys_.trimmer(name);
  // By a script, which goes on when the server is out of memory: this is what makes room.
  const Reply got = client_.run(Purpose::ledger, scripts::lease, {lease}, {self_, kLeaseMilliseconds});
  if (got.as_integer() != 1) throw Error(Errc::stopped, "trim", name.str(), "another process is trimming it");
  const auto give_back = [&] { (void)client_.call(Purpose::ledger, {"DEL", lease}); };
  try {
    const StreamRow row = row_of(name, "trim");
    const auto due = due_at(row.retention);
    TrimResult result = row.last_trim;
    if (due && *due <= client_.now()) {  // else another process was faster
      TrimJob job{.name = name, .request = request_of(row.retention.retention), .applied = row.retention};
      result = run_trim(job, stop);
    }
    give_back();
    return result;
  } catch (const Error& error) {
    if (error.code() == Errc::stopped) {
      try {
        give_back();
      } catch (const Error& unreachable) {
        log::write(log::Level::debug, unreachable);  // it runs out by itself
      }
    }
    throw;
  }
}

}  // namespace millrace::store::redis
