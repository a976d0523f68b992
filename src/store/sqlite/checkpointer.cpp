// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/checkpointer.hpp"

#include <sqlite3.h>

#include <utility>

#include "base/log.hpp"

namespace millrace::store::sqlite {
namespace {

/// A log this long is moved beside the running writer.
constexpr std::uint64_t kPassiveBytes = 8 << 20;
/// With the writer running there is always a rest that was written meanwhile, and the log begins anew only when there
/// is none: at this length the writer is held for the moment the rest takes.
constexpr std::uint64_t kPauseBytes = 64 << 20;
/// Every publisher waits out that moment. Before it, passes beside the writer are repeated, each shorter than the last
/// one because less was written meanwhile, until no more than this is left,
constexpr std::uint64_t kRestBytes = 2 << 20;
/// or the writer is as fast as they are.
constexpr int kPasses = 4;
/// Where the log grows faster than the disk takes it, the writer is held from here on until it is moved.
constexpr std::uint64_t kHoldBytes = 128 << 20;

/// How much of the log has been moved since it began anew, in bytes as on_commit counts them.
std::uint64_t move_log(Connection& connection) {
  int frames = 0;
  const int code = sqlite3_wal_checkpoint_v2(connection.handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, &frames);
  if (code != SQLITE_OK && (code & 0xFF) != SQLITE_BUSY) connection.fail(code, "checkpoint");
  const std::int64_t page = connection.integer("PRAGMA page_size");
  return frames > 0 ? static_cast<std::uint64_t>(frames) * static_cast<std::uint64_t>(page) : 0;
}

}  // namespace

Checkpointer::Checkpointer(std::string path, Writer& writer) : path_(std::move(path)), writer_(writer) {
  thread_ = std::thread([this] { run(); });
}

Checkpointer::~Checkpointer() {
  stop();
}

void Checkpointer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Checkpointer::committed(std::uint64_t wal_bytes) {
  {
    const std::lock_guard lock(mutex_);
    wal_bytes_ = wal_bytes;
    if (wal_bytes < moved_at_) moved_at_ = 0;  // it began anew
    const bool more = !due_ && (wal_bytes >= moved_at_ + kPassiveBytes || wanted_.exchange(false));
    if (more) {
      due_ = true;
      moved_at_ = wal_bytes;
    }
    if (due_ && !holds_ && wal_bytes >= kHoldBytes) {
      holds_ = true;
      writer_.hold();
    }
    if (!more) return;
  }
  wake_.notify_one();
}

void Checkpointer::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return due_ || stopping_; });
    if (stopping_) break;
    lock.unlock();
    bool failed = false;
    try {
      checkpoint();
    } catch (const Error& error) {
      log::write(log::Level::warn, error);
      if (error.code() == Errc::outcome_unknown) writer_.distrust_log();
      connection_.reset();
      failed = true;
    }
    lock.lock();
    due_ = false;
    if (std::exchange(holds_, false)) writer_.resume();
    ++(failed ? figures_.failed : figures_.checkpoints);
  }
  connection_.reset();
}

void Checkpointer::checkpoint() {
  if (!connection_) {
    connection_ = std::make_unique<Connection>(path_, Connection::Mode::read_write);
    connection_->execute("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0");
  }
  for (int pass = 1;; ++pass) {
    const std::uint64_t moved = move_log(*connection_);
    const std::lock_guard lock(mutex_);
    if (wal_bytes_ < kPauseBytes) return;  // as long as it has become meanwhile
    if (pass == kPasses || wal_bytes_ <= moved + kRestBytes) break;
  }
  const Writer::Pause pause(writer_);
  move_log(*connection_);
  const std::lock_guard lock(mutex_);
  ++figures_.pauses;
}

Checkpointer::Figures Checkpointer::figures() const {
  const std::lock_guard lock(mutex_);
  return figures_;
}

}  // namespace millrace::store::sqlite
