// SPDX-License-Identifier: Apache-2.0
#include "bare_sqlite.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "workload.hpp"

namespace bench {
namespace {

void check(sqlite3* db, int rc, const char* what) {
  if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
    throw std::runtime_error(std::string("bare SQLite: ") + what + ": " + sqlite3_errmsg(db));
}

void exec(sqlite3* db, const std::string& sql) {
  check(db, sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), sql.c_str());
}

sqlite3* open(const std::string& path) {
  sqlite3* db = nullptr;
  const int rc =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  check(db, rc, "open");
  sqlite3_busy_timeout(db, 10'000);
  return db;
}

std::string table_sql(const Layout& layout) {
  const std::string columns =
      "id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL, subject TEXT, time TEXT, datacontenttype TEXT,"
      " dataschema TEXT, extensions TEXT, data BLOB, stored_at INTEGER NOT NULL";
  const std::string identity = layout.id_first ? "id, source" : "source, id";
  const std::string two_part = "CREATE TABLE event (stream INTEGER NOT NULL DEFAULT 1, position INTEGER NOT NULL, " +
                               columns + ", PRIMARY KEY (stream, position), UNIQUE (stream, " + identity + "))";
  switch (layout.table) {
    case Layout::Table::position_is_rowid:
      return "CREATE TABLE event (position INTEGER PRIMARY KEY, " + columns + ", UNIQUE (" + identity + "))";
    case Layout::Table::without_rowid:
      return two_part + " WITHOUT ROWID";
    case Layout::Table::rowid_and_index:
      return two_part;
  }
  throw std::logic_error("unknown table layout");
}

void bind_text(sqlite3_stmt* statement, int at, const std::string& text) {
  if (text.empty())
    sqlite3_bind_null(statement, at);
  else
    sqlite3_bind_text(statement, at, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
}

}  // namespace

struct BareSqlite::Impl {
  Layout layout;
  std::string path;
  sqlite3* db = nullptr;
  sqlite3_stmt* insert = nullptr;
  std::int64_t position = 0;
  std::vector<double> latencies;
  std::uint64_t largest_wal = 0;

  // Checkpoint::by_thread
  std::thread checkpointer;
  std::mutex mutex;
  std::condition_variable wake;
  bool due = false, stopping = false;

  Impl(const std::string& dir, Layout chosen) : layout(std::move(chosen)), path(dir + "/bare.db") {
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
    db = open(path);
    exec(db, "PRAGMA page_size=" + std::to_string(layout.page_size));
    if (layout.incremental_vacuum) exec(db, "PRAGMA auto_vacuum=INCREMENTAL");
    exec(db, "PRAGMA journal_mode=WAL");
    exec(db, "PRAGMA synchronous=FULL");
    exec(db, "PRAGMA wal_autocheckpoint=" +
                 std::to_string(layout.checkpoint == Layout::Checkpoint::by_writer ? layout.checkpoint_pages : 0));
    if (layout.cache_kib > 0) exec(db, "PRAGMA cache_size=-" + std::to_string(layout.cache_kib));
    exec(db, table_sql(layout));
    check(db,
          sqlite3_prepare_v3(db,
                             "INSERT INTO event (position, stored_at, id, source, type, subject, time, "
                             "datacontenttype, dataschema, extensions, data)"
                             " VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,NULL,?10) ON CONFLICT DO NOTHING",
                             -1, SQLITE_PREPARE_PERSISTENT, &insert, nullptr),
          "prepare");
    if (layout.checkpoint == Layout::Checkpoint::by_thread) {
      sqlite3_wal_hook(
          db,
          [](void* self, sqlite3*, const char*, int pages) {
            auto& impl = *static_cast<Impl*>(self);
            if (pages >= impl.layout.checkpoint_pages) {
              std::lock_guard lock(impl.mutex);
              impl.due = true;
              impl.wake.notify_one();
            }
            return SQLITE_OK;
          },
          this);
      checkpointer = std::thread([this] { run_checkpointer(); });
    }
  }

  ~Impl() {
    if (checkpointer.joinable()) {
      {
        std::lock_guard lock(mutex);
        stopping = true;
        wake.notify_one();
      }
      checkpointer.join();
    }
    sqlite3_finalize(insert);
    sqlite3_close(db);
  }

  // PASSIVE lets the writer go on, but while it writes, the log never ends where the checkpoint does, and so is never
  // started afresh: past four times the limit the writer has to be held for a moment (RESTART).
  void run_checkpointer() {
    sqlite3* own = open(path);
    // A connection that has read nothing does not know yet that the file is in WAL mode: its checkpoints do nothing and
    // say OK.
    exec(own, "PRAGMA schema_version");
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [this] { return due || stopping; });
      if (stopping) break;
      due = false;
      lock.unlock();
      int frames = 0, done = 0;
      sqlite3_wal_checkpoint_v2(own, nullptr, SQLITE_CHECKPOINT_PASSIVE, &frames, &done);
      if (frames > 4 * layout.checkpoint_pages)
        sqlite3_wal_checkpoint_v2(own, nullptr, SQLITE_CHECKPOINT_RESTART, &frames, &done);
      lock.lock();
    }
    sqlite3_close(own);
  }

