// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A few read-only connections beside the writer, each lent to one caller at a time. Thread-safe.

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "store/sqlite/database.hpp"

namespace millrace::store::sqlite {

class Readers {
 public:
  explicit Readers(std::string path) : path_(std::move(path)) {}

  /// Closes what is not lent. A connection that can only read cannot tidy up, so these go before the last writing one.
  void close_idle();

  /// Runs `function(Connection&)` in a read transaction: everything it sees is of one moment. Waits while all
  /// connections are lent.
  template <class Function>
  auto read(Function function) {
    const Loan loan(*this);
    return function(*loan.connection);
  }

 private:
  static constexpr std::size_t kMost = 4;

  struct Loan {
    explicit Loan(Readers& readers);
    ~Loan();
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    Readers& owner;
    std::unique_ptr<Connection> connection;
  };

  std::string path_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Connection>> idle_;
  std::size_t lent_ = 0;
};

}  // namespace millrace::store::sqlite
