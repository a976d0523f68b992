// SPDX-License-Identifier: Apache-2.0

// Erasing: the data of one event leaves the log, the dead letters, every copy in memory, and the files.

#include <sqlite3.h>

#include <thread>

#include "store/records.hpp"
#include "store/sqlite/log.hpp"
#include "store/sqlite/rows.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

/// How long an erasure waits for readers of an older state of the file, which keep the write-ahead log from ending.
constexpr std::chrono::seconds kPatience{5};
/// The writer is held while the log is moved; a reader in the way must not hold it longer than this.
constexpr int kHoldMilliseconds = 100;

/// One copy of the event, in the log or among the dead letters.
struct Copy {
  std::string table;
  std::int64_t row_id = 0;
  Ordinal position = 0;
  Event event;
};

std::vector<Copy> copies_of(State& state, StreamState& stream, std::string_view source, std::string_view id) {
  std::vector<Copy> copies;
  std::optional<Ordinal> position;
  {
    auto row = stream.by_id.query(id, source);
    if (row.next()) {
      position = row.number(0);
      copies.push_back({event_table(stream.id), row.integer(0), *position, decode_event(row, 1)});
    }
  }
  if (!position) {
    auto row = stream.trimmed_id.query(id, source);
    if (row.next()) position = row.number(0);
  }
  Statement& letters =
      state.connection().prepared(std::string("SELECT ") + kEventColumns +
                                  ", rowid, position FROM dead_letter WHERE group_id IN "
                                  "(SELECT g.id FROM consumer_group g WHERE g.stream_id = ?1) AND id = ?2 AND "
                                  "source = ?3" +
                                  (position ? " AND position = ?4" : ""));
  auto dead = position ? letters.query(stream.id, id, source, *position) : letters.query(stream.id, id, source);
  while (dead.next()) {
    copies.push_back(
        {"dead_letter", dead.integer(kEventColumnCount), dead.number(kEventColumnCount + 1), decode_event(dead, 0)});
  }
  return copies;
}

void erase_copy(State& state, StreamState& stream, Copy& copy) {
  const std::size_t data = copy.event.data ? copy.event.data->size() : 0;
  const std::size_t before = encode_extensions(copy.event.extensions).size() + data;
  mark_erased(copy.event, state.now());
  const std::string extensions = encode_extensions(copy.event.extensions);
  state.connection()
      .prepared("UPDATE " + copy.table + " SET extensions = ?, data = NULL WHERE rowid = ?")
      .run(extensions, copy.row_id);
  if (copy.table == "dead_letter") return;
  stream.bytes = stream.bytes - std::min(stream.bytes, before) + extensions.size();
  stream.dirty = true;
}

}  // namespace

std::optional<Position> SqliteLog::erase(const StreamName& name, std::string_view source, std::string_view id) {
  const auto position = writer_.call(true, [&](State& state) -> std::optional<Position> {
    StreamState& stream = state.stream(name, "erase");
    std::vector<Copy> copies = copies_of(state, stream, source, id);
    if (copies.empty()) return std::nullopt;
    bool any = false;
    for (Copy& copy : copies) {
      if (is_erased(copy.event)) continue;
      erase_copy(state, stream, copy);
      any = true;
    }
    if (any) {
      state.connection()
          .prepared("UPDATE " + trimmed_table(stream.id) + " SET fingerprint = ? WHERE id = ? AND source = ?")
          .run(kErasedFingerprint, id, source);
      state.count_erasure();
      for (Group* group : state.all_groups()) {
        if (group->identity.stream == name) (void)group->set_aside.take(copies.front().position);
      }
    }
    return Position(copies.front().position);
  });
  // Even when there was nothing left to erase: an earlier call may have failed here.
  if (!position) return position;
  try {
    empty_write_ahead_log();
  } catch (const Error& error) {
    if (error.code() == Errc::busy) throw;  // says what is left
    throw Error(
        Errc::outcome_unknown, "erase", path_,
        "the event is erased, but its bytes may still stand in the store's files; check the disk, then erase it "
        "again",
        error.native());
  }
  return position;
}

/// What was overwritten still stands in the write-ahead log, and under it in the file, until the log is moved and cut.
void SqliteLog::empty_write_ahead_log() {
  const std::lock_guard one_at_a_time(erasing_);
  Connection connection(path_, Connection::Mode::read_write);
  connection.execute("PRAGMA synchronous=FULL");
  sqlite3_busy_timeout(connection.handle(), kHoldMilliseconds);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    {
      const Writer::Pause pause(writer_);
      const LockFile::Turn turn(lock_);
      const int code =
          sqlite3_wal_checkpoint_v2(connection.handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
      if (code == SQLITE_OK) return;
      if ((code & 0xFF) != SQLITE_BUSY) {
        if (commit_errc_of(code) == Errc::outcome_unknown) writer_.distrust_log();
        connection.fail(code, "erase");
      }
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Error(Errc::busy, "erase", path_,
                  "the event is erased, but its bytes still stand in the write-ahead log, because somebody reads an "
                  "older state of the file; end long reads, then erase it again");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{2 * kHoldMilliseconds});
  }
}

}  // namespace millrace::store::sqlite
