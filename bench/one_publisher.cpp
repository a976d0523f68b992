// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "bare_sqlite.hpp"
#include "figures.hpp"
#include "millrace/store.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = 8192;  // 32 MiB, as much as a log of commits before it begins anew
constexpr std::size_t kSlice = 20;
/// SQLite's log of commits grows up to 8 MiB and is then written over, for as long as the store lives. While it grows,
/// each sync writes the file's size, too: that beginning is not what is compared here.
constexpr std::size_t kWarmUp = 50'000;

class RawPages {
 public:
  explicit RawPages(const std::string& path) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const std::string zeroes(kPage, '\0');
    for (std::size_t i = 0; fd_ >= 0 && i < kPages; ++i) must(::write(fd_, zeroes.data(), kPage) == kPage);
    must(fd_ >= 0 && ::fsync(fd_) == 0);
  }
  ~RawPages() { ::close(fd_); }
  RawPages(const RawPages&) = delete;
  RawPages& operator=(const RawPages&) = delete;

  void write_one(const millrace::Event& event) {
    bytes_.clear();
    flatten(event, bytes_);
    bytes_.resize(kPage, ' ');
    must(::pwrite(fd_, bytes_.data(), kPage, static_cast<off_t>(at_++ % kPages * kPage)) == kPage);
    must(::fdatasync(fd_) == 0);
  }

 private:
  static void must(bool ok) {
    if (!ok) throw std::runtime_error(std::string("raw pages: ") + std::strerror(errno));
  }
  int fd_ = -1;
  std::size_t at_ = 0;
  std::string bytes_;
};

void append_one(millrace::EventLog& log, const millrace::Event& event) {
  const auto results = log.append(millrace::kDefaultStream, {&event, 1});
  if (results.size() != 1 || results[0].status != millrace::AppendStatus::stored ||
      results[0].durability != millrace::Durability::durable)
    throw std::runtime_error("one publisher: an event was not stored durably");
}

template <class Function>
void timed(std::vector<double>& all, std::vector<double>& round, Function function) {
  const auto start = Clock::now();
  function();
  round.push_back(1e3 * seconds_since(start));
  all.push_back(round.back());
}

}  // namespace

void measure_one_publisher(const Options& options, Report& report) {
  const std::string dir = options.own_dir("one-publisher");
  RawPages raw(dir + "/pages.raw");
  BareSqlite bare(options.own_dir("one-publisher-bare"), Layout{.batch = 1});
  const auto store = millrace::open_store("sqlite:" + dir + "/millrace.db");
  Workload ours;
  Workload theirs;
  for (const std::size_t end = std::min<std::size_t>(kWarmUp, options.single_events * 10); ours.taken() < end;) {
    store->log().append(millrace::kDefaultStream, ours.take(std::min(kBatch, end - ours.taken())));
  }

  std::vector<double> all_ours, all_raw, all_bare;
  Figure median{"one publisher, one event at a time, p50", "raw 4 KiB pwrite + fdatasync", "ms", {}, {}, {}, 1.6};
  for (std::size_t round = 0; round < options.rounds; ++round) {
    std::vector<double> round_ours, round_raw, round_bare;
    const std::uint64_t count = std::max<std::uint64_t>(1, options.single_events / options.rounds);
    for (std::uint64_t done = 0; done < count;) {
      const std::uint64_t slice = std::min<std::uint64_t>(kSlice, count - done);
      for (std::uint64_t i = 0; i < slice; ++i) {
        const millrace::Event event = ours.next();
        timed(all_ours, round_ours, [&] { append_one(store->log(), event); });
      }
      for (std::uint64_t i = 0; i < slice; ++i) {
        const millrace::Event event = theirs.next();
        timed(all_raw, round_raw, [&] { raw.write_one(event); });
        timed(all_bare, round_bare, [&] { bare.round({&event, 1}); });
      }
      done += slice;
    }
    median.ours.push_back(quantile(round_ours, 0.5));
    median.limit.push_back(quantile(round_raw, 0.5));
  }

  verify_log(*store, ours.taken(), "one publisher");
  bare.verify(theirs.taken());

  // A tail needs many samples: one ratio over all rounds.
  report.figures.push_back(std::move(median));
  report.figures.push_back({"one publisher, one event at a time, p99.9",
                            "raw 4 KiB pwrite + fdatasync",
                            "ms",
                            {quantile(all_ours, 0.999)},
                            {quantile(all_raw, 0.999)},
                            {},
                            4.0});
  report.latencies.push_back(latency_of("raw 4 KiB pwrite + fdatasync", all_raw));
  report.latencies.push_back(latency_of("bare SQLite, one event per commit", all_bare));
  report.latencies.push_back(latency_of("Millrace, one publisher", all_ours));
}

}  // namespace bench
