// SPDX-License-Identifier: Apache-2.0
// The disk's limit: the same bytes in the same batches, write and fdatasync, nothing else.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "contender.hpp"
#include "workload.hpp"

namespace bench {
namespace {

void must(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(std::string("raw write: ") + what + ": " + std::strerror(errno));
}

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto written = ::write(fd, bytes.data(), bytes.size());
    must(written > 0, "write");
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

class RawWrite : public Contender {
 public:
  RawWrite(const std::string& path, bool preallocated) : path_(path), preallocated_(preallocated) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd_ >= 0, "open");
  }
  ~RawWrite() override { ::close(fd_); }
  std::string name() const override { return preallocated_ ? "raw write, preallocated" : "raw write, append"; }

  double round(std::span<const millrace::Event> events) override {
    std::vector<std::string> batches;
    for (std::size_t at = 0; at < events.size(); at += kBatch) {
      auto& batch = batches.emplace_back();
      for (const auto& event : events.subspan(at, std::min(kBatch, events.size() - at))) flatten(event, batch);
    }
    std::uint64_t bytes = 0;
    for (const auto& batch : batches) bytes += batch.size();
    if (preallocated_) prepare(bytes);

    const auto start = Clock::now();
    for (const auto& batch : batches) {
      write_all(fd_, batch);
      must(::fdatasync(fd_) == 0, "fdatasync");
    }
    const double seconds = seconds_since(start);
    written_ += bytes;
    return seconds;
  }

  void verify(std::uint64_t) override {
    struct stat status {};
    must(::fstat(fd_, &status) == 0, "fstat");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (preallocated_ ? size < largest_round_ : size != written_)
      throw std::runtime_error("raw write: the file is too short");
  }

 private:
  // Zeroes on disk, so that writing over them changes no metadata; then from the front again.
  void prepare(std::uint64_t bytes) {
    if (bytes > largest_round_) {
      must(::lseek(fd_, 0, SEEK_SET) == 0, "seek");
      const std::string zeroes(1 << 20, '\0');
      for (std::uint64_t done = 0; done < bytes; done += zeroes.size()) write_all(fd_, zeroes);
      largest_round_ = bytes;
    }
    must(::fsync(fd_) == 0, "fsync");
    must(::lseek(fd_, 0, SEEK_SET) == 0, "seek");
  }

  std::string path_;
  bool preallocated_;
  int fd_ = -1;
  std::uint64_t written_ = 0;
  std::uint64_t largest_round_ = 0;
};

}  // namespace

std::unique_ptr<Contender> make_raw_append(const std::string& dir) {
  return std::make_unique<RawWrite>(dir + "/append.raw", false);
}
std::unique_ptr<Contender> make_raw_preallocated(const std::string& dir) {
  return std::make_unique<RawWrite>(dir + "/preallocated.raw", true);
}

}  // namespace bench
