// SPDX-License-Identifier: Apache-2.0

// One SQLite file as a store: opening, the order in which its parts start and stop, what it counts.

#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/log.hpp"
#include "millrace/store.hpp"
#include "store/sqlite/backup.hpp"
#include "store/sqlite/checkpointer.hpp"
#include "store/sqlite/house.hpp"
#include "store/sqlite/kv.hpp"
#include "store/sqlite/ledger.hpp"
#include "store/sqlite/log.hpp"
#include "store/sqlite/migrate.hpp"
#include "store/sqlite/schema.hpp"
#include "store/url.hpp"

namespace millrace::store {
namespace sqlite {
namespace {

/// What a store learns and notes down when it is opened, before anything else happens to it.
struct Opening {
  std::uint32_t incarnation = 0;
  Timestamp latest{};                                   ///< the latest time anybody recorded
  std::vector<std::pair<std::int64_t, Ordinal>> heads;  ///< of the streams; the note is synced, so they are on disk
};

/// A machine that stopped suddenly may have lost commits that were not synced, and with them the use of positions from
/// the reserved block: go on behind it.
void skip_reserved(Connection& connection) {
  connection.execute(
      "INSERT INTO skipped (stream_id, first, last) "
      "  SELECT id, next_position, reserved_to FROM stream WHERE reserved_to >= next_position; "
      "UPDATE stream SET next_position = reserved_to + 1 WHERE reserved_to >= next_position; "
      "UPDATE stream SET reserved_to = 0 WHERE reserved_to != 0");
}

Opening note_opening(const std::string& path, bool first) {
  Connection connection(path, Connection::Mode::read_write);
  connection.execute("PRAGMA synchronous=FULL; BEGIN IMMEDIATE");
  try {
    refuse_older(format_of(connection), path);
    if (first) skip_reserved(connection);
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'incarnation'");
    Opening opening;
    opening.incarnation =
        static_cast<std::uint32_t>(connection.integer("SELECT value FROM meta WHERE key = 'incarnation'"));
    opening.latest = Timestamp{std::chrono::microseconds{
        connection.integer("SELECT max((SELECT coalesce(max(last_stored_at), 0) FROM stream), "
                           "(SELECT coalesce(max(last_seen), 0) FROM consumer_group), "
                           "(SELECT coalesce(max(claimed_at), 0) FROM claim), "
                           "(SELECT coalesce(max(until - lease_ms * 1000), 0) FROM session))")}};
    {
      auto rows = connection.prepared("SELECT id, next_position - 1 FROM stream").query();
      while (rows.next()) opening.heads.emplace_back(rows.integer(0), rows.number(1));
    }
    connection.execute("COMMIT");
    return opening;
  } catch (const DatabaseError& failure) {
    connection.roll_back();
    if (failure.code() != Errc::internal) throw;
    // Its tables are not there.
    throw Error(Errc::corrupt, "open store", path, std::string(advice_for(Errc::corrupt)), failure.native());
  }
}

Error no_store(const std::string& path) {
  return Error(Errc::not_found, "open store", path,
               "there is no store here; `millrace serve` makes one, and so does `millrace store init`");
}

Error in_use(const std::string& path) {
  return Error(Errc::busy, "open store", path,
               "the file has an older format and is brought up only while nobody uses it; end the tools that have it "
               "open, then retry");
}

/// Of a store that its owner opens; `first` = nobody else has it open.
void bring_up(const std::string& path, bool first) {
  Connection connection(path, Connection::Mode::read_write);
  if (format_of(connection) == kFormatVersion) return;
  if (!first) throw in_use(path);
  const Migration done = migrate(connection);
  log::info("store_migrated", path,
            "the file was brought from format version " + std::to_string(done.from) + " to " + std::to_string(done.to) +
                "; an older Millrace cannot open it any more");
}

class SqliteStore final : public Store {
 public:
  SqliteStore(const std::string& path, std::unique_ptr<LockFile> lock, const Opening& opening,
              const StoreOptions& options)
      : path_(path),
        owner_(options.access == StoreOptions::Access::owner),
        lock_(std::move(lock)),
        min_free_(options.min_free_bytes),
        latest_(opening.latest),
        clock_(opening.latest),
        writer_({path, opening.incarnation, options.min_free_bytes, options.dedup_keep, options.history, opening.heads},
                *lock_, clock_),
        readers_(path),
        log_(writer_, readers_, *lock_, clock_, path),
        ledger_(writer_, readers_),
        kv_(writer_, readers_, clock_),
        checkpointer_(path, writer_) {
    writer_.on_commit([this](std::uint64_t wal_bytes) { checkpointer_.committed(wal_bytes); });
    writer_.on_idle([this](State& state) {
      keep_house(state, owner_);
      const House::Next next = house_.keep(state, writer_.dedup_keep(), owner_);
      if (next == House::Next::moved) checkpointer_.want();
      return next == House::Next::soon;
    });
  }

