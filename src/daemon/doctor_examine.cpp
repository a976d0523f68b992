// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/time.hpp"
#include "daemon/daemon.hpp"
#include "daemon/doctor.hpp"
#include "http/certificate.hpp"
#include "store/url.hpp"

namespace millrace::daemon {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// When the newest event of any stream was stored.
std::optional<Timestamp> newest_of(Store& store) {
  std::optional<Timestamp> newest;
  for (const StreamInfo& stream : store.log().streams()) {
    if (stream.events == 0 || stream.last == Position{}) continue;
    ReadQuery last;
    // Of the moment before when it is the first of its own: not every backend has all of the positions in between.
    last.after =
        stream.last.low > 0 ? Position{stream.last.high, stream.last.low - 1} : Position{stream.last.high - 1, 0};
    last.limit = 1;
    for (const StoredEvent& stored : store.log().read(stream.name, last).events)
      newest = std::max(newest.value_or(stored.stored_at), stored.stored_at);
  }
  return newest;
}

/// The owner holds a record lock on byte 0 of the lock file, whose text is its pid (docs/formats/sqlite.md).
void look_for_owner(Examination& seen, const std::string& store_path) {
  const std::string path = store_path + ".lock";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    seen.owner_hidden = errno != ENOENT && errno != ENOTDIR;
    return;
  }
  struct flock asked {};
  asked.l_type = F_WRLCK;
  asked.l_whence = SEEK_SET;
  asked.l_start = 0;
  asked.l_len = 1;
  const bool held = ::fcntl(fd, F_OFD_GETLK, &asked) == 0 && asked.l_type != F_UNLCK;
  ::close(fd);
  if (!held) return;
  const std::string pid = text_of(path);
  seen.owner = pid.substr(0, pid.find_first_not_of("0123456789"));
}

void look_at_store(Examination& seen, const ExamineOptions& options, const std::string& url) {
  try {
    std::unique_ptr<Store> opened;
    Store* store = options.store;
    if (store == nullptr) {
      StoreOptions open;
      open.url = url;
      open.access = StoreOptions::Access::tool;
      open.create = false;
      opened = open_store(open);
      store = opened.get();
    }
    seen.store = store->describe();
    seen.newest = newest_of(*store);
    seen.doubts = store->doubts();
  } catch (const Error& error) {
    seen.refused = error;
  }
}

void look_at_files(Examination& seen, const std::string& path) {
  seen.user = ::geteuid();
  const std::string directory = seen.directory;
  for (const std::string& name : {path, path + "-wal", path + "-shm", path + ".lock", directory}) {
    struct stat state {};
    if (::stat(name.c_str(), &state) != 0) continue;
    FileState file;
    file.path = name;
    file.owner = state.st_uid;
    file.mode = state.st_mode & 07777U;
    file.directory = S_ISDIR(state.st_mode);
    file.writable = ::faccessat(AT_FDCWD, name.c_str(), file.directory ? W_OK | X_OK : W_OK, AT_EACCESS) == 0;
    if (name == path) seen.file_bytes = static_cast<std::uint64_t>(state.st_size);
    seen.files.push_back(std::move(file));
  }
}

void look_at_disk(Examination& seen, const std::string& path, const StoreOptions& options,
                  std::chrono::milliseconds patience) {
  std::error_code error;
  const fs::path directory = fs::canonical(seen.directory, error);
  seen.mount = mount_of(text_of("/proc/self/mountinfo"), directory.string());
  if (seen.mount) {
    std::uint32_t major = seen.mount->major;
    std::uint32_t minor = seen.mount->minor;
    struct stat source {};
    // Some file systems (btrfs) have numbers of their own; their source names the device.
    if (major == 0 && ::stat(seen.mount->source.c_str(), &source) == 0 && S_ISBLK(source.st_mode)) {
      major = ::major(source.st_rdev);
      minor = ::minor(source.st_rdev);
    }
    if (major != 0) seen.device = device_of("/sys", major, minor);
  }
  struct statvfs space {};
  if (::statvfs(seen.directory.c_str(), &space) == 0) {
    Space out;
    out.free = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
    out.total = static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize;
    out.floor = std::min(options.min_free_bytes, out.total / 20);
    out.inodes_free = space.f_favail;
    out.inodes = space.f_files;
    seen.space = out;
    seen.read_only = (space.f_flag & ST_RDONLY) != 0;
  }
  try {
    seen.sync = measure_sync(directory / ('.' + fs::path(path).filename().string() + ".doctor"), patience);
  } catch (const Error& refused) {
    seen.sync_refused = refused.what();
  }
}

