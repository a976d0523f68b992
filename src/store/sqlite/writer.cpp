// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/writer.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <unordered_map>

#include "base/log.hpp"

namespace millrace::store::sqlite {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kQueueOperations = 64 * 1024;
constexpr std::size_t kQueueBytes = 64 << 20;
constexpr std::size_t kCommitOperations = 4096;
constexpr std::size_t kCommitBytes = 16 << 20;
/// Positions reserved at once for commits that are not synced.
constexpr std::uint64_t kReserve = 100'000;
constexpr std::uint32_t kRenewIdsFrom = 0xF000'0000;
constexpr std::chrono::milliseconds kLookForOthers{50};
constexpr std::chrono::seconds kIdle{1};
constexpr std::chrono::seconds kHouseAtLeast{10};
constexpr std::chrono::milliseconds kHouseAgain{50};
constexpr std::uint64_t kSpaceBytes = 64 << 20;
constexpr std::chrono::seconds kSpaceEvery{1};
/// Up to so many waiting callers are woken by the writer itself; more would keep it from the next commit.
constexpr std::size_t kAnswerInline = 8;

Error stopped() {
  return Error(Errc::stopped, "use store", "sqlite", "the store is being closed");
}

/// An operation whose caller waits.
class Blocking final : public Operation {
 public:
  explicit Blocking(Operation& inner) : inner_(inner) {
    durable = inner.durable;
    appends = inner.appends;
    bytes = inner.bytes;
    stream = inner.stream;
    relaxed_events = inner.relaxed_events;
  }
  void run(State& state) override { inner_.run(state); }
  void finish(const Error* failure, Durability reached) noexcept override {
    const std::lock_guard lock(mutex_);
    if (failure) failure_ = *failure;
    reached_ = reached;
    done_ = true;
    finished_.notify_one();  // under the lock: the waiter destroys this object as soon as it can take it
  }
  Durability wait() {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return done_; });
    if (failure_) throw *failure_;
    return reached_;
  }

 private:
  Operation& inner_;
  std::mutex mutex_;
  std::condition_variable finished_;
  bool done_ = false;
  std::optional<Error> failure_;
  Durability reached_ = Durability::relaxed;
};

}  // namespace

Writer::Writer(const Options& options, LockFile& lock, const StoreClock& clock)
    : options_(options), lock_(lock), clock_(clock), last_id_(options.last_id) {
  note_durable(options.durable_heads);
  open();
}

void Writer::start() {
  completion_thread_ = std::thread([this] { run_completions(); });
  completion_id_ = completion_thread_.get_id();
  thread_ = std::thread([this] { run(); });
}

Writer::~Writer() {
  stop();
}

void Writer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_writer_.notify_all();
  room_.notify_all();
  if (thread_.joinable()) thread_.join();
  {
    const std::lock_guard lock(completion_mutex_);
    completions_end_ = true;
  }
  wake_completion_.notify_all();
  if (completion_thread_.joinable()) completion_thread_.join();
  state_.reset();
  connection_.reset();
}

void Writer::open() {
  auto connection = std::make_unique<Connection>(options_.path, Connection::Mode::read_write);
  connection->execute(
      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-32768; "
      "PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=-1; PRAGMA secure_delete=ON");
  page_size_ = static_cast<std::uint64_t>(connection->integer("PRAGMA page_size"));
  synchronous_full_ = true;
  unsynced_ = true;
  connection_ = std::move(connection);  // only now: a connection that is there can be worked with
  struct Hook {
    static int call(void* self, sqlite3*, const char*, int pages) {
      auto& writer = *static_cast<Writer*>(self);
      writer.wal_bytes_ = static_cast<std::uint64_t>(pages) * writer.page_size_;
      return SQLITE_OK;
    }
  };
  sqlite3_wal_hook(connection_->handle(), &Hook::call, this);  // also switches automatic checkpoints off
  state_ = std::make_unique<State>(*connection_, clock_, options_.incarnation, last_id_, options_.history);
}

// ---- The queue ----

