// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A disk that fails on demand: SQLite's own files behind a layer (https://www.sqlite.org/vfs.html) that can be told to
/// refuse syncs, writes or reads. Stands in for the default one while it lives; one at a time.

#include <sqlite3.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace millrace::test {

class FailingDisk {
 public:
  enum class What { nothing, sync, write, read };

  FailingDisk() : real_(sqlite3_vfs_find(nullptr)) {
    vfs_ = *real_;
    vfs_.zName = "millrace-failing-disk";
    vfs_.szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
    vfs_.pNext = nullptr;
    vfs_.pAppData = this;
    vfs_.xOpen = &open;
    if (sqlite3_vfs_register(&vfs_, 1) != SQLITE_OK) throw std::runtime_error("cannot register the failing disk");
  }
  ~FailingDisk() {
    sqlite3_vfs_unregister(&vfs_);
    sqlite3_vfs_register(real_, 1);
  }
  FailingDisk(const FailingDisk&) = delete;
  FailingDisk& operator=(const FailingDisk&) = delete;

  /// From now on `what` fails, for files whose name ends in `suffix`, the next `times` times.
  void fail(What what, int times = 1 << 30, std::string suffix = "-wal") {
    what_ = What::nothing;
    suffix_ = std::move(suffix);
    left_ = times;
    what_ = what;
  }
  void heal() { what_ = What::nothing; }
  [[nodiscard]] int failures() const { return failures_; }

 private:
  struct File {
    sqlite3_file base;
    FailingDisk* disk;
    const char* name;  ///< SQLite keeps it as long as the file is open
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
  };
  static File* of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }

  bool fails(What what, const char* name) {
    if (what_ != what || !name) return false;
    const std::string text = name;
    if (!text.ends_with(suffix_) || left_.fetch_sub(1) <= 0) return false;
    ++failures_;
    return true;
  }

  static int open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out) {
    auto* disk = static_cast<FailingDisk*>(vfs->pAppData);
    File* mine = new (file) File{{nullptr}, disk, name};
    std::memset(mine->real(), 0, static_cast<std::size_t>(disk->real_->szOsFile));
    const int code = disk->real_->xOpen(disk->real_, name, mine->real(), flags, out);
    mine->base.pMethods = mine->real()->pMethods ? &methods() : nullptr;
    return code;
  }

  /// Everything goes to the real file; only syncs and writes may not.
  static const sqlite3_io_methods& methods() {
    static const sqlite3_io_methods all = [] {
      sqlite3_io_methods m{};
      m.iVersion = 3;
      m.xClose = [](sqlite3_file* f) { return of(f)->real()->pMethods->xClose(of(f)->real()); };
      m.xRead = [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
        if (of(f)->disk->fails(What::read, of(f)->name)) {
          of(f)->disk->read_refused_ = true;
          return SQLITE_IOERR_CORRUPTFS;  // what os_unix.c makes of EIO
        }
        return of(f)->real()->pMethods->xRead(of(f)->real(), to, n, at);
      };
      m.xWrite = [](sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
        if (of(f)->disk->fails(What::write, of(f)->name)) return SQLITE_FULL;
        return of(f)->real()->pMethods->xWrite(of(f)->real(), from, n, at);
      };
      m.xTruncate = [](sqlite3_file* f, sqlite3_int64 n) {
        return of(f)->real()->pMethods->xTruncate(of(f)->real(), n);
      };
      m.xSync = [](sqlite3_file* f, int flags) {
        if (of(f)->disk->fails(What::sync, of(f)->name)) return SQLITE_IOERR_FSYNC;
        return of(f)->real()->pMethods->xSync(of(f)->real(), flags);
      };
      m.xFileSize = [](sqlite3_file* f, sqlite3_int64* n) {
        return of(f)->real()->pMethods->xFileSize(of(f)->real(), n);
      };
      m.xLock = [](sqlite3_file* f, int l) { return of(f)->real()->pMethods->xLock(of(f)->real(), l); };
      m.xUnlock = [](sqlite3_file* f, int l) { return of(f)->real()->pMethods->xUnlock(of(f)->real(), l); };
      m.xCheckReservedLock = [](sqlite3_file* f, int* out) {
        return of(f)->real()->pMethods->xCheckReservedLock(of(f)->real(), out);
      };
      m.xFileControl = [](sqlite3_file* f, int op, void* arg) {
        if (op == SQLITE_FCNTL_LAST_ERRNO && of(f)->disk->read_refused_.exchange(false)) {
          *static_cast<int*>(arg) = EIO;
          return SQLITE_OK;
        }
        return of(f)->real()->pMethods->xFileControl(of(f)->real(), op, arg);
      };
      m.xSectorSize = [](sqlite3_file* f) { return of(f)->real()->pMethods->xSectorSize(of(f)->real()); };
      m.xDeviceCharacteristics = [](sqlite3_file* f) {
        return of(f)->real()->pMethods->xDeviceCharacteristics(of(f)->real());
      };
      m.xShmMap = [](sqlite3_file* f, int page, int size, int extend, void volatile** out) {
        return of(f)->real()->pMethods->xShmMap(of(f)->real(), page, size, extend, out);
      };
      m.xShmLock = [](sqlite3_file* f, int at, int n, int flags) {
        return of(f)->real()->pMethods->xShmLock(of(f)->real(), at, n, flags);
      };
      m.xShmBarrier = [](sqlite3_file* f) { of(f)->real()->pMethods->xShmBarrier(of(f)->real()); };
      m.xShmUnmap = [](sqlite3_file* f, int remove) {
        return of(f)->real()->pMethods->xShmUnmap(of(f)->real(), remove);
      };
      m.xFetch = [](sqlite3_file* f, sqlite3_int64 at, int n, void** out) {
        return of(f)->real()->pMethods->xFetch(of(f)->real(), at, n, out);
      };
      m.xUnfetch = [](sqlite3_file* f, sqlite3_int64 at, void* page) {
        return of(f)->real()->pMethods->xUnfetch(of(f)->real(), at, page);
      };
      return m;
    }();
    return all;
  }

  sqlite3_vfs* real_;
  sqlite3_vfs vfs_{};
  std::string suffix_;
  std::atomic<What> what_{What::nothing};
  std::atomic<int> left_{0};
  std::atomic<int> failures_{0};
  std::atomic<bool> read_refused_{false};
};

}  // namespace millrace::test
