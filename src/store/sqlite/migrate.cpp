// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/migrate.hpp"

#include "store/sqlite/schema.hpp"
#include "store/url.hpp"

namespace millrace::store::sqlite {
namespace {

/// `kSteps[n]` leads from format n + 1 to n + 2. A step that has been released never changes. New columns stand at the
/// end of their tables and have a default, so that a step takes no longer for a store that holds more events.
constexpr const char* kSteps[] = {
    R"sql(
ALTER TABLE stream ADD COLUMN retention TEXT NOT NULL DEFAULT '';
ALTER TABLE stream ADD COLUMN last_trim_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN last_trim TEXT NOT NULL DEFAULT '';
ALTER TABLE consumer_group ADD COLUMN pass INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_group ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_group ADD COLUMN types_changed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_group ADD COLUMN unrecorded_to INTEGER NOT NULL DEFAULT 0;
UPDATE consumer_group SET dead = (SELECT count(*) FROM dead_letter d WHERE d.group_id = consumer_group.id AND
                                  d.redriven = 0);
ALTER TABLE claim ADD COLUMN fresh_first INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claim ADD COLUMN fresh_last INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claim ADD COLUMN again TEXT NOT NULL DEFAULT '';
ALTER TABLE claim ADD COLUMN apart TEXT NOT NULL DEFAULT '';
ALTER TABLE item ADD COLUMN replayid TEXT NOT NULL DEFAULT '';
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
)sql",
};
static_assert(std::size(kSteps) == kFormatVersion - 1, "each format but the first has a step that leads to it");

}  // namespace

std::int64_t format_of(Connection& connection) {
  const std::int64_t version = connection.integer("PRAGMA user_version");
  if (version < 1) {
    throw Error(Errc::corrupt, "open store", connection.path(), std::string(advice_for(Errc::corrupt)),
                "format version " + std::to_string(version));
  }
  refuse_newer(version, connection.path());
  return version;
}

void refuse_older(std::int64_t version, const std::string& path) {
  if (version >= kFormatVersion) return;
  throw Error(Errc::unsupported_version, "open store", path,
              "the file has format version " + std::to_string(version) + ", this Millrace works with " +
                  std::to_string(kFormatVersion) +
                  "; `millrace serve` brings it up when it starts, and so does "
                  "`millrace store migrate --store " +
                  sqlite_url(path) + "`; an older Millrace cannot open it then");
}

Migration migrate(Connection& connection) {
  connection.execute("PRAGMA synchronous=FULL; BEGIN IMMEDIATE");
  try {
    const std::int64_t from = format_of(connection);
    for (std::int64_t version = from; version < kFormatVersion; ++version) connection.execute(kSteps[version - 1]);
    if (from < kFormatVersion) connection.execute("PRAGMA user_version=" + std::to_string(kFormatVersion));
    connection.execute("COMMIT");
    return {from, kFormatVersion};
  } catch (...) {
    connection.roll_back();
    throw;
  }
}

}  // namespace millrace::store::sqlite
