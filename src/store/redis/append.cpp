// SPDX-License-Identifier: Apache-2.0
#include "store/redis/append.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <iterator>
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

void encode(Event* owned, const Event& event, std::vector<std::string>& words) {
  const auto data = event.data ? std::optional<std::string_view>(*event.data) : std::nullopt;
  words.push_back(fmt::format("{:016x}", content_fingerprint(event.type, data)));
  words.push_back(std::to_string(event_bytes(event)));
  const std::size_t count = words.size();
  words.emplace_back();
  const std::string& id = event.id;
  if (2 * event.extensions.size() > kMostWordsOfEvent) {
    throw Error(Errc::too_large, "append", id, "an event on Redis has at most 3000 extensions");
  }
  owned ? encode_fields(std::move(*owned), words) : encode_fields(event, words);
  words[count] = std::to_string(words.size() - count - 1);
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

Appender::Job Appender::job_of(const StreamName& stream, std::span<Event> owned,
                               std::span<const Event> borrowed) const {
  Job job{.stream = stream, .words = {}, .events = borrowed.size(), .done = {}};
  job.words.reserve(borrowed.size() * 20);
  for (const Event& event : borrowed) job.bytes += event_bytes(event);
  for (std::size_t i = 0; i < borrowed.size(); ++i) {
    encode(owned.empty() ? nullptr : &owned[i], borrowed[i], job.words);
  }
  if (job.words.size() > kMostWords) {
    throw Error(Errc::too_large, "append", stream.str(),
                "one append on Redis has at most 1000000 fields and values, this has " +
                    std::to_string(job.words.size()) + "; append fewer events at a time");
  }
  return job;
}

std::vector<AppendResult> Appender::append(const StreamName& stream, std::span<const Event> events) {
  // Shared: whoever sets it may still be at it when the waiting one has gone.
  const auto answered = std::make_shared<std::promise<AppendAnswer>>();
  auto answer = answered->get_future();
  Job job = job_of(stream, {}, events);
  job.waits = true;
  job.done = [answered](AppendAnswer what) { answered->set_value(std::move(what)); };
  post(std::move(job));
  AppendAnswer what = answer.get();
  if (Error* error = std::get_if<Error>(&what)) throw std::move(*error);
  return std::get<std::vector<AppendResult>>(std::move(what));
}

void Appender::append_async(const StreamName& stream, std::vector<Event> events, AppendCompletion done) {
  std::optional<Job> job;
  try {
    job = job_of(stream, events, events);
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
    const auto known = known_.find(batch->stream);
    std::vector<std::string> args{batch->stream.str(), std::to_string(dedup_keep_.count()),
                                  known == known_.end() ? "" : id_of(known->second), ""};
    std::size_t events = 0, bytes = 0, words = 0;
    while (!queue_.empty() && queue_.front().stream == batch->stream) {
      Job& next = queue_.front();
      const bool full = events + next.events > kBatchEvents || bytes + next.bytes > kBatchBytes ||
                        words + next.words.size() > kMostWords;
      if (full && !batch->jobs.empty()) break;
      events += next.events;
      bytes += next.bytes;
      words += next.words.size();
      queued_bytes_ -= next.bytes;
      if (args.size() + next.words.size() > args.capacity()) args.reserve(2 * (args.size() + next.words.size()));
      std::move(next.words.begin(), next.words.end(), std::back_inserter(args));
      next.words.clear();
      batch->jobs.push_back(std::move(next));
      queue_.pop_front();
    }
    args[3] = std::to_string(events);
    room_.notify_all();
    send(batch, std::move(args));
  }
}

void Appender::send(const BatchPtr& batch, std::vector<std::string> args) {
  ++under_way_;
  sender_ = std::this_thread::get_id();
  client_.run_async(Purpose::append, scripts::append,
                    {keys_.log(batch->stream), keys_.stream(batch->stream), keys_.ids(batch->stream),
                     keys_.trimmed(batch->stream), keys_.streams(), keys_.erased(batch->stream)},
                    std::move(args), [this, batch](Client::Outcome outcome) {
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
  if (replicated) batch->reconnects = client_.figures(Purpose::append).reconnects;
  if (!replicated) answer(*batch, true, std::nullopt);
  const bool more =
      replicated || std::any_of(batch->jobs.begin(), batch->jobs.end(), [](const Job& job) { return !job.waits; });
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
    const auto position = parse_id(answer->text);  // of what was stored; other answers are no positions
    if (!position) continue;
    last = std::max(last, *position);
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
  std::size_t first = 0;
  for (Job& job : batch.jobs) {
    const std::size_t begin = first;
    first += job.events;
    if (job.waits != waiting_ones) continue;
    AppendAnswer what;
    if (const Error* failure = std::get_if<Error>(&batch.outcome)) {
      what = *failure;
    } else if (replicas) {
      what = *replicas;
    } else {
      try {
        what = results_of(batch, begin, job.events);
      } catch (const Error& error) {
        what = error;
      }
    }
    call(job.done, batch.stream, std::move(what));
  }
}

std::vector<AppendResult> Appender::results_of(const Batch& batch, std::size_t first, std::size_t count) const {
  const std::vector<Reply>& answers = std::get<Reply>(batch.outcome).as_array();
  if (answers.size() <= first + count) {
    throw Error(Errc::internal, "append", batch.stream.str(),
                "the append script answered for fewer events than it had");
  }
  if (first == 0 && answers.back().as_text() == "made") {
    log::error(
        "stream_lost", batch.stream.str(),
        "the stream was deleted from Redis by somebody else (FLUSHALL?) with everything in it; it was made again");
  } else if (first == 0 && answers.back().as_text() == "lost") {
    log::error("entries_lost", batch.stream.str(),
               "the stream's key was deleted from Redis by somebody else; what stood in it is lost, new events go on");
  }
  const Durability reached = durability_of(client_.level());
  std::vector<AppendResult> results;
  results.reserve(count);
  for (std::size_t i = first; i < first + count; ++i) {
    const std::string_view text = answers[i].as_text();
    AppendResult& result = results.emplace_back();
    result.durability = reached;
    if (text == "!") {
      result.status = AppendStatus::conflict;
    } else if (text.starts_with('=')) {
      result.status = AppendStatus::duplicate;
      result.position = position_of(text.substr(1), "append's answer");
    } else {
      result.position = position_of(text, "append's answer");
    }
  }
  return results;
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
