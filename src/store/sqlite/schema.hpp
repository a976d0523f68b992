// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The tables (docs/formats/sqlite.md), and how a file comes to have them.

#include <string>

#include "millrace/types.hpp"
#include "store/sqlite/database.hpp"

namespace millrace::store::sqlite {

inline constexpr std::int64_t kApplicationId = 0x4D696C6C;  ///< "Mill", at byte 68 of the file
inline constexpr std::int64_t kBackupId = 0x4D696C42;       ///< "MilB": only a restore makes a store of it
inline constexpr std::int64_t kFormatVersion = 2;           ///< PRAGMA user_version

enum class FileState { missing, usable };

/// Looks at the file without touching it. \throws Error{corrupt} when it is something else, {unsupported_version} when
/// a newer Millrace wrote it, {read_only} or {permission_denied} when it cannot be written.
FileState inspect_file(const std::string& path);

/// Looks at the first bytes of a file that is there. A whole store, closed, serves as a backup as well.
/// \throws Error as `inspect_file`; {invalid_argument} when a store is wanted and it is a backup
enum class Kind { store, backup };
void inspect_header(const std::string& path, Kind wanted);

/// \throws Error{unsupported_version} when `version` is one that only a newer Millrace knows.
void refuse_newer(std::int64_t version, const std::string& path);

/// Makes a new store under a temporary name and links it to `path` when it is complete and on disk. Another process may
/// have been faster: then its file stays.
void create_file(const std::string& path, Timestamp now);

/// Adds a stream's row, tables and view, in the open transaction.
void create_stream_tables(Connection& connection, const StreamName& name, Timestamp now);

/// "events_3"
std::string event_table(std::int64_t stream_id);
/// "trimmed_ids_3"
std::string trimmed_table(std::int64_t stream_id);

}  // namespace millrace::store::sqlite
