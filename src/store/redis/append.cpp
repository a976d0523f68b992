// SPDX-License-Identifier: Apache-2.0
#include "store/redis/append.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <future>
#include <iterator>
#include <numeric>
#include <utility>

#include "base/log.hpp"
#include "store/common.hpp"
#include "store/redis/entry.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

/// Script calls under way: one that Redis runs, and one that is there when it is through.
constexpr std::size_t kUnderWay = 2;
/// A call takes up to so much of what waits; a larger append goes alone, for it is one step.
constexpr std::size_t kBatchEvents = 512;
constexpr std::size_t kBatchBytes = 1 << 20;
/// Of appends that wait to be sent.
constexpr std::size_t kQueueJobs = 4'096;
constexpr std::size_t kQueueBytes = 64 << 20;
/// Redis takes about a million words per command, and a script hands about eight thousand to one of its calls.
constexpr std::size_t kMostWords = 1'000'000;
constexpr std::size_t kMostWordsOfEvent = 6'000;
constexpr std::size_t kRunHead = 24;  // bytes of a count before a run, at most

/// An item of the script's answer: events stored in a row, of which the first stands at `first`.
struct StoredRow {
  Position first = {};
  std::uint64_t more = 0;  ///< stand behind it, each one sequence number further
};

/// nullopt for an item that says something else.
std::optional<StoredRow> stored_row(std::string_view item) {
  StoredRow row;
  const auto plus = item.find('+');
  const auto first = parse_id(item.substr(0, plus));
  if (!first) return std::nullopt;
  row.first = *first;
  if (plus == std::string_view::npos) return row;
  const char* const end = item.data() + item.size();
  const auto [stop, failure] = std::from_chars(item.data() + plus + 1, end, row.more);
  if (failure != std::errc{} || stop != end) return std::nullopt;
  return row;
}

/// Copies of an exception share the text of what(), counted where ThreadSanitizer does not see it; whoever is answered
/// may be another thread.
Error unshared(const Error& error) {
  return {error.code(), error.operation(), error.object(), error.message(), error.native()};
}

void call(const AppendCompletion& done, const StreamName& stream, AppendAnswer answer) noexcept {
  try {
    done(std::move(answer));
  } catch (const std::exception& thrown) {
    log::error("completion_threw", stream.str(), thrown.what());
  }
}

}  // namespace

Durability durability_of(Level level) noexcept {
  switch (level) {
    case Level::durable:
      return Durability::durable;
    case Level::relaxed:
      return Durability::relaxed;
    case Level::memory:
    case Level::unknown:
      return Durability::memory;
  }
  return Durability::memory;
}

Appender::Appender(Client& client, std::chrono::seconds dedup_keep)
    : client_(client),
      keys_(client.key("")),
      dedup_keep_(dedup_keep),
      replicas_(client.url().replicas),
      answering_([this] { answer_loop(); }) {}

Appender::~Appender() {
  stop();
}

Appender::Job Appender::job_of(const StreamName& stream, std::span<const Event> events) {
  Job job{.stream = stream, .events = events.size()};
  for (const Event& event : events) encode(event, job);
  for (const Run& run : job.runs) job.words += run.names.count + run.words.count + 1;
  if (job.words > kMostWords) {
    throw Error(Errc::too_large, "append", stream.str(),
                "one append on Redis has at most 1000000 fields and values, this has " + std::to_string(job.words) +
                    "; append fewer events at a time");
  }
  return job;
}

void Appender::encode(const Event& event, Job& job) {
  if (2 * event.extensions.size() > kMostWordsOfEvent) {
    throw Error(Errc::too_large, "append", event.id, "an event on Redis has at most 3000 extensions");
  }
  EncodedWords names;
  for_each_field(event, [&names](std::string_view name, std::string_view) { names.add(name); });
  if (job.runs.empty() || job.runs.back().names.bytes != names.bytes) job.runs.push_back({.names = std::move(names)});
  Run& run = job.runs.back();
  ++run.events;
  const std::size_t weight = event_bytes(event);
  job.bytes += weight;
  const auto data = event.data ? std::optional<std::string_view>(*event.data) : std::nullopt;
  run.words.add(fmt::format("{:016x}", content_fingerprint(event.type, data)));
  run.words.add(std::to_string(weight));
  for_each_field(event, [&run](std::string_view, std::string_view value) { run.words.add(value); });
}

