// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "millrace/error.hpp"

namespace millrace::store::sqlite {

/// A failure of the database itself, as opposed to a request it refused: whatever transaction was open is lost.
class DatabaseError : public Error {
 public:
  DatabaseError(int native_code, std::string operation, std::string object, const std::string& detail);
  [[nodiscard]] int native_code() const noexcept { return native_code_; }

 private:
  int native_code_;
};

/// The Errc of an (extended) SQLite result code met anywhere but in a COMMIT.
Errc errc_of(int native_code) noexcept;
/// The Errc of one met in a COMMIT: an I/O error there leaves open whether the commit is on disk.
Errc commit_errc_of(int native_code) noexcept;
/// "SQLITE_IOERR_FSYNC"; "SQLITE_<number>" for a code that is not known.
std::string native_name(int native_code);
/// What a person can do about it.
std::string_view advice_for(Errc code) noexcept;

}  // namespace millrace::store::sqlite