std::optional<std::uint64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::uint64_t number = 0;
  return in >> number ? std::optional(number) : std::nullopt;
}

/// The smallest memory limit of the process's control group (v2) and those above it, and of the process itself.
std::optional<std::uint64_t> memory_limit() {
  std::optional<std::uint64_t> least;
  const auto take = [&least](std::optional<std::uint64_t> limit) {
    if (limit) least = std::min(least.value_or(*limit), *limit);
  };
  rlimit address_space{};
  if (getrlimit(RLIMIT_AS, &address_space) == 0 && address_space.rlim_cur != RLIM_INFINITY)
    take(address_space.rlim_cur);
  std::istringstream lines(text_of("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("0::/")) continue;
    fs::path group = fs::path("/sys/fs/cgroup") / line.substr(4);
    for (;; group = group.parent_path()) {
      take(number_in(group / "memory.max"));  // "max" is no number: no limit
      if (group == "/sys/fs/cgroup" || !group.has_relative_path()) break;
    }
  }
  return least;
}

std::optional<std::uint64_t> memory_available() {
  std::istringstream lines(text_of("/proc/meminfo"));
  for (std::string name; lines >> name; lines.ignore(256, '\n')) {
    std::uint64_t kib = 0;
    if (name == "MemAvailable:" && lines >> kib) return kib * 1024;
  }
  return std::nullopt;
}

void look_at_machine(Examination& seen, const ExamineOptions& options) {
  seen.now = wall_now();
  timex clock{};
  const int state = ::adjtimex(&clock);  // modes 0: reads only
  if (state >= 0) seen.clock_synchronized = state != TIME_ERROR && (clock.status & STA_UNSYNC) == 0;
  rlimit files{};
  seen.descriptors_wanted = descriptors_for(options.max_connections);
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    // A daemon has raised its limit as far as it may when it started.
    seen.descriptors = options.store != nullptr ? files.rlim_cur : files.rlim_max;
  }
  rlimit size{};
  if (getrlimit(RLIMIT_FSIZE, &size) == 0 && size.rlim_cur != RLIM_INFINITY) seen.file_size_limit = size.rlim_cur;
  seen.memory_free = memory_available();
  seen.memory_limit = memory_limit();
}

Certificate look_at_certificate(const std::string& cert, const std::string& key) {
  Certificate seen{.cert = cert, .key = key};
  try {
    const http::CertificateDates dates = http::inspect_certificate(cert, key);
    seen.not_before = dates.not_before;
    seen.not_after = dates.not_after;
  } catch (const Error& error) {
    seen.refused = error;
  }
  struct stat state {};
  if (::stat(key.c_str(), &state) == 0) seen.key_mode = state.st_mode & 07777U;
  return seen;
}

/// The nearest directory that is there.
std::string existing_directory(const std::string& path) {
  std::error_code error;
  fs::path directory = fs::absolute(path, error).parent_path();
  while (!fs::is_directory(directory, error) && directory.has_relative_path()) directory = directory.parent_path();
  return directory.string();
}

}  // namespace

Examination examine(const ExamineOptions& options) {
  const std::string given = options.url.empty() ? StoreOptions::from_env().url : options.url;
  const store::StoreUrl url = store::parse_store_url(given);
  Examination seen;
  seen.store = store::without_password(given);
  seen.in_memory = url.scheme == "memory";
  seen.on_server = !seen.in_memory && url.scheme != "sqlite";
  look_at_machine(seen, options);
  if (!options.tls_cert.empty()) seen.certificate = look_at_certificate(options.tls_cert, options.tls_key);
  if (seen.in_memory) return seen;
  look_at_store(seen, options, given);
  if (seen.on_server) return seen;
  const StoreOptions store_options = store::with_url_options(url, StoreOptions{});
  const std::string path = url.path;
  seen.directory = existing_directory(path);
  look_for_owner(seen, path);
  look_at_files(seen, path);
  look_at_disk(seen, path, store_options, options.patience);
  return seen;
}

}  // namespace millrace::daemon
