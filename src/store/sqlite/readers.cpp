// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/readers.hpp"

namespace millrace::store::sqlite {

Readers::Loan::Loan(Readers& readers) : owner(readers) {
  {
    std::unique_lock lock(owner.mutex_);
    owner.returned_.wait(lock, [&] { return owner.lent_ < kMost; });
    ++owner.lent_;
    if (!owner.idle_.empty()) {
      connection = std::move(owner.idle_.back());
      owner.idle_.pop_back();
    }
  }
  try {
    if (!connection) connection = std::make_unique<Connection>(owner.path_, Connection::Mode::read_only);
    connection->prepared("BEGIN").run();
  } catch (...) {
    const std::lock_guard lock(owner.mutex_);
    --owner.lent_;
    owner.returned_.notify_one();
    throw;
  }
}

Readers::Loan::~Loan() {
  connection->roll_back();
  const std::lock_guard lock(owner.mutex_);
  --owner.lent_;
  owner.idle_.push_back(std::move(connection));
  owner.returned_.notify_one();
}

void Readers::close_idle() {
  const std::lock_guard lock(mutex_);
  idle_.clear();
}

}  // namespace millrace::store::sqlite
