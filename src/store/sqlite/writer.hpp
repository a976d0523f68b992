// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The one place of a process that writes, one transaction at a time. Operations queue; its thread takes whatever
/// queued since the last commit, runs them in one transaction, commits, and only then answers all of them. There is no
/// artificial delay: while one commit syncs, the next one's operations gather. A caller that meets the thread asleep
/// and the queue empty runs its own transaction in the thread's place. What is said here of the writer's turn holds for
/// both: never two at once.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "millrace/event_log.hpp"
#include "millrace/types.hpp"
#include "store/sqlite/files.hpp"
#include "store/sqlite/state.hpp"
#include "store/sqlite/watchers.hpp"

namespace millrace::store::sqlite {

/// One call, on its way through the writer.
class Operation {
 public:
  virtual ~Operation() = default;
  /// In the writer's turn, in a transaction: on its thread, or on that of a caller who waits. Throwing an Error (other
  /// than DatabaseError) refuses this operation alone, so it must not have written anything by then.
  virtual void run(State& state) = 0;
  /// After the commit, once. Must not throw. Exactly one of the two is meant: a failure, or the level reached.
  virtual void finish(const Error* failure, Durability reached) noexcept = 0;

  bool durable = true;                 ///< its commit is synced
  bool appends = false;                ///< its answer vouches for events that are already there
  std::size_t bytes = 0;               ///< weight in the queue
  const StreamName* stream = nullptr;  ///< of an append that is not durable,
  std::uint64_t relaxed_events = 0;    ///< and how many positions it may take in a commit that is not synced
  bool refused = false;                ///< run() threw
  std::optional<Error> refusal;
};

struct WriterFigures {
  std::uint64_t commits = 0;
  std::uint64_t synced_commits = 0;
  std::uint64_t failed_commits = 0;
  std::uint64_t operations = 0;
  std::uint64_t events = 0;
  double commit_seconds = 0;
  std::uint64_t queued = 0;
  std::uint64_t wal_bytes = 0;
};

class Writer {
 public:
  struct Options {
    std::string path;
    std::uint32_t incarnation = 0;
    std::uint64_t min_free_bytes = 0;
    std::chrono::seconds dedup_keep{};
    std::chrono::seconds history{};
    std::vector<std::pair<std::int64_t, Ordinal>> durable_heads;  ///< of the streams, on disk already
    std::uint32_t last_id = 0;                                    ///< of the ids given under this incarnation
    std::function<DiskSpace(const std::string& path)> space = &disk_space;
  };
  Writer(const Options& options, LockFile& lock, const StoreClock& clock);
  ~Writer();     ///< stop()
  void start();  ///< after on_commit and on_idle, before any operation
  /// Takes no more, finishes what is queued, answers everything, joins. Idempotent.
  void stop();

  /// Runs `function(State&)` in the writer's turn and returns what it returned, after the commit.
  template <class Function>
  auto call(bool durable, Function function) -> std::invoke_result_t<Function&, State&>;
  /// Waits for an operation that lives on the caller's stack. \throws what refused it or the commit.
  Durability wait_for(Operation& operation);
  /// Blocks only while the queue is full. `finish` is called on the completion thread, in commit order.
  void post(std::unique_ptr<Operation> operation);

  std::unique_ptr<Watch> watch(std::function<void()> changed);
  [[nodiscard]] WriterFigures figures() const;

  /// Everything up to here in the stream of this id was on disk when this was asked. Thread-safe.
  [[nodiscard]] Ordinal durable_to(std::int64_t stream_id) const;

  /// \throws Error{store_full} below the disk floor. In the writer's turn.
  void check_space(std::size_t bytes);
  [[nodiscard]] std::chrono::seconds dedup_keep() const { return options_.dedup_keep; }

  /// Keeps the writer between two transactions while it lives, so that a checkpoint can catch up with it.
  class Pause {
   public:
    explicit Pause(Writer& writer);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Writer& writer_;
  };
  /// Keeps the writer from its next transaction until as many calls of resume(). Waits for nothing, so that whoever
  /// has the writer's turn may call it.
  void hold();
  void resume();
  /// After a sync outside the writer failed: what it covered may be missing from the disk, whatever later syncs say.
  void distrust_log() { log_distrusted_ = true; }
  /// Called after commits, in the writer's turn, with the size of the write-ahead log. Set before start().
  void on_commit(std::function<void(std::uint64_t wal_bytes)> callback) { on_commit_ = std::move(callback); }
  /// Called about once a second while nothing is queued, and at least every ten seconds; soon again when it says that
  /// there is more to do. On the writer thread.
  void on_idle(std::function<bool(State&)> housekeeping) { housekeeping_ = std::move(housekeeping); }

