// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "contender.hpp"
#include "daemon.hpp"
#include "figures.hpp"
#include "millrace/store.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr int kStarts = 5;
constexpr std::chrono::seconds kIdle{3};

std::uint64_t bytes_of(const millrace::Event& e) {
  return e.id.size() + e.source.size() + e.type.size() + e.subject.size() + e.time.size() + e.datacontenttype.size() +
         e.data->size();
}

// What it holds in memory is forgotten by the kernel, as far as a program may ask for that.
void drop_from_page_cache(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error("start: cannot open " + path);
  ::fdatasync(fd);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

// A store with so many events, none of which its one group has seen. The bytes of the events.
std::uint64_t fill(const std::string& path, std::uint64_t count) {
  const auto store = millrace::open_store("sqlite:" + path);
  store->ledger().ensure_group("behind", {.stream = millrace::kDefaultStream, .start = millrace::Start::beginning()});
  Workload workload;
  std::uint64_t bytes = 0;
  while (workload.taken() < count) {
    const auto batch = workload.take(std::min<std::uint64_t>(10 * kBatch, count - workload.taken()));
    for (const auto& event : batch) bytes += bytes_of(event);
    store->log().append(millrace::kDefaultStream, batch);
  }
  const auto group = store->ledger().group("behind");
  if (group.lag.ahead != count) throw std::runtime_error("start: the store does not hold every event");
  return bytes;
}

std::string one_event(int number) {
  return post("/v1/streams/events/events", "application/cloudevents+json",
              fmt::format(R"({{"specversion":"1.0","id":"start-{}","source":"/bench","type":"bench.start"}})", number));
}

}  // namespace

void measure_start(const Options& options, Report& report) {
  const std::string dir = options.own_dir("start");
  const std::string path = dir + "/millrace.db";
  const std::uint64_t event_bytes = fill(path, options.start_events);
  const auto count = static_cast<double>(options.start_events);
  const double overhead =
      (static_cast<double>(std::filesystem::file_size(path)) - static_cast<double>(event_bytes)) / count;

  std::vector<double> to_append, to_claim;
  double rss = 0;
  for (int i = 0; i < kStarts; ++i) {
    drop_from_page_cache(path);
    const auto start = Clock::now();
    Daemon daemon(options.program, path, dir);
    Connection connection(daemon.port());
    if (connection.call(one_event(i)).find(R"("durability":"durable")") == std::string::npos)
      throw std::runtime_error("start: the first append was not stored durably");
    to_append.push_back(seconds_since(start));
    const std::string claimed =
        connection.call(post("/v1/groups/behind/claim", "application/json", R"({"consumer":"bench","max":100})"));
    to_claim.push_back(seconds_since(start));
    const boost::json::value answer = boost::json::parse(claimed);
    const boost::json::array& deliveries = answer.at("deliveries").as_array();
    if (deliveries.empty()) throw std::runtime_error("start: the first claim was answered with nothing");
    std::this_thread::sleep_for(kIdle);
    rss = std::max(rss, static_cast<double>(daemon.process().rss_bytes()));
    // Given back, so that the next daemon finds the same.
    boost::json::array leases;
    for (const auto& delivery : deliveries) leases.push_back(delivery.at("lease"));
    connection.call(post("/v1/groups/behind/release", "application/json",
                         boost::json::serialize(boost::json::object{{"leases", leases}})));
    daemon.stop();
  }
  const std::string events = fmt::format("{} events", options.start_events);
  const std::string how =
      fmt::format("process start to answer over HTTP, median of {}, file not in the page cache", kStarts);
  report.bounds.push_back(
      {"cold start with " + events + ", first append acknowledged", spread_of(to_append).median, 1, "s", how});
  report.bounds.push_back(
      {"cold start with " + events + ", first claim answered", spread_of(to_claim).median, 1, "s", how});
  report.bounds.push_back({"idle memory of millrace serve, " + events, rss / (1 << 20), 40, "MiB",
                           fmt::format("resident, {} s after an append and a claim of 100", kIdle.count())});
  report.bounds.push_back(
      {"overhead per queued event", overhead, 200, "bytes",
       fmt::format("size of the file less attributes and data ({:.0f} bytes an event), one group behind",
                   static_cast<double>(event_bytes) / count)});
}

}  // namespace bench