  /// Separate from the constructor, so that a failure here is followed by an orderly end.
  void start() {
    writer_.start();
    if (!owner_) return;
    renew_leases();
    log_.start_retention();
  }

  ~SqliteStore() override {
    closing_ = true;
    { const std::lock_guard lock(backing_up_); }
    log_.stop_retention();
    try {
      // Open before the others close: with its last connection SQLite forgets how much of the log has been moved, and
      // all of it would be moved once more.
      Connection last(path_, Connection::Mode::read_write);
      (void)last.integer("SELECT count(*) FROM stream");
      stop_parts();
      close(last);
    } catch (const std::exception& failure) {
      // Everything acknowledged is on disk; what was left to do will be done at the next opening.
      log::warn("close_incomplete", path_, failure.what());
    }
    stop_parts();
  }

  EventLog& log() override { return log_; }
  Ledger& ledger() override { return ledger_; }
  KeyValue& kv() override { return kv_; }
  [[nodiscard]] Capabilities capabilities() const override { return {"sqlite", Durability::durable, true, true, true}; }
  [[nodiscard]] std::string describe() const override { return "sqlite:" + path_ + (owner_ ? " (owner)" : " (tool)"); }
  [[nodiscard]] std::vector<Figure> figures() const override;
  void backup(const std::string& to) override;

 private:
  /// Nobody could renew a lease or use a group while the store was away.
  void renew_leases() {
    writer_.call(true, [this](State& state) {
      for (Group* group : state.all_groups()) {
        state.touch(*group, false);
        group->last_seen += std::max(state.now() - latest_, std::chrono::microseconds{0});
        group->state.renew_leases(state.now());
      }
    });
  }

  /// Idempotent.
  void stop_parts() {
    writer_.stop();
    checkpointer_.stop();
    readers_.close_idle();
  }

  void close(Connection& connection) {
    connection.execute("PRAGMA synchronous=FULL");
    if (lock_->is_last() && connection.integer("SELECT count(*) FROM stream WHERE reserved_to != 0") != 0) {
      connection.execute("UPDATE stream SET reserved_to = 0");
    }
    int in_log = 0;
    int moved = 0;
    sqlite3_busy_timeout(connection.handle(), 100);  // readers of other processes may go on
    const int code =
        sqlite3_wal_checkpoint_v2(connection.handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, &in_log, &moved);
    if (code != SQLITE_OK && (code & 0xFF) != SQLITE_BUSY) connection.fail(code, "checkpoint");
  }

