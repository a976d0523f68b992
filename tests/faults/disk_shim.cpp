// SPDX-License-Identifier: Apache-2.0
//
// The preloaded library: stands between a program and the files of one folder. Every change is done to the real files,
// so that the program runs on as always, and written to a journal, from which disk_image.py makes the disk that a power
// cut would have left. Or it lets single calls fail. It knows nothing of Millrace or SQLite, only the C library.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include "disk_shim_state.hpp"

using namespace millrace::faults;  // NOLINT: this file is nothing else

// The next definition of the function of that name, looked up once.
#define REAL(name) static auto* const real_##name = reinterpret_cast<decltype(&::name)>(dlsym(RTLD_NEXT, #name))

namespace {

bool strikes(Call call) {
  const int error = fault(call);
  if (error == 0) return false;
  errno = error;
  return true;
}

int open_watched(int (*real_openat)(int, const char*, int, ...), int directory, const char* path, int flags,
                 mode_t mode) {
  const std::string full = watched_path(directory, path);
  if (full.empty()) return real_openat(directory, path, flags, mode);
  const bool there = access(full.c_str(), F_OK) == 0;
  if (strikes((flags & O_CREAT) != 0 && !there ? Call::create : Call::open)) return -1;
  const std::lock_guard guard(order());
  const bool existed = access(full.c_str(), F_OK) == 0;
  const int fd = real_openat(directory, path, flags, mode);
  if (fd < 0) return fd;
  struct stat about {};
  REAL(fstat);
  if (real_fstat(fd, &about) != 0) return fd;
  const Watched file{new_handle(), S_ISDIR(about.st_mode), full.ends_with("-shm")};
  watch(fd, file);
  journal('o', file, existed ? 0 : 1, file.directory ? 1 : 0, full);
  if ((flags & O_TRUNC) != 0) journal('t', file, 0, 0);
  return fd;
}

ssize_t write_watched(int fd, const Watched& file, const void* data, std::size_t size, off64_t at) {
  REAL(pwrite64);
  REAL(write);
  const int error = fault(Call::write);
  if (error == kShortWrite) {
    size /= 2;
    if (size == 0) {
      errno = ENOSPC;
      return -1;
    }
  } else if (error != 0) {
    errno = error;
    return -1;
  }
  if (file.scratch || !journalling()) return at < 0 ? real_write(fd, data, size) : real_pwrite64(fd, data, size, at);
  const std::lock_guard guard(order());
  if (at < 0) {
    const int flags = fcntl(fd, F_GETFL);
    at = lseek64(fd, 0, (flags & O_APPEND) != 0 ? SEEK_END : SEEK_CUR);
    const ssize_t done = real_write(fd, data, size);
    if (done > 0) journal('w', file, at, done, {}, data, static_cast<std::size_t>(done));
    return done;
  }
  const ssize_t done = real_pwrite64(fd, data, size, at);
  if (done > 0) journal('w', file, at, done, {}, data, static_cast<std::size_t>(done));
  return done;
}

int sync_watched(int fd, const Watched& file, int (*real_sync)(int)) {
  if (strikes(Call::sync)) return -1;
  const SyncFate fate = sync_fate(file);
  if (fate == SyncFate::swallow) return 0;
  if (journalling()) {
    const std::lock_guard guard(order());
    // What was written before this entry is on disk once the answer's entry is there.
    journal(fate == SyncFate::fail ? 'f' : 's', file, 0, 0);
  }
  if (fate == SyncFate::fail) {
    errno = EIO;
    return -1;
  }
  const long microseconds = sync_microseconds();
  const int answer = microseconds < 0 ? real_sync(fd) : 0;
  if (microseconds > 0) usleep(static_cast<useconds_t>(microseconds));
  if (answer == 0 && journalling()) {
    const std::lock_guard guard(order());
    journal('e', file, 0, 0);
  }
  return answer;
}

int truncate_watched(int fd, const Watched& file, off64_t size) {
  REAL(ftruncate64);
  if (strikes(Call::truncate)) return -1;
  if (file.scratch) return real_ftruncate64(fd, size);
  const std::lock_guard guard(order());
  const int answer = real_ftruncate64(fd, size);
  if (answer == 0) journal('t', file, size, 0);
  return answer;
}

void journal_names(char what, const std::string& from, const std::string& to) {
  journal(what, {}, 0, 0, from + '\0' + to);
}

void forbid(const char* call) {
  if (!journalling()) return;
  std::fprintf(stderr, "disk shim: %s on a watched file is not journalled\n", call);
  const std::lock_guard guard(order());
  journal('x', {}, 0, 0, call);
}

}  // namespace

