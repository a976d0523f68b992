// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/errors.hpp"

#include <sqlite3.h>

#include <utility>

namespace millrace::store::sqlite {
namespace {

struct Mapping {
  int code;
  const char* name;
  Errc errc;
};

#define CODE(name, errc) \
  { name, #name, Errc::errc }
// Extended codes that differ from their primary code come first; every other extended code is judged by its low byte.
constexpr Mapping kMappings[] = {
    CODE(SQLITE_IOERR_FSYNC, outcome_unknown),
    CODE(SQLITE_IOERR_DIR_FSYNC, outcome_unknown),
    CODE(SQLITE_IOERR_CORRUPTFS, unavailable),  // the name says more than it knows: a read answered EIO
    CODE(SQLITE_IOERR_DATA, corrupt),
    CODE(SQLITE_IOERR_READ, unavailable),
    CODE(SQLITE_IOERR_SHORT_READ, corrupt),
    CODE(SQLITE_IOERR_WRITE, unavailable),
    CODE(SQLITE_IOERR_NOMEM, unavailable),
    CODE(SQLITE_BUSY_SNAPSHOT, busy),
    CODE(SQLITE_READONLY_CANTINIT, read_only),
    CODE(SQLITE_READONLY_DBMOVED, unavailable),
    CODE(SQLITE_CANTOPEN_ISDIR, invalid_argument),
    CODE(SQLITE_ERROR, internal),
    CODE(SQLITE_INTERNAL, internal),
    CODE(SQLITE_PERM, permission_denied),
    CODE(SQLITE_ABORT, unavailable),
    CODE(SQLITE_BUSY, busy),
    CODE(SQLITE_LOCKED, busy),
    CODE(SQLITE_NOMEM, unavailable),
    CODE(SQLITE_READONLY, read_only),
    CODE(SQLITE_INTERRUPT, stopped),
    CODE(SQLITE_IOERR, unavailable),
    CODE(SQLITE_CORRUPT, corrupt),
    CODE(SQLITE_FULL, store_full),
    CODE(SQLITE_CANTOPEN, permission_denied),
    CODE(SQLITE_PROTOCOL, busy),
    CODE(SQLITE_SCHEMA, internal),
    CODE(SQLITE_TOOBIG, too_large),
    CODE(SQLITE_CONSTRAINT, internal),
    CODE(SQLITE_MISMATCH, corrupt),
    CODE(SQLITE_MISUSE, internal),
    CODE(SQLITE_NOLFS, too_large),
    CODE(SQLITE_AUTH, permission_denied),
    CODE(SQLITE_RANGE, internal),
    CODE(SQLITE_NOTADB, corrupt),
};
#undef CODE

const Mapping* mapping_of(int native_code) noexcept {
  for (const Mapping& mapping : kMappings) {
    if (mapping.code == native_code) return &mapping;
  }
  for (const Mapping& mapping : kMappings) {
    if (mapping.code == (native_code & 0xFF)) return &mapping;
  }
  return nullptr;
}

}  // namespace

Errc errc_of(int native_code) noexcept {
  const Mapping* mapping = mapping_of(native_code);
  return mapping ? mapping->errc : Errc::internal;
}

Errc commit_errc_of(int native_code) noexcept {
  return (native_code & 0xFF) == SQLITE_IOERR ? Errc::outcome_unknown : errc_of(native_code);
}

std::string native_name(int native_code) {
  const Mapping* mapping = mapping_of(native_code);
  if (mapping && mapping->code == native_code) return mapping->name;
  return (mapping ? std::string(mapping->name) + " " : "SQLITE_") + "(" + std::to_string(native_code) + ")";
}

std::string_view advice_for(Errc code) noexcept {
  switch (code) {
    case Errc::store_full:
      return "the disk is full; free space or trim, then retry";
    case Errc::busy:
      return "another program holds the file locked; end it or retry";
    case Errc::read_only:
      return "the file cannot be written; check its permissions and the mount";
    case Errc::permission_denied:
      return "the file cannot be opened; check that it and its directory can be read and written";
    case Errc::corrupt:
      return "the file is damaged or is not a Millrace store; restore a backup, or move it away";
    case Errc::outcome_unknown:
      return "the disk failed while syncing; retry with the same ids, and check the disk";
    case Errc::unavailable:
      return "nothing was written; retry, and check disk and memory";
    case Errc::too_large:
      return "more than the database can hold in one value";
    default:
      return "unexpected answer of the database";
  }
}

DatabaseError::DatabaseError(int native_code, std::string operation, std::string object, const std::string& detail)
    : Error(errc_of(native_code), std::move(operation), std::move(object),
            std::string(advice_for(errc_of(native_code))), native_name(native_code) + ": " + detail),
      native_code_(native_code) {}

}  // namespace millrace::store::sqlite