  std::string path_;
  bool owner_;
  std::unique_ptr<LockFile> lock_;
  std::uint64_t min_free_;
  std::mutex backing_up_;  ///< one copy at a time
  std::atomic<bool> closing_{false};
  Timestamp latest_;  ///< that anybody recorded before
  StoreClock clock_;
  Writer writer_;
  Readers readers_;
  SqliteLog log_;
  SqliteLedger ledger_;
  SqliteKeyValue kv_;
  Checkpointer checkpointer_;
  House house_;  ///< the writer's
};

void SqliteStore::backup(const std::string& to) {
  const std::unique_lock one(backing_up_, std::try_to_lock);
  if (!one)
    throw Error(Errc::busy, "back up", path_, "another backup of this store is being taken; retry when it is done");
  const std::uint64_t floor = std::min(min_free_, disk_space(path_).total / 20);
  write_backup(path_, to, floor, closing_);
}

std::vector<Store::Figure> SqliteStore::figures() const {
  const WriterFigures writer = writer_.figures();
  const RetentionSchedule::Figures retention = log_.retention_figures();
  const Checkpointer::Figures checkpointer = checkpointer_.figures();
  const auto figure = [](const char* name, const char* help, auto value) {
    return Figure{name, help, static_cast<double>(value)};
  };
  return {
      figure("commits_total", "Commits.", writer.commits),
      figure("synced_commits_total", "Commits that were synced to disk.", writer.synced_commits),
      figure("failed_commits_total", "Commits that failed; their operations were answered so.", writer.failed_commits),
      figure("operations_total", "Operations the writer ran; one commit serves many.", writer.operations),
      figure("appended_events_total", "Events newly stored by this process.", writer.events),
      figure("commit_seconds_total", "Time spent in transactions, syncing included.", writer.commit_seconds),
      figure("queued_operations", "Operations waiting for the writer.", writer.queued),
      figure("wal_bytes", "Length of the write-ahead log after the last commit.", writer.wal_bytes),
      figure("checkpoints_total", "Times the write-ahead log was moved into the file.", checkpointer.checkpoints),
      figure("checkpoint_failures_total", "Checkpoints that failed and will be repeated.", checkpointer.failed),
      figure("checkpoint_pauses_total", "Times writing was held so that a checkpoint could finish.",
             checkpointer.pauses),
      figure("retention_trims_total", "Trims by the retention of a stream.", retention.trims),
      figure("retention_removed_events_total", "Events those removed.", retention.removed_events),
      figure("retention_failures_total", "Trims by retention that failed and will be repeated.", retention.failures),
  };
}

}  // namespace
}  // namespace sqlite

std::unique_ptr<Store> open_sqlite_store(const StoreUrl& url, const StoreOptions& given) {
  using namespace sqlite;
  const StoreOptions options = with_url_options(url, given);
  const std::string& path = url.path;
  const bool missing = inspect_file(path) == FileState::missing;
  if (missing && !options.create) {
    throw no_store(path);
  }
  if (missing) make_directory_of(path);
  auto lock = std::make_unique<LockFile>(path);
  if (options.access == StoreOptions::Access::owner) lock->become_owner();
  if (missing) {
    create_file(path, StoreClock{}.now());
    inspect_file(path);
  }
  const bool first = lock->enter();
  Opening opening;
  {
    const LockFile::Turn turn(*lock);
    if (options.access == StoreOptions::Access::owner) bring_up(path, first);
    opening = note_opening(path, first);
  }
  if (first) lock->let_others_in();
  auto store = std::make_unique<SqliteStore>(path, std::move(lock), opening, options);
  store->start();
  return store;
}

void restore_sqlite_store(const std::string& backup, const StoreUrl& url) {
  with_url_options(url, {});
  sqlite::restore_backup(backup, url.path);
}

Migration migrate_sqlite_store(const StoreUrl& url, bool dry_run) {
  using namespace sqlite;
  with_url_options(url, {});
  if (inspect_file(url.path) == FileState::missing) throw no_store(url.path);
  if (dry_run) {
    Connection connection(url.path, Connection::Mode::read_only);
    return {format_of(connection), kFormatVersion};
  }
  LockFile lock(url.path);
  lock.become_owner();
  if (!lock.enter()) throw in_use(url.path);
  const LockFile::Turn turn(lock);
  Connection connection(url.path, Connection::Mode::read_write);
  return migrate(connection);
}

}  // namespace millrace::store
