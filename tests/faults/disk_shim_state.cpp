// SPDX-License-Identifier: Apache-2.0
#include "disk_shim_state.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <set>

namespace millrace::faults {
namespace {

constexpr int kMostDescriptors = 65536;
constexpr std::size_t kMostKinds = 1 << 20;

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

long number(const char* name, long otherwise) {
  const char* value = environment(name);
  return value ? std::strtol(value, nullptr, 10) : otherwise;
}

/// One word per descriptor: the handle, and two bits.
struct State {
  std::string folder = environment("MILLRACE_SHIM_DIR") ? environment("MILLRACE_SHIM_DIR") : "";
  const char* journal_path = environment("MILLRACE_SHIM_JOURNAL");
  long kill_at = number("MILLRACE_SHIM_KILL_AT", -1);
  long sync_us = number("MILLRACE_SHIM_SYNC_US", -1);
  std::string swallow = environment("MILLRACE_SHIM_SWALLOW") ? environment("MILLRACE_SHIM_SWALLOW") : "";
  std::set<long> failing_syncs = {};
  std::array<std::atomic<std::uint64_t>, kMostDescriptors> files = {};
  std::atomic<std::uint64_t> handles{0};
  std::atomic<long> syncs{0};
  std::mutex order = {};
  int journal_fd = -1;
  long entries = 0;

  // The armed fault.
  std::mutex fault_lock = {};
  std::atomic<bool> armed{false};
  unsigned long count = 0, nth = 0, struck = 0;
  int error = 0;
  bool persistent = false, done = false;
  std::array<unsigned char, kMostKinds> kinds = {};

  State() {
    if (const char* list = environment("MILLRACE_SHIM_FAIL_SYNC")) {
      for (const char* at = list; *at;) {
        char* end = nullptr;
        failing_syncs.insert(std::strtol(at, &end, 10));
        at = *end ? end + 1 : end;
      }
    }
  }
};

/// Never destroyed: calls come until the very end of the process.
State& state() {
  static State* const all = new State;
  return *all;
}

/// The C library's own, past the functions of this library.
template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

[[noreturn]] void die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/// Loudly: a journal with a hole proves nothing.
[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "disk shim: %s: %s\n", what, std::strerror(errno));
  die();
}

struct Entry {
  std::uint32_t magic = 0x4C4A524D;  // "MRJL"
  char what;
  char unused = 0;
  std::uint16_t name_size;
  std::int64_t nanoseconds;
  std::uint64_t handle;
  std::int64_t offset;
  std::int64_t length;
  std::uint64_t data_size;
};
static_assert(sizeof(Entry) == 48);

/// Whether a call of this kind can fail so on a real machine.
bool can_fail(Call call, int error) {
  const bool takes_space = call == Call::write || call == Call::allocate || call == Call::create ||
                           call == Call::link ||
                           call == Call::sync;  // a sync: delayed allocation, network file systems
  switch (error) {
    case kShortWrite:
      return call == Call::write;
    case ENOSPC:
    case EDQUOT:
      return takes_space;
    case ENOMEM:
      return call == Call::map;
    case EMFILE:
      return call == Call::open || call == Call::create;
    case ENOLCK:
      return call == Call::lock;
    default:
      return true;
  }
}

}  // namespace

std::string watched_path(int directory_fd, const char* path) {
  const std::string& folder = state().folder;
  if (folder.empty() || !path) return {};
  std::string full;
  if (*path == '/') {
    full = path;
  } else {
    char buffer[PATH_MAX];
    if (directory_fd == AT_FDCWD) {
      if (!getcwd(buffer, sizeof buffer)) return {};
      full = buffer;
    } else {
      const std::string link = "/proc/self/fd/" + std::to_string(directory_fd);
      const ssize_t size = readlink(link.c_str(), buffer, sizeof buffer);
      if (size <= 0) return {};
      full.assign(buffer, static_cast<std::size_t>(size));
    }
    full += '/';
    full += path;
  }
  while (full.size() > 1 && full.back() == '/') full.pop_back();
  if (full == folder) return full;
  return full.starts_with(folder) && full[folder.size()] == '/' ? full : std::string{};
}

