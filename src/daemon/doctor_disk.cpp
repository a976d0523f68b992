// SPDX-License-Identifier: Apache-2.0
// What lies below a directory: its mount, its disk, and how long a sync takes there.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "daemon/doctor.hpp"

namespace millrace::daemon {
namespace {

namespace fs = std::filesystem;

/// Octal escapes of proc(5): "\040" is a blank.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool lies_in(std::string_view path, std::string_view point) {
  if (point == "/") return true;
  return path.starts_with(point) && (path.size() == point.size() || path[point.size()] == '/');
}

/// `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
std::optional<Mount> parse_mount(const std::string& line) {
  std::istringstream words(line);
  std::string skip, numbers, point, options, word;
  words >> skip >> skip >> numbers >> skip >> point >> options;
  while (words >> word && word != "-") {
  }
  Mount mount;
  std::string super;
  if (!(words >> mount.type >> mount.source)) return std::nullopt;
  words >> super;
  char colon = 0;
  std::istringstream(numbers) >> mount.major >> colon >> mount.minor;
  mount.point = unescaped(point);
  mount.source = unescaped(mount.source);
  mount.options = options + ',' + super;
  return mount;
}

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  line.erase(line.find_last_not_of(" \t\r") + 1);
  return line;
}

/// A partition's disk; the first disk below a mapped or joined one.
fs::path disk_below(fs::path device) {
  std::error_code error;
  for (int depth = 0; depth < 8; ++depth) {
    if (fs::exists(device / "partition", error)) device = device.parent_path();
    const fs::directory_iterator slaves(device / "slaves", error);
    if (error || slaves == fs::directory_iterator{}) return device;
    device = fs::canonical(slaves->path(), error);
    if (error) return {};
  }
  return device;
}

bool is_virtual(const std::string& path, const std::string& name, const std::string& model) {
  constexpr std::array kModels{"QEMU", "VMware", "VBOX", "Virtual", "Msft", "Amazon Elastic", "Google", "Xen"};
  constexpr std::array kNames{"vd", "xvd", "nbd", "rbd"};
  return path.find("/virtio") != std::string::npos ||
         std::any_of(kModels.begin(), kModels.end(),
                     [&](const char* word) { return model.find(word) != std::string::npos; }) ||
         std::any_of(kNames.begin(), kNames.end(), [&](const char* prefix) { return name.starts_with(prefix); });
}

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  const int error = errno;
  const Errc code = error == EROFS                       ? Errc::read_only
                    : error == EACCES || error == EPERM  ? Errc::permission_denied
                    : error == ENOSPC || error == EDQUOT ? Errc::store_full
                                                         : Errc::unavailable;
  throw Error(code, "measure syncs", path, what, std::generic_category().message(error));
}

/// A file beside the store that goes when this does. Its name is always the same, so what a killed doctor left behind
/// is used and removed by the next one; the lock keeps two of them apart. It is not unlinked at once, because some file
/// systems do not sync a file without a name.
class ScratchFile {
 public:
  explicit ScratchFile(const fs::path& path) : path_(path.string()) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd_ < 0) fail(path_, "cannot create a file to measure with");
    struct stat state {};
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 || ::fstat(fd_, &state) != 0 || state.st_nlink == 0) {
      ::close(fd_);
      throw Error(Errc::busy, "measure syncs", path_, "another doctor measures here right now; ask again");
    }
  }
  ~ScratchFile() {
    ::unlink(path_.c_str());
    ::close(fd_);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace

std::optional<Mount> mount_of(std::string_view mountinfo, const std::string& path) {
  std::optional<Mount> best;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    auto mount = parse_mount(line);
    // Of several at one point the last one lies on top.
    if (mount && lies_in(path, mount->point) && (!best || mount->point.size() >= best->point.size())) {
      best = std::move(mount);
    }
  }
  return best;
}

std::optional<Device> device_of(const fs::path& sys, std::uint32_t major, std::uint32_t minor) {
  std::error_code error;
  const fs::path found = fs::canonical(sys / "dev/block" / fmt::format("{}:{}", major, minor), error);
  if (error) return std::nullopt;
  const fs::path disk = disk_below(found);
  if (disk.empty()) return std::nullopt;
  Device device;
  device.name = disk.filename().string();
  const std::string vendor = first_line(disk / "device/vendor");
  device.model = first_line(disk / "device/model");
  if (!vendor.empty() && !vendor.starts_with("0x")) device.model = vendor + ' ' + device.model;
  device.write_cache = first_line(disk / "queue/write_cache");
  device.rotational = first_line(disk / "queue/rotational") == "1";
  device.is_virtual = is_virtual(disk.string(), device.name, device.model);
  return device;
}

SyncTimes sync_times(std::vector<std::chrono::nanoseconds> samples) {
  SyncTimes out;
  out.samples = samples.size();
  if (samples.empty()) return out;
  std::sort(samples.begin(), samples.end());
  const auto at = [&](std::size_t percent) { return samples[(samples.size() - 1) * percent / 100]; };
  out.p50 = at(50);
  out.p99 = at(99);
  out.longest = samples.back();
  return out;
}

SyncTimes measure_sync(const fs::path& path, std::chrono::milliseconds patience) {
  constexpr std::size_t kBlock = 4096;
  constexpr std::size_t kBlocks = 16;  // a small file: the disk may be nearly full
  constexpr std::size_t kMost = 5000;
  constexpr std::size_t kLeast = 3;
  using Clock = std::chrono::steady_clock;
  const ScratchFile file(path);
  std::vector<char> block(kBlock);
  std::vector<std::chrono::nanoseconds> samples;
  const auto end = Clock::now() + patience;
  while (samples.size() < kLeast || (samples.size() < kMost && Clock::now() < end)) {
    std::fill(block.begin(), block.end(), static_cast<char>('a' + samples.size() % 26));
    const auto began = Clock::now();
    const auto offset = static_cast<off_t>(samples.size() % kBlocks * kBlock);
    if (::pwrite(file.fd(), block.data(), block.size(), offset) != static_cast<ssize_t>(block.size()))
      fail(file.path(), "cannot write to the file to measure with");
    if (::fdatasync(file.fd()) != 0) fail(file.path(), "a sync failed: what was acknowledged may not be on disk");
    samples.push_back(Clock::now() - began);
  }
  return sync_times(std::move(samples));
}

}  // namespace millrace::daemon
