// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The files around the database: who may open it, whose turn it is to write, how much room is left.

#include <cstdint>
#include <string>
#include <string_view>

namespace millrace::store::sqlite {

/// Makes the directory of `path` (0700) and its parents where missing. \throws Error{permission_denied | unavailable}
void make_directory_of(const std::string& path);

/// `<path>.lock`: record locks of open file descriptions (fcntl(2), F_OFD_SETLK), which the kernel drops with the
/// process and which two stores in one process hold apart. Its text is the pid of the owner.
class LockFile {
 public:
  explicit LockFile(const std::string& store_path);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  /// \throws Error{busy} naming the pid of the process that owns the store.
  void become_owner();

  /// Whether a process has the store open, this one included. Changes nothing.
  static bool anybody(const std::string& store_path);

  /// Registers as one of the processes that have the store open. True when there was no other: then nobody else gets
  /// past this call until `let_others_in`.
  bool enter();
  void let_others_in();
  /// True when nobody else has it open; then nobody gets in until this object dies.
  bool is_last();

  /// Waits for the turn to write: a turnstile of two locks. Whoever is next holds `next` and waits for `now`, so a
  /// process that has just written stands behind one that waited meanwhile.
  class Turn {
   public:
    explicit Turn(LockFile& file);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    LockFile& file_;
  };

 private:
  enum Byte : int { kOwner = 0, kUsers = 1, kNext = 2, kNow = 3 };
  bool lock(Byte byte, short type, bool wait);

  std::string path_;
  int fd_ = -1;
};

/// A file on its way: `<path>.<word>-<uuid>` until it is complete and has its name. Whatever happens, a file that has
/// the name is whole; unless the process is killed, nothing else is left.
class Draft {
 public:
  /// \throws Error{read_only | permission_denied | store_full | not_found | unavailable}
  Draft(std::string operation, std::string path, std::string_view word);
  ~Draft();
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  [[nodiscard]] const std::string& path() const { return draft_; }
  void copy_from(const std::string& other);
  void sync();  ///< \throws Error{unavailable | store_full}
  /// Syncs it, gives it its name and syncs the directory. False when the name is taken: that file stays.
  bool publish();

 private:
  std::string operation_;
  std::string path_;
  std::string draft_;
  int fd_ = -1;
};

/// Bytes still writable where `path` lies, and the size of that file system.
struct DiskSpace {
  std::uint64_t free = 0;
  std::uint64_t total = 0;
};
DiskSpace disk_space(const std::string& path);

}  // namespace millrace::store::sqlite