  void append(std::span<const millrace::Event> events) {
    const auto now =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    exec(db, "BEGIN IMMEDIATE");
    for (const auto& event : events) {
      sqlite3_bind_int64(insert, 1, ++position);
      sqlite3_bind_int64(insert, 2, now);
      bind_text(insert, 3, event.id);
      bind_text(insert, 4, event.source);
      bind_text(insert, 5, event.type);
      bind_text(insert, 6, event.subject);
      bind_text(insert, 7, event.time);
      bind_text(insert, 8, event.datacontenttype);
      bind_text(insert, 9, event.dataschema);
      if (event.data)
        sqlite3_bind_blob(insert, 10, event.data->data(), static_cast<int>(event.data->size()), SQLITE_STATIC);
      else
        sqlite3_bind_null(insert, 10);
      check(db, sqlite3_step(insert), "insert");
      if (sqlite3_changes(db) != 1) throw std::runtime_error("bare SQLite: an event was refused as a duplicate");
      sqlite3_reset(insert);
    }
    exec(db, "COMMIT");
  }
};

BareSqlite::BareSqlite(const std::string& dir, Layout layout) : impl_(std::make_unique<Impl>(dir, std::move(layout))) {}
BareSqlite::~BareSqlite() = default;
std::string BareSqlite::name() const {
  return impl_->layout.label;
}
std::vector<double> BareSqlite::latencies() const {
  return impl_->latencies;
}
std::uint64_t BareSqlite::largest_wal_bytes() const {
  return impl_->largest_wal;
}
std::uint64_t BareSqlite::file_bytes() const {
  return std::filesystem::file_size(impl_->path);
}

double BareSqlite::round(std::span<const millrace::Event> events) {
  const auto start = Clock::now();
  for (std::size_t at = 0; at < events.size(); at += impl_->layout.batch) {
    const auto batch_start = Clock::now();
    impl_->append(events.subspan(at, std::min(impl_->layout.batch, events.size() - at)));
    impl_->latencies.push_back(seconds_since(batch_start));
  }
  const double seconds = seconds_since(start);
  impl_->largest_wal = std::max<std::uint64_t>(impl_->largest_wal, std::filesystem::file_size(impl_->path + "-wal"));
  return seconds;
}

void BareSqlite::verify(std::uint64_t count) {
  Roll roll(count);
  sqlite3_stmt* read = nullptr;
  check(impl_->db, sqlite3_prepare_v2(impl_->db, "SELECT id FROM event ORDER BY position", -1, &read, nullptr),
        "prepare");
  int rc = 0;
  while ((rc = sqlite3_step(read)) == SQLITE_ROW) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(read, 0));
    roll.mark({text, static_cast<std::size_t>(sqlite3_column_bytes(read, 0))});
  }
  check(impl_->db, rc, "read");
  sqlite3_finalize(read);
  roll.check(name());
}

}  // namespace bench
