// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "store/sqlite/errors.hpp"

namespace millrace::store::sqlite {
namespace {

struct Case {
  int native;
  const char* name;
  Errc anywhere;
  Errc in_commit;
};

TEST(SqliteErrors, MapsNativeCodes) {
  const Case cases[] = {
      {SQLITE_FULL, "SQLITE_FULL", Errc::store_full, Errc::store_full},
      {SQLITE_BUSY, "SQLITE_BUSY", Errc::busy, Errc::busy},
      {SQLITE_BUSY_SNAPSHOT, "SQLITE_BUSY_SNAPSHOT", Errc::busy, Errc::busy},
      {SQLITE_LOCKED, "SQLITE_LOCKED", Errc::busy, Errc::busy},
      {SQLITE_READONLY, "SQLITE_READONLY", Errc::read_only, Errc::read_only},
      {SQLITE_READONLY_DIRECTORY, "SQLITE_READONLY (1544)", Errc::read_only, Errc::read_only},
      {SQLITE_CANTOPEN, "SQLITE_CANTOPEN", Errc::permission_denied, Errc::permission_denied},
      {SQLITE_PERM, "SQLITE_PERM", Errc::permission_denied, Errc::permission_denied},
      {SQLITE_CORRUPT, "SQLITE_CORRUPT", Errc::corrupt, Errc::corrupt},
      {SQLITE_CORRUPT_INDEX, "SQLITE_CORRUPT (779)", Errc::corrupt, Errc::corrupt},
      {SQLITE_NOTADB, "SQLITE_NOTADB", Errc::corrupt, Errc::corrupt},
      {SQLITE_IOERR_SHORT_READ, "SQLITE_IOERR_SHORT_READ", Errc::corrupt, Errc::outcome_unknown},
      {SQLITE_IOERR_CORRUPTFS, "SQLITE_IOERR_CORRUPTFS", Errc::unavailable, Errc::outcome_unknown},
      {SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE", Errc::unavailable, Errc::outcome_unknown},
      {SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC", Errc::outcome_unknown, Errc::outcome_unknown},
      {SQLITE_IOERR_LOCK, "SQLITE_IOERR (3850)", Errc::unavailable, Errc::outcome_unknown},
      {SQLITE_NOMEM, "SQLITE_NOMEM", Errc::unavailable, Errc::unavailable},
      {SQLITE_TOOBIG, "SQLITE_TOOBIG", Errc::too_large, Errc::too_large},
      {SQLITE_MISUSE, "SQLITE_MISUSE", Errc::internal, Errc::internal},
      {SQLITE_CONSTRAINT_UNIQUE, "SQLITE_CONSTRAINT (2067)", Errc::internal, Errc::internal},
      {99, "SQLITE_(99)", Errc::internal, Errc::internal},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(errc_of(c.native), c.anywhere) << c.name;
    EXPECT_EQ(commit_errc_of(c.native), c.in_commit) << c.name;
    EXPECT_EQ(native_name(c.native), c.name);
  }
}

TEST(SqliteErrors, TellWhatWasDoneToWhatAndTheNativeWords) {
  const DatabaseError error(SQLITE_FULL, "append", "/x.db", "database or disk is full");
  EXPECT_EQ(error.code(), Errc::store_full);
  EXPECT_EQ(error.object(), "/x.db");
  EXPECT_EQ(error.native(), "SQLITE_FULL: database or disk is full");
  EXPECT_NE(error.message().find("free space"), std::string::npos);
}

}  // namespace
}  // namespace millrace::store::sqlite
