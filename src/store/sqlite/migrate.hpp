// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How a file that an older Millrace wrote comes to have the tables of this one (docs/compatibility.md).

#include <cstdint>

#include "millrace/store.hpp"
#include "store/sqlite/database.hpp"

namespace millrace::store::sqlite {

/// The format version, as of the connection's transaction: the file's header alone may be behind its log.
/// \throws Error{corrupt} when it is none; {unsupported_version} when a newer Millrace wrote the file.
std::int64_t format_of(Connection& connection);

/// \throws Error{unsupported_version} for a version that is older than this Millrace's, naming what brings it up.
void refuse_older(std::int64_t version, const std::string& path);

/// Brings the file to `kFormatVersion` in one transaction, in a time that does not depend on how much it holds.
/// Whatever happens on the way leaves the old format or the new one. Nobody else may have the store open.
Migration migrate(Connection& connection);

}  // namespace millrace::store::sqlite
