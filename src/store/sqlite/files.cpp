// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/uuid.hpp"
#include "millrace/error.hpp"

namespace millrace::store::sqlite {
namespace {

[[noreturn]] void fail(int error, const std::string& path, const std::string& what,
                       const std::string& operation = "open store") {
  const bool denied = error == EACCES || error == EPERM;
  const Errc code = error == EROFS                       ? Errc::read_only
                    : denied                             ? Errc::permission_denied
                    : error == ENOSPC || error == EDQUOT ? Errc::store_full
                    : error == ENOENT                    ? Errc::not_found
                                                         : Errc::unavailable;
  throw Error(code, operation, path, what + (denied ? "; check the permissions, or name another place" : ""),
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

bool LockFile::anybody(const std::string& store_path) {
  const int fd = ::open((store_path + ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;  // nobody opens a store without it
  struct flock asked {};
  asked.l_type = F_WRLCK;
  asked.l_whence = SEEK_SET;
  asked.l_start = kUsers;
  asked.l_len = 1;
  const bool held = ::fcntl(fd, F_OFD_GETLK, &asked) == 0 && asked.l_type != F_UNLCK;
  ::close(fd);
  return held;
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

Draft::Draft(std::string operation, std::string path, std::string_view word)
    : operation_(std::move(operation)),
      path_(std::move(path)),
      draft_(path_ + "." + std::string(word) + "-" + new_uuid_v7()),
      fd_(::open(draft_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) {
  if (fd_ < 0) fail(errno, path_, "cannot create the file; check the directory and its free space", operation_);
}

Draft::~Draft() {
  ::close(fd_);
  for (const char* suffix : {"", "-journal", "-wal", "-shm"}) ::unlink((draft_ + suffix).c_str());
}

void Draft::copy_from(const std::string& other) {
  const int from = ::open(other.c_str(), O_RDONLY | O_CLOEXEC);
  if (from < 0) fail(errno, other, "cannot read the file", operation_);
  std::vector<char> buffer(1 << 20);
  ssize_t size = 0;
  int error = 0;
  while (error == 0 && (size = ::read(from, buffer.data(), buffer.size())) != 0) {
    if (size < 0) {
      error = errno == EINTR ? 0 : errno;
      continue;
    }
    for (ssize_t done = 0; error == 0 && done < size;) {
      const ssize_t written = ::write(fd_, buffer.data() + done, static_cast<std::size_t>(size - done));
      if (written > 0) done += written;
      if (written < 0 && errno != EINTR) error = errno;
    }
  }
  ::close(from);
  if (error != 0) fail(error, path_, "cannot copy " + other, operation_);
}

void Draft::sync() {
  if (::fdatasync(fd_) != 0) fail(errno, path_, "cannot sync the file; check the disk", operation_);
}

bool Draft::publish() {
  if (::fsync(fd_) != 0) fail(errno, path_, "cannot sync the file; check the disk", operation_);
  if (::link(draft_.c_str(), path_.c_str()) != 0) {
    if (errno == EEXIST) return false;
    fail(errno, path_, "cannot give the new file its name", operation_);
  }
  ::unlink(draft_.c_str());
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int failed = directory < 0 ? -1 : ::fsync(directory);
  const int error = errno;
  if (directory >= 0) ::close(directory);
  if (failed != 0) fail(error, path_, "cannot sync the directory of the new file", operation_);
  return true;
}

DiskSpace disk_space(const std::string& path) {
  struct statvfs space {};
  if (::statvfs(path.c_str(), &space) != 0) fail(errno, path, "cannot ask for the free space");
  return {static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize,
          static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize};
}

}  // namespace millrace::store::sqlite
