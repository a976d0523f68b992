// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/schema.hpp"

#include <sqlite3.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "store/sqlite/files.hpp"
#include "store/sqlite/rows.hpp"

namespace millrace::store::sqlite {
namespace {

constexpr char kTables[] = R"sql(
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('incarnation', 0), ('key_value_version', 0), ('syncs', 0);

CREATE TABLE stream (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  next_position INTEGER NOT NULL DEFAULT 1,
  reserved_to INTEGER NOT NULL DEFAULT 0,
  trimmed_to INTEGER NOT NULL DEFAULT 0,
  events INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  last_stored_at INTEGER NOT NULL DEFAULT 0,
  retention TEXT NOT NULL DEFAULT '',
  last_trim_at INTEGER NOT NULL DEFAULT 0,
  last_trim TEXT NOT NULL DEFAULT ''
);
CREATE TABLE skipped (
  stream_id INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  PRIMARY KEY (stream_id, first)
) WITHOUT ROWID;

CREATE TABLE session (
  id INTEGER PRIMARY KEY,
  consumer TEXT NOT NULL,
  lease_ms INTEGER NOT NULL,
  until INTEGER NOT NULL
);
CREATE TABLE consumer_group (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  stream_id INTEGER NOT NULL,
  types TEXT NOT NULL,
  start TEXT NOT NULL,
  order_rule TEXT NOT NULL,
  settings TEXT NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  cursor INTEGER NOT NULL,
  ready TEXT NOT NULL DEFAULT '',
  suspects TEXT NOT NULL DEFAULT '',
  processed INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  rejected INTEGER NOT NULL DEFAULT 0,
  expired INTEGER NOT NULL DEFAULT 0,
  skipped INTEGER NOT NULL DEFAULT 0,
  pass INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0,
  types_changed INTEGER NOT NULL DEFAULT 0,
  unrecorded_to INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE claim (
  id INTEGER PRIMARY KEY,
  group_id INTEGER NOT NULL,
  consumer TEXT NOT NULL,
  session_id INTEGER NOT NULL,
  lease_until INTEGER NOT NULL,
  lease_ms INTEGER NOT NULL,
  claimed_at INTEGER NOT NULL,
  alone INTEGER NOT NULL,
  open TEXT NOT NULL,
  fresh_first INTEGER NOT NULL DEFAULT 0,
  fresh_last INTEGER NOT NULL DEFAULT 0,
  again TEXT NOT NULL DEFAULT '',
  apart TEXT NOT NULL DEFAULT ''
);
CREATE TABLE history (
  group_id INTEGER NOT NULL,
  fresh INTEGER NOT NULL,
  pass INTEGER NOT NULL,
  first INTEGER NOT NULL,
  claim INTEGER NOT NULL,
  last INTEGER NOT NULL,
  apart TEXT NOT NULL,
  consumer TEXT NOT NULL,
  claimed_at INTEGER NOT NULL,
  settled_at INTEGER NOT NULL,
  PRIMARY KEY (group_id, fresh, pass, first, claim)
) WITHOUT ROWID;
CREATE INDEX history_age ON history (settled_at);
CREATE TABLE item (
  group_id INTEGER NOT NULL,
  position INTEGER NOT NULL,
  due INTEGER NOT NULL,
  suspect INTEGER NOT NULL,
  redriven INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  handler_failures INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  crashes INTEGER NOT NULL,
  first_failure_at INTEGER,
  last_error TEXT NOT NULL,
  replayid TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (group_id, position)
) WITHOUT ROWID;
CREATE TABLE dead_letter (
  group_id INTEGER NOT NULL,
  position INTEGER NOT NULL,
  id TEXT NOT NULL,
  source TEXT NOT NULL,
  type TEXT NOT NULL,
  subject TEXT,
  time TEXT,
  datacontenttype TEXT,
  dataschema TEXT,
  extensions TEXT,
  data BLOB,
  stored_at INTEGER NOT NULL,
  died_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  crashes INTEGER NOT NULL,
  redriven INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (group_id, position)
);
CREATE TABLE key_value (
  key TEXT PRIMARY KEY,
  value BLOB NOT NULL,
  version INTEGER NOT NULL,
  expires_at INTEGER
);
CREATE INDEX key_value_expiry ON key_value (expires_at) WHERE expires_at IS NOT NULL;

CREATE VIEW groups AS
  SELECT g.name, s.name AS stream, g.types, g.start, g.order_rule, g.paused, g.cursor,
         s.next_position - 1 AS head, g.processed, g.failures, g.crashes, g.rejected, g.expired, g.skipped,
         (SELECT count(*) FROM dead_letter d WHERE d.group_id = g.id AND d.redriven = 0) AS dead,
         datetime(g.last_seen / 1000000, 'unixepoch') AS last_seen
  FROM consumer_group g JOIN stream s ON s.id = g.stream_id;
CREATE VIEW claims AS
  SELECT c.id, g.name AS "group", c.consumer, c.session_id, c.open AS positions,
         datetime(c.claimed_at / 1000000, 'unixepoch') AS claimed_at,
         datetime(coalesce(e.until, c.lease_until) / 1000000, 'unixepoch') AS lease_until
  FROM claim c JOIN consumer_group g ON g.id = c.group_id LEFT JOIN session e ON e.id = c.session_id;
CREATE VIEW dead_letters AS
  SELECT g.name AS "group", d.position, d.id, d.source, d.type, d.subject, d.reason, d.attempts, d.failures, d.crashes,
         datetime(d.died_at / 1000000, 'unixepoch') AS died_at, d.data
  FROM dead_letter d JOIN consumer_group g ON g.id = d.group_id WHERE d.redriven = 0;
)sql";

[[noreturn]] void foreign(const std::string& path, const std::string& what, const std::string& native = {}) {
  throw Error(Errc::corrupt, "open store", path, what + "; name another file, or move this one away to start anew",
              native);
}

}  // namespace

void refuse_newer(std::int64_t version, const std::string& path) {
  if (version <= kFormatVersion) return;
  throw Error(Errc::unsupported_version, "open store", path,
              "the file has format version " + std::to_string(version) +
                  ", written by a newer Millrace; this one knows up to " + std::to_string(kFormatVersion) +
                  ": upgrade Millrace");
}

std::string event_table(std::int64_t stream_id) {
  return "events_" + std::to_string(stream_id);
}
std::string trimmed_table(std::int64_t stream_id) {
  return "trimmed_ids_" + std::to_string(stream_id);
}

FileState inspect_file(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) return FileState::missing;
  if (error) {
    throw Error(Errc::permission_denied, "open store", path,
                "cannot look at the file; check its directory's permissions", error.message());
  }
  inspect_header(path, Kind::store);
  return FileState::usable;
}