/// The script's arguments for their events, in order. Runs that meet become one.
EncodedWords Appender::joined(const std::vector<Job>& jobs) {
  std::vector<const Run*> runs;
  std::size_t bytes = 0;
  for (const Job& job : jobs) {
    for (const Run& run : job.runs) {
      runs.push_back(&run);
      bytes += run.names.bytes.size() + run.words.bytes.size() + 2 * kRunHead;
    }
  }
  EncodedWords all;
  all.bytes.reserve(bytes);
  for (auto first = runs.begin(); first != runs.end();) {
    const auto other =
        std::find_if(first, runs.end(), [&](const Run* run) { return run->names.bytes != (*first)->names.bytes; });
    const auto count = [](std::size_t sum, const Run* run) { return sum + run->events; };
    all.add(std::to_string(std::accumulate(first, other, std::size_t{0}, count)));
    all.add(std::to_string((*first)->names.count));
    all.add((*first)->names);
    for (; first != other; ++first) all.add((*first)->words);
  }
  return all;
}

std::vector<AppendResult> Appender::append(const StreamName& stream, std::span<const Event> events) {
  // Shared: whoever sets it may still be at it when the waiting one has gone.
  const auto answered = std::make_shared<std::promise<AppendAnswer>>();
  auto answer = answered->get_future();
  Job job = job_of(stream, events);
  job.waits = true;
  job.done = [answered](AppendAnswer what) { answered->set_value(std::move(what)); };
  post(std::move(job));
  AppendAnswer what = answer.get();
  if (Error* error = std::get_if<Error>(&what)) throw std::move(*error);
  return std::get<std::vector<AppendResult>>(std::move(what));
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): they end here
void Appender::append_async(const StreamName& stream, std::vector<Event> events, AppendCompletion done) {
  std::optional<Job> job;
  try {
    job = job_of(stream, events);
  } catch (const Error& error) {
    call(done, stream, error);
    return;
  }
  job->done = std::move(done);
  post(*std::move(job));
}

void Appender::post(Job job) {
  std::unique_lock lock(mutex_);
  if (std::this_thread::get_id() != answering_.get_id()) {
    room_.wait(lock, [this] { return stopping_ || (queue_.size() < kQueueJobs && queued_bytes_ < kQueueBytes); });
  }
  if (stopping_) {
    lock.unlock();
    call(job.done, job.stream, Error(Errc::stopped, "append", job.stream.str(), "the store is being closed"));
    return;
  }
  queued_bytes_ += job.bytes;
  queue_.push_back(std::move(job));
  send_what_waits();
}

/// Under the lock until it is handed over: the order of the queue is the order of the log.
void Appender::send_what_waits() {
  while (under_way_ < kUnderWay && !queue_.empty()) {
    auto batch = std::make_shared<Batch>(Batch{.stream = queue_.front().stream, .jobs = {}});
    std::size_t bytes = 0, words = 0;
    while (!queue_.empty() && queue_.front().stream == batch->stream) {
      Job& next = queue_.front();
      const bool full = batch->events + next.events > kBatchEvents || bytes + next.bytes > kBatchBytes ||
                        words + next.words > kMostWords;
      if (full && !batch->jobs.empty()) break;
      batch->events += next.events;
      bytes += next.bytes;
      words += next.words;
      queued_bytes_ -= next.bytes;
      batch->jobs.push_back(std::move(next));
      queue_.pop_front();
    }
    room_.notify_all();
    send(batch);
  }
}

