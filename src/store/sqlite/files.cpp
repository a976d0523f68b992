// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "millrace/error.hpp"

namespace millrace::store::sqlite {
namespace {

[[noreturn]] void fail(int error, const std::string& path, const std::string& what) {
  const bool denied = error == EACCES || error == EPERM;
  const Errc code = error == EROFS                       ? Errc::read_only
                    : denied                             ? Errc::permission_denied
                    : error == ENOSPC || error == EDQUOT ? Errc::store_full
                    : error == ENOENT                    ? Errc::not_found
                                                         : Errc::unavailable;
  throw Error(code, "open store", path,
              what + (denied ? "; check the permissions of the directory, or name another store" : ""),
              std::generic_category().message(error));
}

}  // namespace

void make_directory_of(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) return;
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return;
  make_directory_of(folder.string());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    fail(errno, folder.string(), "cannot create the directory");
}

LockFile::LockFile(const std::string& store_path) : path_(store_path + ".lock") {
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ < 0) fail(errno, path_, "cannot open the lock file");
}

LockFile::~LockFile() {
  ::close(fd_);
}

bool LockFile::lock(Byte byte, short type, bool wait) {
  struct flock request {};
  request.l_type = type;
  request.l_whence = SEEK_SET;
  request.l_start = byte;
  request.l_len = 1;
  while (::fcntl(fd_, wait ? F_OFD_SETLKW : F_OFD_SETLK, &request) != 0) {
    if (errno == EINTR) continue;
    if (!wait && (errno == EAGAIN || errno == EACCES)) return false;
    fail(errno, path_, "cannot lock");
  }
  return true;
}

void LockFile::become_owner() {
  if (!lock(kOwner, F_WRLCK, false)) {
    char text[32] = {};
    const ssize_t size = ::pread(fd_, text, sizeof text - 1, 0);
    const std::string pid(text, size > 0 ? static_cast<std::size_t>(size) : 0);
    const std::string who = pid.substr(0, pid.find_first_not_of("0123456789"));
    throw Error(Errc::busy, "open store", path_,
                "the store is owned by another process" + (who.empty() ? std::string() : ", pid " + who) +
                    "; stop that one, or open the store as a tool beside it");
  }
  const std::string text = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd_, 0) != 0) fail(errno, path_, "cannot write the lock file");
  const ssize_t written = ::pwrite(fd_, text.data(), text.size(), 0);
  if (written == static_cast<ssize_t>(text.size())) return;
  fail(written < 0 ? errno : ENOSPC, path_, "cannot write the lock file");  // a part of it: the disk is full
}

bool LockFile::enter() {
  if (lock(kUsers, F_WRLCK, false)) return true;
  lock(kUsers, F_RDLCK, true);
  return false;
}

void LockFile::let_others_in() {
  lock(kUsers, F_RDLCK, true);
}

bool LockFile::is_last() {
  return lock(kUsers, F_WRLCK, false);
}

LockFile::Turn::Turn(LockFile& file) : file_(file) {
  file_.lock(kNext, F_WRLCK, true);
  file_.lock(kNow, F_WRLCK, true);
  file_.lock(kNext, F_UNLCK, true);
}

LockFile::Turn::~Turn() {
  try {
    file_.lock(kNow, F_UNLCK, true);
  } catch (const Error&) {
    // Unlocking an open file description cannot fail; were it to, the lock ends with the process.
  }
}

DiskSpace disk_space(const std::string& path) {
  struct statvfs space {};
  if (::statvfs(path.c_str(), &space) != 0) fail(errno, path, "cannot ask for the free space");
  return {static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize,
          static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize};
}

}  // namespace millrace::store::sqlite
