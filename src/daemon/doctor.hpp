// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `millrace doctor`: checks the machine before trouble does. Measuring and judging are apart: `examine` looks at the
/// machine, `judge` is a pure function of what was seen, and everything that could not be seen is absent, not guessed.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/store.hpp"

namespace millrace::daemon {

enum class FindingLevel {
  ok,
  warn,  ///< works, but something could be lost or stop working
  fail,  ///< the promise does not hold here, or the store does not work
};
std::string_view to_string(FindingLevel level) noexcept;

struct Finding {
  std::string check;  ///< "sync", "disk" …
  FindingLevel level = FindingLevel::ok;
  std::string found;         ///< with the numbers
  std::string at_risk = {};  ///< what could be lost; empty when ok
  std::string to_do = {};    ///< empty when ok
};

/// A line of /proc/self/mountinfo (proc(5)).
struct Mount {
  std::uint32_t major = 0, minor = 0;
  std::string point, type, source;
  std::string options;  ///< of the mount and of its file system, comma-separated
};

/// A block device (sysfs; Documentation/ABI/stable/sysfs-block of Linux).
struct Device {
  std::string name, model;
  std::string write_cache;  ///< "write back", "write through", or empty when it does not say
  bool rotational = false;
  bool is_virtual = false;  ///< of a virtual machine: what its host does with a flush cannot be seen from here
};

/// How long a write of 4 KiB and fdatasync(2) take, one after the other.
struct SyncTimes {
  std::size_t samples = 0;
  std::chrono::nanoseconds p50{}, p99{}, longest{};
};

struct Space {
  std::uint64_t free = 0, total = 0, floor = 0;  ///< bytes; below the floor publishing is refused
  std::uint64_t inodes_free = 0, inodes = 0;     ///< inodes 0: the file system does not count them
};

struct FileState {
  std::string path;
  std::uint32_t owner = 0, mode = 0;
  bool directory = false;
  bool writable = false;  ///< by this process
};

/// The files that the daemon speaks TLS with.
struct Certificate {
  std::string cert, key;              ///< paths
  std::optional<Error> refused = {};  ///< why no server would start with them
  Timestamp not_before = {}, not_after = {};
  std::uint32_t key_mode = 0;
};

/// What was seen. Absent = could not be.
struct Examination {
  // The store
  std::string store;       ///< as people call it
  bool in_memory = false;  ///< memory: has no machine below it; nothing but the store and limits is looked at
  bool on_server = false;  ///< nor has one that another program keeps, on whichever machine
  std::optional<Error> refused = {};      ///< why it cannot be opened
  std::optional<std::string> owner = {};  ///< pid of who serves it; empty text = somebody
  bool owner_hidden = false;              ///< the lock file is there and cannot be read
  std::optional<Timestamp> newest = {};   ///< when its newest event was stored
  std::uint64_t file_bytes = 0;
  std::vector<Store::Doubt> doubts = {};  ///< about its server
  // Where it lies
  std::string directory;  ///< the nearest that exists
  std::optional<Mount> mount = {};
  std::optional<Device> device = {};
  std::optional<SyncTimes> sync = {};
  std::string sync_refused = {};  ///< why it was not measured
  std::optional<Space> space = {};
  bool read_only = false;  ///< the file system
  std::vector<FileState> files = {};
  std::uint32_t user = 0;                       ///< who runs this process
  std::optional<Certificate> certificate = {};  ///< absent: none is configured, or only a store is looked at
  // The machine
  Timestamp now = {};
  std::optional<bool> clock_synchronized = {};
  std::uint64_t descriptors = 0, descriptors_wanted = 0;
  std::optional<std::uint64_t> file_size_limit = {};  ///< absent = none
  std::optional<std::uint64_t> memory_free = {};
  std::optional<std::uint64_t> memory_limit = {};  ///< of the control group or the process; absent = none
};

struct ExamineOptions {
  std::string url;         ///< of the store; empty = as StoreOptions::from_env says
  Store* store = nullptr;  ///< the store, when this process serves it; else it is opened as a tool, never created
  std::uint64_t max_connections = 10'000;
  std::string tls_cert = {}, tls_key = {};   ///< of the daemon; empty: it speaks plain HTTP
  std::chrono::milliseconds patience{1000};  ///< how long syncs are measured
};

/// Looks, and disturbs nobody: it writes one small file of its own beside the store and removes it. Takes `patience`.
/// \throws Error{invalid_argument} for a URL that is none
Examination examine(const ExamineOptions& options);

/// Pure.
std::vector<Finding> judge(const Examination& seen);
FindingLevel worst(std::span<const Finding> findings);
/// `{"store","level","findings":[{"check","level","found","at_risk","to_do"}]}`
std::string findings_json(const std::string& store, std::span<const Finding> findings);

// The parts of `examine`, for tests.

/// The mount that `path` (absolute, without links) lies in. Pure.
std::optional<Mount> mount_of(std::string_view mountinfo, const std::string& path);
/// \param sys "/sys"
std::optional<Device> device_of(const std::filesystem::path& sys, std::uint32_t major, std::uint32_t minor);
/// Takes the samples as they came. Pure.
SyncTimes sync_times(std::vector<std::chrono::nanoseconds> samples);
/// \throws Error as the system refuses; {busy} when another doctor measures beside the same store
SyncTimes measure_sync(const std::filesystem::path& file, std::chrono::milliseconds patience);

}  // namespace millrace::daemon