void inspect_header(const std::string& path, Kind wanted) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw Error(Errc::invalid_argument, "open store", path, "this is not a regular file; name a file for the store");
  }
  if (::access(path.c_str(), R_OK) != 0) {
    throw Error(Errc::permission_denied, "open store", path, "the file cannot be read; check its permissions");
  }
  if (wanted == Kind::store && ::access(path.c_str(), W_OK) != 0) {
    throw Error(Errc::read_only, "open store", path, "the file cannot be written; check its permissions and the mount");
  }
  if (std::filesystem::file_size(path, error) == 0) foreign(path, "the file is empty, so it is not a Millrace store");
  // The header alone, as bytes (https://www.sqlite.org/fileformat2.html#the_database_header): a checkpoint that was cut
  // off leaves the rest of the file torn until its log is read, and a foreign file is not to be touched by opening it.
  constexpr std::size_t kHeaderBytes = 100;
  const std::string header = Connection(path, Connection::Mode::read_only).first_bytes(kHeaderBytes);
  if (header.size() < kHeaderBytes || !header.starts_with(std::string_view("SQLite format 3\0", 16))) {
    foreign(path, "the file is damaged, or is not a Millrace store");
  }
  const auto number = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = at; i < at + 4; ++i) value = value << 8U | static_cast<unsigned char>(header.at(i));
    return static_cast<std::int64_t>(value);
  };
  const std::int64_t application = number(68);
  if (wanted == Kind::store && application == kBackupId) {
    throw Error(Errc::invalid_argument, "open store", path,
                "this is a backup; make a store of it with `millrace restore " + path + " --store URL`");
  }
  if (application != kApplicationId && application != kBackupId) {
    foreign(path, "the file is a SQLite database, but not a Millrace store");
  }
  refuse_newer(number(60), path);
}

void create_stream_tables(Connection& connection, const StreamName& name, Timestamp now) {
  connection.prepared("INSERT INTO stream (name, created_at) VALUES (?, ?)").run(name.str(), now);
  const std::int64_t id = sqlite3_last_insert_rowid(connection.handle());
  const std::string events = event_table(id);
  connection.execute("CREATE TABLE " + events + R"sql( (
  position INTEGER PRIMARY KEY,
  stored_at INTEGER NOT NULL,  -- before data: behind a large blob it would be reached through its overflow pages
  id TEXT NOT NULL,
  source TEXT NOT NULL,
  type TEXT NOT NULL,
  subject TEXT,
  time TEXT,
  datacontenttype TEXT,
  dataschema TEXT,
  extensions TEXT,
  data BLOB,
  UNIQUE (id, source)
))sql");
  connection.execute("CREATE TABLE " + trimmed_table(id) + R"sql( (
  id TEXT NOT NULL,
  source TEXT NOT NULL,
  position INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL,
  trimmed_at INTEGER NOT NULL,
  PRIMARY KEY (id, source)
) WITHOUT ROWID)sql");
  connection.execute("CREATE VIEW \"log:" + name.str() + "\" AS SELECT position, " + kEventColumns +
                     ", strftime('%Y-%m-%dT%H:%M:', stored_at / 1000000, 'unixepoch') || "
                     "printf('%09.6fZ', (stored_at % 60000000) / 1e6) AS stored_at FROM " +
                     events);
}

void create_file(const std::string& path, Timestamp now) {
  Draft draft("open store", path, "new");
  {
    Connection connection(draft.path(), Connection::Mode::read_write);
    connection.execute("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA synchronous=FULL; BEGIN");
    connection.execute("PRAGMA application_id=" + std::to_string(kApplicationId) +
                       "; PRAGMA user_version=" + std::to_string(kFormatVersion));
    connection.execute(kTables);
    create_stream_tables(connection, "events", now);
    create_stream_tables(connection, "logs", now);
    connection.execute("COMMIT; PRAGMA journal_mode=WAL");
  }
  draft.publish();
}

}  // namespace millrace::store::sqlite
