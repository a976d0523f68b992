// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/backup.hpp"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <vector>

#include "base/time.hpp"
#include "store/sqlite/files.hpp"
#include "store/sqlite/migrate.hpp"
#include "store/sqlite/schema.hpp"
#include "store/sqlite/state.hpp"

namespace millrace::store::sqlite {
namespace {

namespace fs = std::filesystem;

constexpr int kPagesPerStep = 1024;
/// The copy is synced as it grows: one sync of all of it would keep the writer's syncs waiting.
constexpr std::uint64_t kSyncEvery = 32 << 20;
/// While the copy is taken the log of commits cannot begin anew. One that outgrows the store by this much means that
/// commits come faster than the copy gets on.
constexpr std::uint64_t kMostLog = 1ULL << 30;
/// How far the numbers go on that a store counts besides positions: of its openings and of its keys' versions.
constexpr std::int64_t kOpeningsGap = 1'000'000;
constexpr std::int64_t kVersionsGap = 1'000'000'000;

std::string folder_of(const std::string& path) {
  const std::string folder = fs::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::uint64_t size_of(const std::string& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : size;
}

bool same_disk(const std::string& a, const std::string& b) {
  struct stat first {};
  struct stat second {};
  return ::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0 && first.st_dev == second.st_dev;
}

std::string mebibytes(std::uint64_t bytes) {
  return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

/// \param keep_free what must be left where `to` lies
void check_room(const std::string& operation, const std::string& to, std::uint64_t bytes, std::uint64_t keep_free) {
  const DiskSpace space = disk_space(folder_of(to));
  if (space.free >= bytes + keep_free) return;
  throw Error(Errc::store_full, operation, to,
              "the copy takes " + mebibytes(bytes) + ", and only " + mebibytes(space.free) + " are free there" +
                  (keep_free == 0 ? "" : ", of which " + mebibytes(keep_free) + " are kept for the store (min_free)") +
                  "; free space, or name a place on another disk");
}

void check_new(const std::string& operation, const std::string& to) {
  std::error_code error;
  const auto status = fs::symlink_status(to, error);
  if (status.type() == fs::file_type::not_found) {
    if (fs::is_directory(folder_of(to), error)) return;
    throw Error(Errc::not_found, operation, to, "its directory is not there; make it first");
  }
  if (error) {
    throw Error(Errc::permission_denied, operation, to, "cannot look at the place; check its directory's permissions",
                error.message());
  }
  throw Error(Errc::already_exists, operation, to, "there is a file of this name; name one that does not exist");
}

/// Runs the copy in steps. The snapshot of `from` is the one its open transaction has.
void copy_pages(Connection& from, Connection& to, Draft& draft, std::uint64_t keep_free,
                const std::atomic<bool>& stopping) {
  struct Finish {
    void operator()(sqlite3_backup* backup) const { sqlite3_backup_finish(backup); }
  };
  const std::unique_ptr<sqlite3_backup, Finish> backup(sqlite3_backup_init(to.handle(), "main", from.handle(), "main"));
  if (!backup) to.fail(sqlite3_errcode(to.handle()), "back up");
  const std::string log = from.path() + "-wal";
  const std::uint64_t most_log = size_of(from.path()) + kMostLog;
  const std::uint64_t page_size = static_cast<std::uint64_t>(from.integer("PRAGMA page_size"));
  std::uint64_t unsynced = 0;
  while (true) {
    const int code = sqlite3_backup_step(backup.get(), kPagesPerStep);
    if (code == SQLITE_DONE) return;
    if (code != SQLITE_OK) throw DatabaseError(code, "back up", draft.path(), sqlite3_errstr(code));
    if (stopping) throw Error(Errc::stopped, "back up", from.path(), "the store is being closed");
    unsynced += kPagesPerStep * page_size;
    if (unsynced < kSyncEvery) continue;
    unsynced = 0;
    draft.sync();
    if (size_of(log) > most_log) {
      throw Error(Errc::unavailable, "back up", from.path(),
                  "commits come faster than the copy gets on, and their log grew to " + mebibytes(size_of(log)) +
                      "; nothing was left behind; retry with less load, or to a faster disk");
    }
    if (keep_free != 0 && disk_space(from.path()).free < keep_free) {
      throw Error(Errc::store_full, "back up", from.path(),
                  "the store's own disk fell to its floor (min_free) meanwhile; nothing was left behind; free space");
    }
  }
}

/// What is to be a store must not be found beside the log of another: SQLite would replay it.
void check_no_store(const std::string& path) {
  for (const char* suffix : {"", "-wal", "-journal"}) {
    std::error_code error;
    const std::string file = path + suffix;
    const auto type = fs::symlink_status(file, error).type();
    if (type == fs::file_type::not_found) continue;
    if (type == fs::file_type::none) {
      throw Error(Errc::permission_denied, "restore", file, "cannot look at the place; check its permissions",
                  error.message());
    }
    throw Error(Errc::already_exists, "restore", file,
                "a store (or a part of one) is there already; move it away, or name another place");
  }
}

/// A store that is closed serves as a backup. One that is open may change while it is copied, and reading its file in
/// the process that has it open would drop its locks.
void check_closed(const std::string& backup) {
  const char* const kTakeOne = "; take one with `millrace backup`";
  if (LockFile::anybody(backup)) {
    throw Error(Errc::invalid_argument, "restore", backup,
                std::string("this is a store that is in use, not a backup") + kTakeOne);
  }
  for (const char* suffix : {"-wal", "-journal"}) {
    if (size_of(backup + suffix) == 0) continue;
    throw Error(
        Errc::invalid_argument, "restore", backup,
        "this is a store that is in use or was not closed, not a backup (there is " + backup + suffix + ")" + kTakeOne);
  }
}

void check_backup(const std::string& backup) {
  std::error_code error;
  if (!fs::exists(backup, error) && !error) {
    throw Error(Errc::not_found, "restore", backup, "there is no such file; name one that `millrace backup` wrote");
  }
  inspect_header(backup, Kind::backup);
  check_closed(backup);
}

void check_whole(Connection& connection, const std::string& backup) {
  auto rows = connection.prepared("PRAGMA quick_check(1)").query();
  if (rows.next() && rows.text(0) == "ok") return;
  throw Error(Errc::corrupt, "restore", backup, "the backup is damaged; take another one", std::string(rows.text(0)));
}

/// Nobody who held an event when the backup was taken holds it now: all are open again, nobody is charged.
void end_leases(Connection& connection) {
  const StoreClock clock;
  const auto incarnation =
      static_cast<std::uint32_t>(connection.integer("SELECT value FROM meta WHERE key = 'incarnation'"));
  State state(connection, clock, incarnation, 0, StoreOptions{}.history);
  state.begin();
  for (Group* group : state.all_groups()) {
    std::set<SessionId> sessions;
    for (const auto& [id, claim] : group->state.claims()) sessions.insert(claim.session);
    for (const SessionId session : sessions) group->state.release_session(session);
    state.touch(*group, true);
  }
  state.flush();
  connection.execute("DELETE FROM session");
}

/// What was given out after the backup was taken is not known here, so everything that is given once only goes on far
/// behind: positions, ids of claims and sessions, versions of keys.
void leave_gap(Connection& connection) {
  const std::string gap = std::to_string(kRestoreGap);
  connection.execute(
      "INSERT INTO skipped (stream_id, first, last) SELECT id, next_position, "
      "max(next_position - 1, reserved_to) + " +
      gap +
      " FROM stream; "
      "UPDATE stream SET next_position = max(next_position - 1, reserved_to) + " +
      gap +
      " + 1, reserved_to = 0; "
      "UPDATE meta SET value = value + " +
      std::to_string(kOpeningsGap) + " WHERE key = 'incarnation'; UPDATE meta SET value = value + " +
      std::to_string(kVersionsGap) + " WHERE key = 'key_value_version'");
}

}  // namespace

void write_backup(const std::string& path, const std::string& to, std::uint64_t keep_free,
                  const std::atomic<bool>& stopping) {
  check_new("back up", to);
  if (!same_disk(path, folder_of(to))) keep_free = 0;
  Connection from(path, Connection::Mode::read_only);
  from.execute("BEGIN; SELECT count(*) FROM meta");  // from here on it sees the store as of now
  const std::int64_t pages = from.integer("PRAGMA page_count");
  const auto bytes = static_cast<std::uint64_t>(pages * from.integer("PRAGMA page_size"));
  check_room("back up", to, bytes, keep_free);
  Draft draft("back up", to, "partial");
  {
    Connection copy(draft.path(), Connection::Mode::read_write);
    // Whether it is whole is decided by its name: nothing is to be rolled back, and it is synced by hand.
    copy.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF");
    copy_pages(from, copy, draft, keep_free, stopping);
    copy.execute("PRAGMA journal_mode=DELETE; PRAGMA application_id=" + std::to_string(kBackupId));
  }
  if (!draft.publish()) check_new("back up", to);
}

void restore_backup(const std::string& backup, const std::string& path) {
  check_no_store(path);
  check_backup(backup);
  make_directory_of(path);
  check_room("restore", path, size_of(backup), 0);
  LockFile lock(path);
  lock.become_owner();
  Draft draft("restore", path, "restoring");
  draft.copy_from(backup);
  check_closed(backup);  // nobody opened it meanwhile
  try {
    Connection connection(draft.path(), Connection::Mode::read_write);
    connection.execute("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL");
    check_whole(connection, backup);
    migrate(connection);
    connection.execute("BEGIN IMMEDIATE");
    leave_gap(connection);
    end_leases(connection);
    connection.execute("PRAGMA application_id=" + std::to_string(kApplicationId) + "; COMMIT; PRAGMA journal_mode=WAL");
  } catch (const DatabaseError& failure) {
    if (failure.code() != Errc::internal && failure.code() != Errc::corrupt) throw;
    throw Error(Errc::corrupt, "restore", backup, "the backup is damaged; take another one", failure.native());
  }
  check_no_store(path);
  if (!draft.publish()) check_no_store(path);
}

}  // namespace millrace::store::sqlite