void Writer::enqueue(Queued queued) {
  const std::size_t bytes = queued.operation->bytes;
  std::unique_lock lock(mutex_);
  // Completions may queue operations, and only their thread makes room among the answers: it must not wait for itself.
  const bool completing = std::this_thread::get_id() == completion_id_;
  room_.wait(lock, [&] {
    const bool room = queue_.empty() || (queue_.size() < kQueueOperations && queued_bytes_ + bytes <= kQueueBytes);
    const bool heard = unanswered_operations_ < kQueueOperations && unanswered_bytes_ <= kQueueBytes;
    return stopping_ || completing || (room && heard);
  });
  if (stopping_) {
    lock.unlock();
    const Error error = stopped();
    queued.operation->finish(&error, Durability::relaxed);
    return;
  }
  queued_bytes_ += bytes;
  queue_.push_back(std::move(queued));
  if (std::exchange(writer_waits_, false)) wake_writer_.notify_one();  // under the lock: see run_at_once
}

Durability Writer::wait_for(Operation& operation) {
  Blocking blocking(operation);
  if (!run_at_once(blocking)) enqueue({&blocking, nullptr});
  return blocking.wait();
}

/// Two switches of threads are a good part of what one publisher alone waits for, so with the writer asleep and nothing
/// queued the caller takes its place for one transaction.
bool Writer::run_at_once(Operation& operation) {
  // Made before anything is marked: nothing may throw between there and the transaction.
  std::vector<Queued> batch;
  batch.push_back({&operation, nullptr});
  std::unique_lock lock(mutex_);
  if (!writer_waits_ || in_transaction_ || !queue_.empty() || stopping_ || pauses_ != 0) return false;
  in_transaction_ = true;
  lock.unlock();
  const bool changed = transact(batch);
  lock.lock();
  in_transaction_ = false;
  // Under the lock: as soon as it is free the writer may end, and the store with it.
  paused_.notify_all();
  if (changed) tell_watchers();
  return true;
}

void Writer::post(std::unique_ptr<Operation> operation) {
  Operation* raw = operation.get();
  enqueue({raw, std::move(operation)});
}

std::vector<Writer::Queued> Writer::take() {
  std::vector<Queued> batch;
  std::size_t bytes = 0;
  while (!queue_.empty() && batch.size() < kCommitOperations &&
         (batch.empty() || bytes + queue_.front().operation->bytes <= kCommitBytes)) {
    bytes += queue_.front().operation->bytes;
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  queued_bytes_ -= bytes;
  return batch;
}

void Writer::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    if (queue_.empty() && !stopping_) {
      writer_waits_ = true;
      const auto patience = watchers_.any() || more_housework_ ? std::chrono::milliseconds(kLookForOthers)
                                                               : std::chrono::milliseconds(kIdle);
      // Whoever wakes it takes the flag down: without that in the condition, a new watcher's wake would leave it asleep
      // with the flag down, and the next operation would not wake it at all.
      wake_writer_.wait_for(lock, patience, [&] { return !queue_.empty() || stopping_ || !writer_waits_; });
      writer_waits_ = false;
    }
    if (queue_.empty() && stopping_ && !in_transaction_) return;
    paused_.wait(lock, [&] { return pauses_ == 0 && !in_transaction_; });
    in_transaction_ = true;
    std::vector<Queued> batch = take();
    const bool idle = batch.empty();
    lock.unlock();
    room_.notify_all();
    if (!idle && transact(batch)) tell_watchers();
    const auto since = Clock::now() - house_kept_;
    if (since >= kHouseAtLeast || (idle && since >= kIdle) || (more_housework_ && since >= kHouseAgain)) keep_house();
    if (idle && watchers_.any()) look_for_others();
    lock.lock();
    in_transaction_ = false;
    paused_.notify_all();
  }
}

Writer::Pause::Pause(Writer& writer) : writer_(writer) {
  std::unique_lock lock(writer_.mutex_);
  ++writer_.pauses_;
  writer_.paused_.wait(lock, [&] { return !writer_.in_transaction_; });
}

Writer::Pause::~Pause() {
  writer_.resume();
}

void Writer::hold() {
  const std::lock_guard lock(mutex_);
  ++pauses_;
}

void Writer::resume() {
  {
    const std::lock_guard lock(mutex_);
    --pauses_;
  }
  paused_.notify_all();
}

