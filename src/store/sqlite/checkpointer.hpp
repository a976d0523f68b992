// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Moves commits from the write-ahead log into the database file on a connection and a thread of its own, so that no
/// commit waits for it, and keeps the log from growing without bound.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "store/sqlite/database.hpp"
#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {

class Checkpointer {
 public:
  Checkpointer(std::string path, Writer& writer);
  ~Checkpointer();  ///< stop()
  void stop();
  /// Thread-safe and cheap; called after each commit.
  void committed(std::uint64_t wal_bytes);

  /// From within a transaction: move the log after its commit, however short it is.
  void want() { wanted_ = true; }

  struct Figures {
    std::uint64_t checkpoints = 0;
    std::uint64_t failed = 0;
    std::uint64_t pauses = 0;  ///< times the writer was held for a moment so that the log could begin anew
  };
  [[nodiscard]] Figures figures() const;

 private:
  void run();
  void checkpoint();

  std::string path_;
  Writer& writer_;
  std::unique_ptr<Connection> connection_;  ///< the thread's
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::uint64_t wal_bytes_ = 0;
  std::uint64_t moved_at_ = 0;  ///< length of the log at the last checkpoint, since it began anew
  std::atomic<bool> wanted_{false};
  bool due_ = false;
  bool holds_ = false;  ///< the writer, because the log is very long
  bool stopping_ = false;
  Figures figures_;
  std::thread thread_;
};

}  // namespace millrace::store::sqlite