extern "C" {

int openat(int directory, const char* path, int flags, ...) {
  REAL(openat);
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_watched(real_openat, directory, path, flags, mode);
}
int openat64(int directory, const char* path, int flags, ...) {
  REAL(openat);
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_watched(real_openat, directory, path, flags, mode);
}
int open(const char* path, int flags, ...) {
  REAL(openat);
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_watched(real_openat, AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  REAL(openat);
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_watched(real_openat, AT_FDCWD, path, flags, mode);
}
int creat(const char* path, mode_t mode) {
  return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int close(int fd) {
  REAL(close);
  watch(fd, {});
  return real_close(fd);
}
int dup(int fd) {
  REAL(dup);
  const int copy = real_dup(fd);
  watch(copy, watched(fd));
  return copy;
}
int dup2(int fd, int to) {
  REAL(dup2);
  const int copy = real_dup2(fd, to);
  if (copy != fd) watch(copy, watched(fd));
  return copy;
}
int dup3(int fd, int to, int flags) {
  REAL(dup3);
  const int copy = real_dup3(fd, to, flags);
  watch(copy, watched(fd));
  return copy;
}

static int fcntl_any(int fd, int command, void* argument) {
  REAL(fcntl64);
  const bool sets_lock = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
  // Letting go never fails: nothing is asked of anybody.
  if (sets_lock && watched(fd) && static_cast<const struct flock*>(argument)->l_type != F_UNLCK &&
      strikes(Call::lock)) {
    return -1;
  }
  const int answer = real_fcntl64(fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) watch(answer, watched(fd));
  return answer;
}
int fcntl(int fd, int command, ...) {
  va_list more;
  va_start(more, command);
  void* argument = va_arg(more, void*);
  va_end(more);
  return fcntl_any(fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
  va_list more;
  va_start(more, command);
  void* argument = va_arg(more, void*);
  va_end(more);
  return fcntl_any(fd, command, argument);
}

// Streams of the C++ library open through these and then read and write by descriptor.
FILE* fopen(const char* path, const char* mode) {
  REAL(fopen);
  const std::string full = watched_path(AT_FDCWD, path);
  if (!full.empty() && *mode != 'r') forbid("fopen for writing");
  if (!full.empty() && strikes(Call::open)) return nullptr;
  FILE* const file = real_fopen(path, mode);
  if (file) watch(fileno(file), full.empty() ? Watched{} : Watched{new_handle(), false, true});
  return file;
}
FILE* fopen64(const char* path, const char* mode) {
  return fopen(path, mode);
}
int fclose(FILE* file) {
  REAL(fclose);
  watch(fileno(file), {});
  return real_fclose(file);
}

ssize_t write(int fd, const void* data, std::size_t size) {
  REAL(write);
  const Watched file = watched(fd);
  return file ? write_watched(fd, file, data, size, -1) : real_write(fd, data, size);
}
ssize_t pwrite(int fd, const void* data, std::size_t size, off_t at) {
  REAL(pwrite);
  const Watched file = watched(fd);
  return file ? write_watched(fd, file, data, size, at) : real_pwrite(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void* data, std::size_t size, off64_t at) {
  REAL(pwrite64);
  const Watched file = watched(fd);
  return file ? write_watched(fd, file, data, size, at) : real_pwrite64(fd, data, size, at);
}
ssize_t writev(int fd, const iovec* parts, int count) {
  REAL(writev);
  const Watched file = watched(fd);
  if (!file) return real_writev(fd, parts, count);
  std::string all;
  for (int i = 0; i < count; ++i) all.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  return write_watched(fd, file, all.data(), all.size(), -1);
}
ssize_t pwritev(int fd, const iovec* parts, int count, off_t at) {
  REAL(pwritev);
  const Watched file = watched(fd);
  if (!file) return real_pwritev(fd, parts, count, at);
  std::string all;
  for (int i = 0; i < count; ++i) all.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  return write_watched(fd, file, all.data(), all.size(), at);
}

ssize_t read(int fd, void* to, std::size_t size) {
  REAL(read);
  if (watched(fd) && strikes(Call::read)) return -1;
  return real_read(fd, to, size);
}
ssize_t pread(int fd, void* to, std::size_t size, off_t at) {
  REAL(pread);
  if (watched(fd) && strikes(Call::read)) return -1;
  return real_pread(fd, to, size, at);
}
ssize_t pread64(int fd, void* to, std::size_t size, off64_t at) {
  REAL(pread64);
  if (watched(fd) && strikes(Call::read)) return -1;
  return real_pread64(fd, to, size, at);
}

int ftruncate(int fd, off_t size) noexcept {
  REAL(ftruncate);
  const Watched file = watched(fd);
  return file ? truncate_watched(fd, file, size) : real_ftruncate(fd, size);
}
int ftruncate64(int fd, off64_t size) noexcept {
  REAL(ftruncate64);
  const Watched file = watched(fd);
  return file ? truncate_watched(fd, file, size) : real_ftruncate64(fd, size);
}
int truncate(const char* path, off_t size) noexcept {
  REAL(truncate);
  if (!watched_path(AT_FDCWD, path).empty()) forbid("truncate");
  return real_truncate(path, size);
}
int fallocate(int fd, int mode, off_t at, off_t size) {
  REAL(fallocate);
  const Watched file = watched(fd);
  if (file && strikes(Call::allocate)) return -1;
  const std::lock_guard guard(order());
  const int answer = real_fallocate(fd, mode, at, size);
  if (answer == 0 && file && !file.scratch)
    journal(mode == 0 ? 'a' : 'x', file, at, size, mode == 0 ? "" : "fallocate");
  return answer;
}
int posix_fallocate(int fd, off_t at, off_t size) {
  REAL(posix_fallocate);
  const Watched file = watched(fd);
  if (file && strikes(Call::allocate)) return errno;
  const std::lock_guard guard(order());
  const int answer = real_posix_fallocate(fd, at, size);
  if (answer == 0 && file && !file.scratch) journal('a', file, at, size);
  return answer;
}
int posix_fallocate64(int fd, off64_t at, off64_t size) {
  return posix_fallocate(fd, at, size);
}

int fsync(int fd) {
  REAL(fsync);
  const Watched file = watched(fd);
  return file ? sync_watched(fd, file, real_fsync) : real_fsync(fd);
}
int fdatasync(int fd) {
  REAL(fdatasync);
  const Watched file = watched(fd);
  return file ? sync_watched(fd, file, real_fdatasync) : real_fdatasync(fd);
}

void* mmap64(void* address, std::size_t size, int protection, int flags, int fd, off64_t at) noexcept {
  REAL(mmap64);
  const Watched file = (flags & MAP_ANONYMOUS) != 0 ? Watched{} : watched(fd);
  if (file) {
    if (strikes(Call::map)) return MAP_FAILED;
    if (!file.scratch && (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0) forbid("a shared writable mmap");
  }
  return real_mmap64(address, size, protection, flags, fd, at);
}
void* mmap(void* address, std::size_t size, int protection, int flags, int fd, off_t at) noexcept {
  return mmap64(address, size, protection, flags, fd, at);
}

int fstat(int fd, struct stat* about) noexcept {
  REAL(fstat);
  if (watched(fd) && strikes(Call::stat)) return -1;
  return real_fstat(fd, about);
}
int fstat64(int fd, struct stat64* about) noexcept {
  REAL(fstat64);
  if (watched(fd) && strikes(Call::stat)) return -1;
  return real_fstat64(fd, about);
}

int rename(const char* from, const char* to) noexcept {
  REAL(rename);
  const std::string a = watched_path(AT_FDCWD, from), b = watched_path(AT_FDCWD, to);
  if (a.empty() && b.empty()) return real_rename(from, to);
  if (a.empty() != b.empty()) forbid("a rename across the folder's border");
  if (strikes(Call::link)) return -1;
  const std::lock_guard guard(order());
  const int answer = real_rename(from, to);
  if (answer == 0) journal_names('r', a, b);
  return answer;
}
int link(const char* from, const char* to) noexcept {
  REAL(link);
  const std::string a = watched_path(AT_FDCWD, from), b = watched_path(AT_FDCWD, to);
  if (a.empty() && b.empty()) return real_link(from, to);
  if (a.empty() != b.empty()) forbid("a link across the folder's border");
  if (strikes(Call::link)) return -1;
  const std::lock_guard guard(order());
  const int answer = real_link(from, to);
  if (answer == 0) journal_names('l', a, b);
  return answer;
}
int unlink(const char* path) noexcept {
  REAL(unlink);
  const std::string full = watched_path(AT_FDCWD, path);
  if (full.empty()) return real_unlink(path);
  if (strikes(Call::unlink)) return -1;
  const std::lock_guard guard(order());
  const int answer = real_unlink(path);
  if (answer == 0) journal_names('u', full, {});
  return answer;
}
int unlinkat(int directory, const char* path, int flags) noexcept {
  REAL(unlinkat);
  const std::string full = watched_path(directory, path);
  if (full.empty()) return real_unlinkat(directory, path, flags);
  if (strikes(Call::unlink)) return -1;
  const std::lock_guard guard(order());
  const int answer = real_unlinkat(directory, path, flags);
  if (answer == 0) journal_names('u', full, {});
  return answer;
}
int remove(const char* path) noexcept {
  const int answer = unlink(path);
  return answer != 0 && (errno == EISDIR || errno == EPERM) ? rmdir(path) : answer;
}
int mkdir(const char* path, mode_t mode) noexcept {
  REAL(mkdir);
  const std::string full = watched_path(AT_FDCWD, path);
  if (!full.empty()) forbid("mkdir");
  return real_mkdir(path, mode);
}

// Ways around write that nothing here takes today; should one, the proof must not go blind.
ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at, std::size_t size, unsigned flags) {
  REAL(copy_file_range);
  if (watched(to)) forbid("copy_file_range");
  return real_copy_file_range(from, from_at, to, to_at, size, flags);
}
int renameat(int from_directory, const char* from, int to_directory, const char* to) noexcept {
  REAL(renameat);
  if (!watched_path(from_directory, from).empty() || !watched_path(to_directory, to).empty()) forbid("renameat");
  return real_renameat(from_directory, from, to_directory, to);
}
int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) noexcept {
  REAL(linkat);
  if (!watched_path(from_directory, from).empty() || !watched_path(to_directory, to).empty()) forbid("linkat");
  return real_linkat(from_directory, from, to_directory, to, flags);
}

}  // extern "C"