Watched watched(int fd) {
  if (fd < 0 || fd >= kMostDescriptors) return {};
  const std::uint64_t word = state().files[static_cast<std::size_t>(fd)].load(std::memory_order_relaxed);
  return {word >> 2, (word & 1) != 0, (word & 2) != 0};
}

void watch(int fd, const Watched& file) {
  if (fd < 0) return;
  if (fd >= kMostDescriptors) {
    if (file) give_up("too many descriptors");
    return;
  }
  const std::uint64_t word = file.handle << 2 | (file.scratch ? 2U : 0U) | (file.directory ? 1U : 0U);
  state().files[static_cast<std::size_t>(fd)].store(word, std::memory_order_relaxed);
}

std::uint64_t new_handle() {
  return ++state().handles;
}
std::mutex& order() {
  return state().order;
}
bool journalling() {
  return state().journal_path != nullptr;
}

void journal(char what, const Watched& file, std::int64_t offset, std::int64_t length, std::string_view name,
             const void* data, std::size_t size) {
  State& all = state();
  if (!all.journal_path) return;
  if (all.journal_fd < 0) {
    // Lazily: a program that only starts another one has nothing to write.
    all.journal_fd =
        real<int(const char*, int, ...)>("open")(all.journal_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (all.journal_fd < 0) give_up(all.journal_path);
  }
  if (all.kill_at >= 0 && all.entries >= all.kill_at) die();
  ++all.entries;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  Entry entry{.what = what,
              .name_size = static_cast<std::uint16_t>(name.size()),
              .nanoseconds = now.tv_sec * 1'000'000'000LL + now.tv_nsec,
              .handle = file.handle,
              .offset = offset,
              .length = length,
              .data_size = size};
  iovec parts[3] = {{&entry, sizeof entry},
                    {const_cast<char*>(name.data()), name.size()},  // NOLINT: iovec serves reading and writing
                    {const_cast<void*>(data), size}};
  static auto* const write_all = real<ssize_t(int, const iovec*, int)>("writev");
  const std::size_t total = sizeof entry + name.size() + size;
  if (write_all(all.journal_fd, parts, 3) != static_cast<ssize_t>(total)) give_up("the journal cannot be written");
}

SyncFate sync_fate(const Watched& file) {
  State& all = state();
  if (all.swallow == (file.directory ? "directory" : "file")) return SyncFate::swallow;
  if (!file.directory && !all.failing_syncs.empty() && all.failing_syncs.contains(++all.syncs)) return SyncFate::fail;
  return SyncFate::proceed;
}

long sync_microseconds() {
  return state().sync_us;
}

int fault(Call call) {
  State& all = state();
  if (!all.armed.load(std::memory_order_relaxed)) return 0;
  const std::lock_guard guard(all.fault_lock);
  if (!all.armed) return 0;
  ++all.count;
  if (all.count < kMostKinds) all.kinds[all.count] = static_cast<unsigned char>(call);
  if (all.nth == 0 || all.count < all.nth || (all.done && !all.persistent)) return 0;
  int error = all.error;
  // A disk that is full takes a part of the first write and nothing of the next.
  if (error == kShortWrite && all.done) error = ENOSPC;
  if (!can_fail(call, error)) return 0;
  all.done = true;
  ++all.struck;
  return error;
}

}  // namespace millrace::faults

using millrace::faults::state;

void millrace_faults_arm(unsigned long nth, int error, int persistent) {
  auto& all = state();
  const std::lock_guard guard(all.fault_lock);
  all.count = all.struck = 0;
  all.nth = nth;
  all.error = error;
  all.persistent = persistent != 0;
  all.done = false;
  all.armed = true;
}

unsigned long millrace_faults_disarm(unsigned long* struck) {
  auto& all = state();
  const std::lock_guard guard(all.fault_lock);
  all.armed = false;
  if (struck) *struck = all.struck;
  return all.count;
}

unsigned char millrace_faults_kind(unsigned long n) {
  auto& all = state();
  const std::lock_guard guard(all.fault_lock);
  return n <= all.count && n < all.kinds.size() ? all.kinds[n] : 0;
}
