// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A connection to a SQLite file and its prepared statements. Not thread-safe: one thread at a time per connection.
/// Everything throws DatabaseError.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "millrace/types.hpp"
#include "store/sqlite/errors.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace millrace::store::sqlite {

class Connection;

/// Bytes bound as BLOB rather than TEXT; no value binds NULL.
struct Blob {
  std::optional<std::string_view> bytes;
};
/// Text where the empty string stands for "absent" and is kept as NULL.
struct OptionalText {
  std::string_view text;
};

/// A prepared statement. What is bound must live until the rows are done with.
class Statement {
 public:
  Statement() = default;
  Statement(Connection& connection, std::string_view sql);
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  /// The rows of one execution; resets the statement when it goes out of scope.
  class Rows {
   public:
    explicit Rows(Statement& statement) : statement_(&statement) {}
    Rows(Rows&& other) noexcept : statement_(other.statement_) { other.statement_ = nullptr; }
    Rows& operator=(Rows&&) = delete;
    ~Rows();
    bool next();
    [[nodiscard]] std::int64_t integer(int column) const;
    [[nodiscard]] std::uint64_t number(int column) const { return static_cast<std::uint64_t>(integer(column)); }
    [[nodiscard]] std::uint32_t number32(int column) const { return static_cast<std::uint32_t>(integer(column)); }
    [[nodiscard]] Timestamp time(int column) const { return Timestamp{std::chrono::microseconds{integer(column)}}; }
    /// Valid until the next call of next(). NULL is empty.
    [[nodiscard]] std::string_view text(int column) const;
    [[nodiscard]] std::optional<std::string_view> blob(int column) const;
    [[nodiscard]] std::size_t size(int column) const;  ///< of text or blob, in bytes
    [[nodiscard]] bool is_null(int column) const;

   private:
    Statement* statement_;
  };

  template <class... Values>
  Rows query(const Values&... values) {
    int index = 0;
    (bind(++index, values), ...);
    return Rows(*this);
  }
  /// Executes what returns no rows.
  template <class... Values>
  void run(const Values&... values) {
    query(values...).next();
  }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  void bind(int index, std::int64_t value);
  void bind(int index, std::uint64_t value) { bind(index, static_cast<std::int64_t>(value)); }
  void bind(int index, std::uint32_t value) { bind(index, static_cast<std::int64_t>(value)); }
  void bind(int index, int value) { bind(index, static_cast<std::int64_t>(value)); }
  void bind(int index, bool value) { bind(index, static_cast<std::int64_t>(value)); }
  void bind(int index, Timestamp value) { bind(index, static_cast<std::int64_t>(value.time_since_epoch().count())); }
  void bind(int index, std::string_view value);
  void bind(int index, const std::string& value) { bind(index, std::string_view(value)); }
  void bind(int index, const char* value) { bind(index, std::string_view(value)); }
  void bind(int index, OptionalText value);
  void bind(int index, Blob value);
  template <class T>
  void bind(int index, const std::optional<T>& value) {
    value ? bind(index, *value) : bind_null(index);
  }
  void bind_null(int index);
  void check(int code) const;

  Connection* connection_ = nullptr;
  sqlite3_stmt* handle_ = nullptr;
};

class Connection {
 public:
  enum class Mode {
    read_write,
    read_only,
  };
  Connection(std::string path, Mode mode);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void execute(const std::string& sql);
  /// The statement for `sql`, prepared once. The reference lives as long as the connection.
  Statement& prepared(std::string_view sql);
  [[nodiscard]] std::int64_t integer(std::string_view sql);  ///< first column of the first row; 0 when there is none
  [[nodiscard]] std::int64_t changes() const;                ///< rows the last statement changed
  [[nodiscard]] std::int64_t total_changes() const;
  [[nodiscard]] bool in_transaction() const;
  /// Ends the open transaction, if there is one, without effect.
  void roll_back() noexcept;
  /// The file's first bytes as they are, without a lock or a look into its log; fewer when it is shorter. Through
  /// SQLite, because closing any other descriptor of the file would drop all locks that this process, and so a store
  /// it has open, holds on it (fcntl(2), "record locks").
  [[nodiscard]] std::string first_bytes(std::size_t count);
  [[noreturn]] void fail(int code, std::string operation) const;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] sqlite3* handle() const { return handle_; }

 private:
  std::string path_;
  sqlite3* handle_ = nullptr;
  std::unordered_map<std::string_view, std::unique_ptr<Statement>> statements_;
  std::unordered_map<std::string_view, std::unique_ptr<std::string>> texts_;
};

}  // namespace millrace::store::sqlite