void Appender::send(const BatchPtr& batch) {
  ++under_way_;
  const auto known = known_.find(batch->stream);
  const EncodedWords events = joined(batch->jobs);
  for (Job& job : batch->jobs) job.runs.clear();
  sender_ = std::this_thread::get_id();
  client_.run_async(
      Purpose::append, scripts::append,
      {keys_.log(batch->stream), keys_.stream(batch->stream), keys_.ids(batch->stream), keys_.trimmed(batch->stream),
       keys_.streams(), keys_.erased(batch->stream)},
      {batch->stream.str(), std::to_string(dedup_keep_.count()), known == known_.end() ? "" : id_of(known->second)},
      events, [this, batch](Client::Outcome outcome) {
        batch->outcome = std::move(outcome);
        if (sender_.load() == std::this_thread::get_id()) {
          batch->refused = true;
        } else {
          answered(batch);
        }
      });
  sender_ = std::thread::id{};
  if (!batch->refused) return;
  --under_way_;
  answered_.push_back(batch);
  ready_.notify_one();
}

/// On the client's thread: whoever waits in `append` is woken from here, completions have a thread of their own.
void Appender::answered(const BatchPtr& batch) {
  const bool replicated = replicas_ > 0 && std::holds_alternative<Reply>(batch->outcome);
  tell_losses(*batch);
  if (replicated) batch->reconnects = client_.figures(Purpose::append).reconnects;
  const auto waiting = std::count_if(batch->jobs.begin(), batch->jobs.end(), [](const Job& job) { return job.waits; });
  if (!replicated && waiting != 0) answer(*batch, true, std::nullopt);
  const bool more = replicated || waiting != std::ssize(batch->jobs);
  const std::lock_guard lock(mutex_);
  note_answered(*batch);
  if (more) {
    answered_.push_back(batch);
    ready_.notify_one();
  }
  --under_way_;
  if (!stopping_) send_what_waits();
  room_.notify_all();
}

/// With mutex_ held.
void Appender::note_answered(const Batch& batch) {
  const auto* reply = std::get_if<Reply>(&batch.outcome);
  if (!reply || reply->kind != Reply::Kind::array) return;
  Position& last = known_[batch.stream];
  for (auto answer = reply->items.rbegin(); answer != reply->items.rend(); ++answer) {
    const auto row = stored_row(answer->text);
    if (!row) continue;
    last = std::max(last, Position{row->first.high, row->first.low + row->more});
    return;
  }
}

void Appender::answer_loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    ready_.wait(lock, [this] { return !answered_.empty() || (stopping_ && under_way_ == 0); });
    if (answered_.empty()) return;
    const std::vector<BatchPtr> batches = std::exchange(answered_, {});
    lock.unlock();
    const auto replicas = wait_for_replicas(batches);
    for (const BatchPtr& batch : batches) {
      const bool stored = replicas_ > 0 && std::holds_alternative<Reply>(batch->outcome);
      if (stored || batch->refused) answer(*batch, true, replicas);
      answer(*batch, false, stored ? replicas : std::nullopt);
    }
    lock.lock();
  }
}

/// One `WAIT` for all that was answered: it counts the replicas that have everything written before it was sent.
std::optional<Error> Appender::wait_for_replicas(const std::vector<BatchPtr>& batches) {
  const bool any = std::any_of(batches.begin(), batches.end(),
                               [](const BatchPtr& batch) { return std::holds_alternative<Reply>(batch->outcome); });
  if (replicas_ == 0 || !any) return std::nullopt;
  const Milliseconds patience = client_.url().timeout * 3 / 4;
  std::string native;
  try {
    const Reply reply = client_.call(
        Purpose::append, {"WAIT", std::to_string(replicas_), std::to_string(patience.count())}, Access::read);
    const std::uint64_t reconnects = client_.figures(Purpose::append).reconnects;
    const bool same = std::all_of(batches.begin(), batches.end(), [&](const BatchPtr& batch) {
      return std::holds_alternative<Error>(batch->outcome) || batch->reconnects == reconnects;
    });
    if (same && reply.as_integer() >= static_cast<std::int64_t>(replicas_)) return std::nullopt;
    native = same ? "WAIT answered " + std::to_string(reply.as_integer()) : "the connection was made anew";
  } catch (const Error& error) {
    native = error.what();
  }
  return Error(Errc::outcome_unknown, "append", batches.front()->stream.str(),
               "stored, but fewer than " + std::to_string(replicas_) +
                   " replicas have it; check the replicas, then append it again with the same ids",
               native);
}

