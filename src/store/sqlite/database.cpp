// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/database.hpp"

#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace millrace::store::sqlite {

Statement::Statement(Connection& connection, std::string_view sql) : connection_(&connection) {
  check(sqlite3_prepare_v3(connection.handle(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                           &handle_, nullptr));
}

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_), handle_(std::exchange(other.handle_, nullptr)) {}

Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(connection_, other.connection_);
  std::swap(handle_, other.handle_);
  return *this;
}

Statement::~Statement() {
  sqlite3_finalize(handle_);
}

void Statement::check(int code) const {
  if (code != SQLITE_OK) connection_->fail(code, "use database");
}

void Statement::bind(int index, std::int64_t value) {
  check(sqlite3_bind_int64(handle_, index, value));
}

void Statement::bind(int index, std::string_view value) {
  const char* bytes = value.data() ? value.data() : "";
  check(sqlite3_bind_text64(handle_, index, bytes, value.size(), SQLITE_STATIC, SQLITE_UTF8));
}

void Statement::bind(int index, OptionalText value) {
  value.text.empty() ? bind_null(index) : bind(index, value.text);
}

void Statement::bind(int index, Blob value) {
  if (!value.bytes) return bind_null(index);
  const char* bytes = value.bytes->data() ? value.bytes->data() : "";
  check(sqlite3_bind_blob64(handle_, index, bytes, value.bytes->size(), SQLITE_STATIC));
}

void Statement::bind_null(int index) {
  check(sqlite3_bind_null(handle_, index));
}

Statement::Rows::~Rows() {
  if (statement_) sqlite3_reset(statement_->handle_);  // its code repeats what next() already reported
}

bool Statement::Rows::next() {
  const int code = sqlite3_step(statement_->handle_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) statement_->connection_->fail(code, "use database");
  return false;
}

std::int64_t Statement::Rows::integer(int column) const {
  return sqlite3_column_int64(statement_->handle_, column);
}

std::string_view Statement::Rows::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_->handle_, column));
  return bytes ? std::string_view(bytes, size(column)) : std::string_view{};
}

std::optional<std::string_view> Statement::Rows::blob(int column) const {
  if (is_null(column)) return std::nullopt;
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_->handle_, column));
  return std::string_view(bytes ? bytes : "", size(column));
}

std::size_t Statement::Rows::size(int column) const {
  return static_cast<std::size_t>(sqlite3_column_bytes(statement_->handle_, column));
}

bool Statement::Rows::is_null(int column) const {
  return sqlite3_column_type(statement_->handle_, column) == SQLITE_NULL;
}

namespace {

/// A path as a SQLite URI: the characters that mean something there are escaped.
std::string file_uri(const std::string& path) {
  std::string uri = "file:";
  for (const char c : path) {
    switch (c) {
      case '%':
        uri += "%25";
        break;
      case '?':
        uri += "%3f";
        break;
      case '#':
        uri += "%23";
        break;
      default:
        uri += c;
    }
  }
  return uri;
}

/// Whether it was the disk that refused the last read of the database or its log. SQLite calls that a damaged file
/// (SQLITE_CORRUPT, once a statement met it), yet nothing is known to be wrong with the bytes.
bool read_refused(sqlite3* handle) {
  const auto failed = [](int error) {
    return error == EIO || error == ENXIO || error == ERANGE;
  };  // as os_unix.c has it
  int error = 0;
  if (sqlite3_file_control(handle, "main", SQLITE_FCNTL_LAST_ERRNO, &error) == SQLITE_OK && failed(error)) return true;
  sqlite3_file* log = nullptr;
  if (sqlite3_file_control(handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK || !log || !log->pMethods) {
    return false;
  }
  return log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &error) == SQLITE_OK && failed(error);
}

/// Whether this process may use the file: then what kept it from being opened is not a permission (too many open files,
/// a disk that fails) and may pass.
bool permitted(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  return ::access(path.c_str(), R_OK | W_OK) == 0 &&
         ::access(folder.empty() ? "." : folder.c_str(), R_OK | W_OK | X_OK) == 0;
}

/// What happened, where SQLite's own code says something else.
int meaning_of(int code, sqlite3* handle, const std::string& path) {
  if (code == SQLITE_CORRUPT && handle && read_refused(handle)) return SQLITE_IOERR_READ;
  if (code == SQLITE_CANTOPEN && permitted(path)) return SQLITE_IOERR;
  return code;
}

}  // namespace

Connection::Connection(std::string path, Mode mode) : path_(std::move(path)) {
  const int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_URI |
                    (mode == Mode::read_write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
  const std::string uri = file_uri(path_);
  const int code = sqlite3_open_v2(uri.c_str(), &handle_, flags, nullptr);
  if (code != SQLITE_OK) {
    DatabaseError error(meaning_of(code, handle_, path_), "open store", path_,
                        handle_ ? sqlite3_errmsg(handle_) : "out of memory");
    sqlite3_close_v2(handle_);
    throw error;
  }
  // Where a file cannot be opened for writing SQLite opens it for reading, and would stay so for good.
  if (mode == Mode::read_write && sqlite3_db_readonly(handle_, "main") == 1) {
    const DatabaseError error(permitted(path_) ? SQLITE_IOERR : SQLITE_READONLY, "open store", path_,
                              "it could be opened for reading only");
    sqlite3_close_v2(handle_);
    throw error;
  }
  sqlite3_busy_timeout(handle_, 10'000);
}

Connection::~Connection() {
  statements_.clear();
  sqlite3_close_v2(handle_);
}

void Connection::execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code, "use database");
}

Statement& Connection::prepared(std::string_view sql) {
  const auto it = statements_.find(sql);
  if (it != statements_.end()) return *it->second;
  auto text = std::make_unique<std::string>(sql);
  const std::string_view key = *text;
  auto statement = std::make_unique<Statement>(*this, key);
  texts_.emplace(key, std::move(text));
  return *statements_.emplace(key, std::move(statement)).first->second;
}

std::int64_t Connection::integer(std::string_view sql) {
  auto rows = prepared(sql).query();
  return rows.next() ? rows.integer(0) : 0;
}

std::int64_t Connection::changes() const {
  return sqlite3_changes64(handle_);
}
std::int64_t Connection::total_changes() const {
  return sqlite3_total_changes64(handle_);
}
bool Connection::in_transaction() const {
  return sqlite3_get_autocommit(handle_) == 0;
}

void Connection::roll_back() noexcept {
  if (in_transaction()) sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
}

std::string Connection::first_bytes(std::size_t count) {
  sqlite3_file* file = nullptr;
  int code = sqlite3_file_control(handle_, "main", SQLITE_FCNTL_FILE_POINTER, &file);
  if (code != SQLITE_OK) fail(code, "read file");
  std::string bytes(count, '\0');
  sqlite3_int64 size = 0;
  code = file->pMethods->xFileSize(file, &size);
  if (code == SQLITE_OK) {
    bytes.resize(static_cast<std::size_t>(std::min<sqlite3_int64>(size, static_cast<sqlite3_int64>(count))));
    if (!bytes.empty()) code = file->pMethods->xRead(file, bytes.data(), static_cast<int>(bytes.size()), 0);
  }
  if (code == SQLITE_OK) return bytes;
  throw DatabaseError(code, "open store", path_, "the first bytes of the file could not be read");
}

void Connection::fail(int code, std::string operation) const {
  throw DatabaseError(meaning_of(code, handle_, path_), std::move(operation), path_, sqlite3_errmsg(handle_));
}

}  // namespace millrace::store::sqlite