 private:
  struct Queued {
    Operation* operation;
    std::unique_ptr<Operation> owned;  ///< of post()
  };

  void enqueue(Queued queued);
  bool run_at_once(Operation& operation);
  void run();
  std::vector<Queued> take();
  bool transact(std::vector<Queued>& batch);
  bool begin(const std::vector<Queued>& batch, bool durable);
  void reserve(const std::vector<Queued>& batch);
  static void run_operations(std::vector<Queued>& batch, State& state);
  void commit();
  void note_durable(const std::vector<std::pair<std::int64_t, Ordinal>>& heads);
  void open();
  void set_synchronous(bool full);
  void renew_log();
  void renew_ids();
  void give_up(std::vector<Queued>& batch, const Error& error);
  static std::size_t bytes_of(const std::vector<Queued>& batch);
  void answer(std::vector<Queued> batch, Durability reached);
  void run_completions();
  void tell_watchers();
  void look_for_others();
  void keep_house();

  Options options_;
  LockFile& lock_;
  const StoreClock& clock_;
  std::function<void(std::uint64_t)> on_commit_;
  std::function<bool(State&)> housekeeping_;

  // In the writer's turn only.
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<State> state_;
  bool synchronous_full_ = true;
  bool connection_lost_ = false;
  std::uint32_t last_id_;  ///< of the State before a connection was lost
  std::uint64_t page_size_ = 0;
  std::uint64_t wal_bytes_ = 0;
  std::int64_t seen_version_ = -1;  ///< of what watchers were told
  bool unsynced_ = true;            ///< commits may be in the file that no sync covers
  std::uint64_t bytes_since_space_check_ = 0;
  std::chrono::steady_clock::time_point space_checked_{};
  std::uint64_t space_free_ = 0;
  std::uint64_t space_floor_ = 0;
  std::chrono::steady_clock::time_point house_kept_{};
  bool more_housework_ = false;

  mutable std::mutex mutex_;
  std::condition_variable wake_writer_;
  std::condition_variable room_;
  std::condition_variable paused_;
  std::deque<Queued> queue_;
  std::size_t queued_bytes_ = 0;
  std::size_t unanswered_operations_ = 0;  ///< run, but their completions have not been called
  std::size_t unanswered_bytes_ = 0;
  bool stopping_ = false;
  int pauses_ = 0;
  bool in_transaction_ = false;  ///< of the writer, or of a caller in its place
  bool writer_waits_ = false;
  WriterFigures figures_;

  std::mutex completion_mutex_;
  std::condition_variable wake_completion_;
  std::deque<std::pair<std::vector<Queued>, Durability>> completions_;
  bool completions_end_ = false;
  bool to_tell_ = false;  ///< the watchers

  mutable std::mutex durable_mutex_;
  std::unordered_map<std::int64_t, Ordinal> durable_to_;  ///< by stream id; only grows

  Watchers watchers_;
  std::atomic<bool> log_distrusted_{false};

  std::thread completion_thread_;
  std::thread::id completion_id_;  ///< set once, before any operation
  std::thread thread_;
};

template <class Function>
auto Writer::call(bool durable, Function function) -> std::invoke_result_t<Function&, State&> {
  using Result = std::invoke_result_t<Function&, State&>;
  class Call final : public Operation {
   public:
    explicit Call(Function& function) : function_(function) {}
    void run(State& state) override {
      if constexpr (std::is_void_v<Result>) {
        function_(state);
      } else {
        result.emplace(function_(state));
      }
    }
    void finish(const Error*, Durability) noexcept override {}
    std::optional<std::conditional_t<std::is_void_v<Result>, bool, Result>> result;

   private:
    Function& function_;
  };
  Call operation(function);
  operation.durable = durable;
  wait_for(operation);
  if constexpr (!std::is_void_v<Result>) return std::move(*operation.result);
}

}  // namespace millrace::store::sqlite