void Appender::answer(Batch& batch, bool waiting_ones, const std::optional<Error>& replicas) {
  std::optional<Error> failure = replicas;
  std::vector<AppendResult> results;
  if (const Error* unanswered = std::get_if<Error>(&batch.outcome)) {
    failure = *unanswered;
  } else if (!replicas) {
    try {
      results = results_of(batch);
    } catch (const Error& error) {
      failure = error;
    }
  }
  auto next = results.begin();
  for (Job& job : batch.jobs) {
    const auto begin = next;
    if (!failure) next += static_cast<std::ptrdiff_t>(job.events);
    if (job.waits != waiting_ones) continue;
    if (failure) {
      call(job.done, batch.stream, unshared(*failure));
    } else {
      call(job.done, batch.stream, std::vector<AppendResult>(begin, next));
    }
  }
}

std::vector<AppendResult> Appender::results_of(const Batch& batch) const {
  const std::vector<Reply>& answers = std::get<Reply>(batch.outcome).as_array();
  const Durability reached = durability_of(client_.level());
  std::vector<AppendResult> results;
  results.reserve(batch.events);
  for (std::size_t i = 0; i + 1 < answers.size(); ++i) {
    const std::string_view text = answers[i].as_text();
    if (text == "!") {
      results.push_back({AppendStatus::conflict, std::nullopt, reached});
    } else if (text.starts_with('=')) {
      results.push_back({AppendStatus::duplicate, position_of(text.substr(1), "append's answer"), reached});
    } else if (const auto row = stored_row(text); row && row->more < batch.events) {
      for (std::uint64_t more = 0; more <= row->more; ++more) {
        results.push_back({AppendStatus::stored, Position{row->first.high, row->first.low + more}, reached});
      }
    } else {
      throw Error(Errc::internal, "append", batch.stream.str(), "the append script answered what it never says",
                  answers[i].text);
    }
  }
  if (results.size() != batch.events) {
    throw Error(Errc::internal, "append", batch.stream.str(),
                "the append script answered for other events than it had");
  }
  return results;
}

/// What happened to the stream meanwhile.
void Appender::tell_losses(const Batch& batch) {
  const auto* reply = std::get_if<Reply>(&batch.outcome);
  if (!reply || reply->kind != Reply::Kind::array || reply->items.empty()) return;
  const std::string& news = reply->items.back().text;
  if (news == "made") {
    log::error(
        "stream_lost", batch.stream.str(),
        "the stream was deleted from Redis by somebody else (FLUSHALL?) with everything in it; it was made again");
  } else if (news == "lost") {
    log::error("entries_lost", batch.stream.str(),
               "the stream's key was deleted from Redis by somebody else; what stood in it is lost, new events go on");
  }
}

void Appender::note_known(const StreamName& stream) {
  const std::lock_guard lock(mutex_);
  known_.try_emplace(stream);
}

std::optional<Position> Appender::known(const StreamName& stream) const {
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(stream);
  return found == known_.end() ? std::nullopt : std::optional(found->second);
}

void Appender::stop() {
  std::deque<Job> refused;
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    refused.swap(queue_);
    queued_bytes_ = 0;
    room_.notify_all();
    room_.wait(lock, [this] { return under_way_ == 0; });
    ready_.notify_all();
  }
  for (const Job& job : refused) {
    call(job.done, job.stream, Error(Errc::stopped, "append", job.stream.str(), "the store is being closed"));
  }
  if (answering_.joinable()) answering_.join();
}

}  // namespace millrace::store::redis