// ---- One transaction ----

void Writer::set_synchronous(bool full) {
  if (full == synchronous_full_) return;
  connection_->execute(full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
  synchronous_full_ = full;
}

/// A failed sync may have dropped pages that later syncs no longer know of, and a hole in the log ends it: everything
/// behind the hole would be lost with the machine, however often it was synced. What the log holds is therefore written
/// anew, into the file, and the log begins from nothing.
void Writer::renew_log() {
  if (!log_distrusted_) return;
  const int code =
      sqlite3_wal_checkpoint_v2(connection_->handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  if (code != SQLITE_OK) {
    throw Error(Errc::unavailable, "write", options_.path,
                "a sync failed earlier, and the log of commits cannot be renewed yet; nothing was written; retry, and "
                "check the disk",
                native_name(code));
  }
  log_distrusted_ = false;
}

/// Ids (of claims and sessions) are the incarnation and a counter of 32 bits. Before that runs out, which takes a busy
/// process days, it goes on under a new incarnation; recorded and synced first, so that no id is ever given twice.
void Writer::renew_ids() {
  if (state_->last_id() < kRenewIdsFrom) return;
  set_synchronous(true);
  connection_->prepared("BEGIN IMMEDIATE").run();
  connection_->prepared("UPDATE meta SET value = value + 1 WHERE key = 'incarnation'").run();
  const std::int64_t incarnation = connection_->integer("SELECT value FROM meta WHERE key = 'incarnation'");
  commit();
  options_.incarnation = static_cast<std::uint32_t>(incarnation);
  last_id_ = 0;
  state_ = std::make_unique<State>(*connection_, clock_, options_.incarnation, last_id_, options_.history);
}

/// False when positions must be reserved first, which takes a synced commit; then nothing was begun.
bool Writer::begin(const std::vector<Queued>& batch, bool durable) {
  set_synchronous(durable);
  connection_->prepared("BEGIN IMMEDIATE").run();
  state_->begin();
  if (state_->others_committed()) unsynced_ = true;
  if (durable) return true;
  std::unordered_map<StreamName, std::uint64_t> wanted;
  for (const Queued& queued : batch) {
    if (queued.operation->stream) wanted[*queued.operation->stream] += queued.operation->relaxed_events;
  }
  for (const auto& [name, events] : wanted) {
    const StreamState* stream = state_->find_stream(name);
    if (stream && stream->head() + events > stream->reserved_to) {
      connection_->roll_back();
      return false;
    }
  }
  return true;
}

/// Positions handed out in commits that are not synced must never be handed out again: a synced commit says so first.
void Writer::reserve(const std::vector<Queued>& batch) {
  set_synchronous(true);
  connection_->prepared("BEGIN IMMEDIATE").run();
  state_->begin();
  for (const Queued& queued : batch) {
    StreamState* stream = queued.operation->stream ? state_->find_stream(*queued.operation->stream) : nullptr;
    if (!stream) continue;
    stream->reserved_to = std::max(stream->reserved_to, stream->head() + kReserve) + queued.operation->relaxed_events;
    stream->dirty = true;
  }
  state_->flush();
  commit();
}

void Writer::run_operations(std::vector<Queued>& batch, State& state) {
  for (Queued& queued : batch) {
    try {
      queued.operation->run(state);
    } catch (const DatabaseError&) {
      throw;
    } catch (const Error& error) {
      queued.operation->refused = true;
      queued.operation->refusal = error;
    }
  }
}

/// True when watchers are to be told.
bool Writer::transact(std::vector<Queued>& batch) {
  bool durable = std::any_of(batch.begin(), batch.end(), [](const Queued& q) { return q.operation->durable; });
  const bool vouches = std::any_of(batch.begin(), batch.end(),
                                   [](const Queued& q) { return q.operation->appends && q.operation->durable; });
  const auto started = Clock::now();
  bool wrote = false;
  bool changed = false;
  std::uint64_t events = 0;
  try {
    const LockFile::Turn turn(lock_);
    if (!connection_) open();
    renew_log();
    renew_ids();
    if (!begin(batch, durable)) {
      reserve(batch);
      begin(batch, durable);
    }
    const std::int64_t before = connection_->total_changes();
    run_operations(batch, *state_);
    state_->flush();
    wrote = state_->written() || connection_->total_changes() != before;
    if (!wrote && vouches && unsynced_) {
      // A duplicate is answered as durable: what it repeats may so far only be in the page cache.
      connection_->prepared("UPDATE meta SET value = value + 1 WHERE key = 'syncs'").run();
      wrote = true;
    }
    const auto heads = wrote && durable ? state_->heads() : std::vector<std::pair<std::int64_t, Ordinal>>{};
    wrote ? commit() : connection_->roll_back();
    note_durable(heads);
    if (wrote) unsynced_ = !durable;
    changed = state_->woke() || state_->events_appended() != 0 || state_->others_committed();
    events = state_->events_appended();
  } catch (const Error& error) {
    give_up(batch, error);
    return false;
  } catch (const std::exception& failure) {
    give_up(batch, Error(Errc::unavailable, "write", options_.path, "nothing was written; retry", failure.what()));
    return false;
  }
  if (wrote && on_commit_) on_commit_(wal_bytes_);
  {
    const std::lock_guard lock(mutex_);
    figures_.operations += batch.size();
    figures_.wal_bytes = wal_bytes_;
    if (wrote) {
      ++figures_.commits;
      if (durable) ++figures_.synced_commits;
      figures_.events += events;
      figures_.commit_seconds += std::chrono::duration<double>(Clock::now() - started).count();
    }
  }
  answer(std::move(batch), unsynced_ ? Durability::relaxed : Durability::durable);
  return changed;
}

void Writer::commit() {
  try {
    connection_->prepared("COMMIT").run();
  } catch (const DatabaseError& failure) {
    const Errc code = commit_errc_of(failure.native_code());
    const Error error(code, "commit", options_.path, std::string(advice_for(code)), failure.native());
    if (code == Errc::outcome_unknown) {
      // After a failed sync nothing this connection remembers is certain: begin again from the file.
      state_->forget();
      connection_lost_ = true;
      log_distrusted_ = true;
    }
    throw error;
  }
}

void Writer::note_durable(const std::vector<std::pair<std::int64_t, Ordinal>>& heads) {
  if (heads.empty()) return;
  const std::lock_guard lock(durable_mutex_);
  for (const auto& [stream_id, head] : heads) {
    Ordinal& durable = durable_to_[stream_id];
    durable = std::max(durable, head);
  }
}

Ordinal Writer::durable_to(std::int64_t stream_id) const {
  const std::lock_guard lock(durable_mutex_);
  const auto found = durable_to_.find(stream_id);
  return found == durable_to_.end() ? 0 : found->second;
}

void Writer::give_up(std::vector<Queued>& batch, const Error& error) {
  if (connection_) connection_->roll_back();
  if (state_) state_->forget();
  unsynced_ = true;
  if (connection_lost_) {
    connection_lost_ = false;
    last_id_ = state_->last_id();
    state_.reset();  // its statements belong to the connection
    connection_.reset();
  }
  // The callers are told; these also concern whoever keeps the machine.
  if (error.code() == Errc::outcome_unknown || error.code() == Errc::corrupt || error.code() == Errc::internal) {
    log::write(log::Level::error, error);
  }
  {
    const std::lock_guard lock(mutex_);
    ++figures_.failed_commits;
  }
  for (Queued& queued : batch) {
    if (queued.operation->refused) continue;
    queued.operation->refused = true;
    queued.operation->refusal = Error(error);
  }
  answer(std::move(batch), Durability::relaxed);
}

// ---- Answers ----

std::size_t Writer::bytes_of(const std::vector<Queued>& batch) {
  std::size_t bytes = 0;
  for (const Queued& queued : batch) bytes += queued.operation->bytes;
  return bytes;
}

void Writer::answer(std::vector<Queued> batch, Durability reached) {
  const bool owned = std::any_of(batch.begin(), batch.end(), [](const Queued& q) { return q.owned != nullptr; });
  if (!owned && batch.size() <= kAnswerInline) {
    for (Queued& queued : batch) {
      Operation& operation = *queued.operation;
      operation.finish(operation.refused ? &*operation.refusal : nullptr, reached);
    }
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    unanswered_operations_ += batch.size();
    unanswered_bytes_ += bytes_of(batch);
  }
  {
    const std::lock_guard lock(completion_mutex_);
    completions_.emplace_back(std::move(batch), reached);
  }
  wake_completion_.notify_one();
}

void Writer::run_completions() {
  std::unique_lock lock(completion_mutex_);
  while (true) {
    wake_completion_.wait(lock, [&] { return completions_end_ || to_tell_ || !completions_.empty(); });
    if (std::exchange(to_tell_, false)) {
      lock.unlock();
      watchers_.tell();
      lock.lock();
      continue;
    }
    if (completions_.empty()) return;
    auto [batch, reached] = std::move(completions_.front());
    completions_.pop_front();
    lock.unlock();
    const std::size_t operations = batch.size();
    const std::size_t bytes = bytes_of(batch);
    for (Queued& queued : batch) {
      Operation& operation = *queued.operation;
      operation.finish(operation.refused ? &*operation.refusal : nullptr, reached);
    }
    batch.clear();
    {
      const std::lock_guard answered(mutex_);
      unanswered_operations_ -= operations;
      unanswered_bytes_ -= bytes;
    }
    room_.notify_all();
    lock.lock();
  }
}

// ---- Watchers ----

/// By a thread that no commit waits for: who publishes may hold what they wait for.
void Writer::tell_watchers() {
  if (!watchers_.any()) return;
  {
    const std::lock_guard lock(completion_mutex_);
    to_tell_ = true;
  }
  wake_completion_.notify_one();
}

std::unique_ptr<Watch> Writer::watch(std::function<void()> changed) {
  auto handle = watchers_.add(std::move(changed));
  {
    const std::lock_guard lock(mutex_);
    writer_waits_ = false;
  }
  wake_writer_.notify_one();  // it may be waiting with the patience of a store nobody watches
  return handle;
}

void Writer::look_for_others() {
  if (!connection_) return;
  try {
    const std::int64_t version = connection_->integer("PRAGMA data_version");
    if (std::exchange(seen_version_, version) != version) tell_watchers();
  } catch (const Error& error) {
    log::write(log::Level::warn, error);
  }
}

// ---- Upkeep ----

void Writer::keep_house() {
  house_kept_ = Clock::now();
  if (!housekeeping_) return;
  class Housekeeping final : public Operation {
   public:
    Housekeeping(const std::function<bool(State&)>& function, bool& more) : function_(function), more_(more) {
      durable = false;
    }
    void run(State& state) override { more_ = function_(state); }
    void finish(const Error* failure, Durability) noexcept override {
      if (failure) log::write(log::Level::warn, *failure);
    }

   private:
    const std::function<bool(State&)>& function_;
    bool& more_;
  };
  more_housework_ = false;
  std::vector<Queued> batch;
  auto operation = std::make_unique<Housekeeping>(housekeeping_, more_housework_);
  Operation* raw = operation.get();
  batch.push_back({raw, std::move(operation)});
  if (transact(batch)) tell_watchers();
}

void Writer::check_space(std::size_t bytes) {
  if (options_.min_free_bytes == 0) return;
  bytes_since_space_check_ += bytes;
  const auto now = Clock::now();
  if (space_floor_ == 0 || bytes_since_space_check_ > kSpaceBytes || now - space_checked_ > kSpaceEvery) {
    const DiskSpace space = options_.space(options_.path);
    space_free_ = space.free;
    space_floor_ = std::max<std::uint64_t>(1, std::min(options_.min_free_bytes, space.total / 20));
    bytes_since_space_check_ = 0;
    space_checked_ = now;
  }
  if (space_free_ < space_floor_) {
    throw Error(Errc::store_full, "append", options_.path,
                "only " + std::to_string(space_free_ >> 20) +
                    " MiB are free where the store lies, less than the floor of " + std::to_string(space_floor_ >> 20) +
                    " MiB (min_free); free space or trim, then retry");
  }
}

WriterFigures Writer::figures() const {
  const std::lock_guard lock(mutex_);
  WriterFigures figures = figures_;
  figures.queued = queue_.size();
  return figures;
}

}  // namespace millrace::store::sqlite
