// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the preloaded library knows: which descriptors belong to the watched folder, the journal of what was done to
/// its files, and the fault that is armed. The functions that stand in for the C library's are in disk_shim.cpp.
///
/// Environment:
///   MILLRACE_SHIM_DIR         the watched folder (absolute, resolved); without it nothing is watched
///   MILLRACE_SHIM_JOURNAL     file to which every change and sync of a watched file is appended (see disk_image.py)
///   MILLRACE_SHIM_KILL_AT     the n-th journal entry is not made: the process kills itself instead
///   MILLRACE_SHIM_FAIL_SYNC   "3,17": these syncs of files answer EIO, once each, and what they were to sync is lost
///   MILLRACE_SHIM_SYNC_US     a sync takes so many microseconds and does not reach the real disk
///   MILLRACE_SHIM_SWALLOW     "file" or "directory": such syncs answer success and are not journalled (a saboteur)

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace millrace::faults {

/// The system calls a fault can strike. The letters are what reports print.
enum class Call : unsigned char {
  none = 0,
  open = 'o',
  create = 'c',
  read = 'r',
  write = 'w',
  truncate = 't',
  allocate = 'a',
  sync = 's',
  map = 'm',
  stat = 'i',
  lock = 'l',
  link = 'n',
  unlink = 'u',
};

/// A descriptor's place in the journal. 0: not watched.
struct Watched {
  std::uint64_t handle = 0;
  bool directory = false;
  bool scratch = false;  ///< "-shm": shared memory that no crash need preserve; not journalled
  explicit operator bool() const { return handle != 0; }
};

/// The path as an absolute one when it lies in the watched folder (or is it), else empty.
std::string watched_path(int directory_fd, const char* path);
Watched watched(int fd);
void watch(int fd, const Watched& file);
std::uint64_t new_handle();

/// Held around a change and its journal entry, so that the journal has the order of the changes.
std::mutex& order();

/// Appends an entry; `order()` is held. Kills the process instead when its time has come.
void journal(char what, const Watched& file, std::int64_t offset, std::int64_t length, std::string_view name = {},
             const void* data = nullptr, std::size_t size = 0);
bool journalling();

/// What a sync shall do.
enum class SyncFate { proceed, fail, swallow };
SyncFate sync_fate(const Watched& file);
/// Microseconds a sync takes; negative: the real one is made.
long sync_microseconds();

/// A short write, in place of an errno.
inline constexpr int kShortWrite = -1;
/// What strikes this call: 0 = nothing, an errno, or kShortWrite. Counts the call while a fault is armed.
int fault(Call call);

}  // namespace millrace::faults

/// For the program under test, found by dlsym; see io_fault_driver.cpp.
extern "C" {
/// Arms: the `nth` watched call from now on (or the first behind it that can fail so) fails with `error`, and with
/// `persistent` every later one that can. `nth` = 0 only counts.
void millrace_faults_arm(unsigned long nth, int error, int persistent);
/// Ends it. Returns how many calls were watched since; `struck`: how many failed.
unsigned long millrace_faults_disarm(unsigned long* struck);
/// The kind (a letter of Call) of the n-th call since it was armed; 0 when there was none.
unsigned char millrace_faults_kind(unsigned long n);
}
