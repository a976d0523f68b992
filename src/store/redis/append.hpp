// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The way of appends to Redis. What comes while a script call is under way is sent together in the next one: thousands
/// of publishers share a round trip, and nobody waits for company.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "millrace/event_log.hpp"
#include "store/redis/client.hpp"
#include "store/redis/keys.hpp"

namespace millrace::store::redis {

/// What a level is called in answers. Of a server that does not say, nothing is promised.
Durability durability_of(Level level) noexcept;

/// Thread-safe.
class Appender {
 public:
  Appender(Client& client, std::chrono::seconds dedup_keep);
  ~Appender();  ///< stop()
  Appender(const Appender&) = delete;
  Appender& operator=(const Appender&) = delete;

  /// As EventLog::append and append_async.
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events);
  void append_async(const StreamName& stream, std::vector<Event> events, AppendCompletion done);

  /// The stream is there: when it is not any more, somebody deleted it (FLUSHALL), and the next append makes it again
  /// instead of refusing for ever.
  void note_known(const StreamName& stream);
  /// The last position this process stored there, or 0-0; nullopt when it does not know the stream.
  [[nodiscard]] std::optional<Position> known(const StreamName& stream) const;

  /// Takes no more, answers what is queued with {stopped}, waits for what was sent. Idempotent. Not from a completion.
  void stop();

 private:
  /// Events that have the same fields, ready to be sent. What they are called is told once.
  struct Run {
    EncodedWords names;
    std::size_t events = 0;
    EncodedWords words = {};  ///< of each event: fingerprint, weight, values
  };
  /// One append.
  struct Job {
    StreamName stream;
    std::vector<Run> runs = {};
    std::size_t events = 0;
    std::size_t bytes = 0;
    std::size_t words = 0;  ///< in all of them
    AppendCompletion done = {};
    bool waits = false;  ///< a caller waits: `done` only wakes it, and needs no thread of its own
  };
  /// One script call: appends to one stream, in order.
  struct Batch {
    StreamName stream;
    std::vector<Job> jobs;
    std::size_t events = 0;
    Client::Outcome outcome = Reply{};
    std::uint64_t reconnects = 0;  ///< of the connection, when it was answered
    bool refused = false;          ///< by the client, before it was sent
  };
  using BatchPtr = std::shared_ptr<Batch>;

  static Job job_of(const StreamName& stream, std::span<const Event> events);
  static void encode(const Event& event, Job& job);
  static EncodedWords joined(const std::vector<Job>& jobs);
  void post(Job job);
  void send_what_waits();  ///< with mutex_ held
  void send(const BatchPtr& batch);
  void answered(const BatchPtr& batch);
  void note_answered(const Batch& batch);
  static void tell_losses(const Batch& batch);
  void answer_loop();
  [[nodiscard]] std::optional<Error> wait_for_replicas(const std::vector<BatchPtr>& batches);
  void answer(Batch& batch, bool waiting_ones, const std::optional<Error>& replicas);
  [[nodiscard]] std::vector<AppendResult> results_of(const Batch& batch) const;

  Client& client_;
  const Keys keys_;
  const std::chrono::seconds dedup_keep_;
  const unsigned replicas_;

  mutable std::mutex mutex_;
  std::condition_variable room_;   ///< in the queue, or nothing is under way any more
  std::condition_variable ready_;  ///< for the answering thread
  std::deque<Job> queue_;
  std::size_t queued_bytes_ = 0;
  std::size_t under_way_ = 0;
  std::atomic<std::thread::id> sender_{};  ///< the thread that hands a call to the client, with mutex_ held
  std::vector<BatchPtr> answered_;
  std::map<StreamName, Position> known_;  ///< and the last position stored there
  bool stopping_ = false;
  std::thread answering_;  ///< calls completions, so that those never hold up the client's thread
};

}  // namespace millrace::store::redis
