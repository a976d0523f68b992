// SPDX-License-Identifier: Apache-2.0
// One table that grows. At each size the operations are timed on it as it stands, a time per event, the median of
// slices.

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>

#include "bare_sqlite.hpp"
#include "figures.hpp"
#include "millrace/store.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr std::size_t kSlices = 10;
constexpr std::uint64_t kMeasured = 100'000;  // events per operation and size, or as many as there are
constexpr std::size_t kQuestions = 20'000;    // of `where`
constexpr int kStarts = 5;
constexpr std::size_t kFill = 10'000;

double microseconds_each(double seconds, std::uint64_t count) {
  return 1e6 * seconds / static_cast<double>(count);
}

// Some of the events that were given, evenly chosen over all of them.
class Sample {
 public:
  void offer(const millrace::Event& event) {
    ++seen_;
    if (ids_.size() < kQuestions) {
      ids_.push_back(event.id);
    } else if (const auto at = random_() % seen_; at < kQuestions) {
      ids_[at] = event.id;
    }
  }
  [[nodiscard]] const std::vector<std::string>& ids() const { return ids_; }

 private:
  std::mt19937_64 random_{1};
  std::uint64_t seen_ = 0;
  std::vector<std::string> ids_;
};

using Append = std::function<void(std::span<const millrace::Event>)>;

// Grows it to `size`, and answers what the last events cost, in batches of 1000.
double grow(Workload& workload, std::uint64_t size, Sample& sample, const Append& append) {
  const std::uint64_t measured = std::min(kMeasured, size - workload.taken());
  const auto next = [&](std::uint64_t most) {
    auto events = workload.take(most);
    for (const auto& event : events) sample.offer(event);
    return events;
  };
  while (workload.taken() < size - measured)
    append(next(std::min<std::uint64_t>(kFill, size - measured - workload.taken())));
  std::vector<double> slices;
  while (workload.taken() < size) {
    const auto events = next(std::min(std::max<std::uint64_t>(1, measured / kSlices), size - workload.taken()));
    const auto start = Clock::now();
    for (std::size_t at = 0; at < events.size(); at += kBatch)
      append(std::span(events).subspan(at, std::min(kBatch, events.size() - at)));
    slices.push_back(microseconds_each(seconds_since(start), events.size()));
  }
  return quantile(slices, 0.5);
}

void append_all(millrace::Store& store, std::span<const millrace::Event> events) {
  for (const auto& result : store.log().append(millrace::kDefaultStream, events))
    if (result.status != millrace::AppendStatus::stored || result.durability != millrace::Durability::durable)
      throw std::runtime_error("growth: an event was not stored durably");
}

millrace::Position behind(const millrace::StreamInfo& stream, std::uint64_t events) {
  return millrace::Position(stream.last.low > events ? stream.last.low - events : 0);
}

double claim_and_settle(millrace::Store& store, std::uint64_t size) {
  const millrace::GroupName group("claims-" + std::to_string(size));
  const auto stream = store.log().stream(millrace::kDefaultStream);
  const std::uint64_t count = std::min(kMeasured, size);
  store.ledger().ensure_group(
      group, {.stream = millrace::kDefaultStream, .start = millrace::Start::after(behind(stream, count))});
  millrace::ClaimRequest request{.consumer = "bench", .max = kBatch};
  std::vector<double> slices;
  std::uint64_t settled = 0;
  while (settled < count) {
    const auto start = Clock::now();
    const auto answer = store.ledger().claim(group, request);
    std::vector<millrace::Settlement> settlements;
    for (const auto& delivery : answer.deliveries) settlements.push_back({delivery.lease, millrace::Outcome::ack()});
    if (settlements.empty() || !store.ledger().settle(group, settlements).empty())
      throw std::runtime_error("growth: a claim was empty, or its settling was stale");
    slices.push_back(microseconds_each(seconds_since(start), settlements.size()));
    settled += settlements.size();
  }
  if (settled != count) throw std::runtime_error("growth: more was handed out than there is");
  // It stays, so that `where` has a group to ask.
  return quantile(slices, 0.5);
}

double read_forward(millrace::Store& store, std::uint64_t size) {
  millrace::ReadQuery query;
  query.limit = kBatch;
  query.after = millrace::Position(size > 2 * kMeasured ? size / 2 : 0);
  const std::uint64_t count = std::min(kMeasured, size);
  std::vector<double> slices;
  for (std::uint64_t read = 0; read < count;) {
    const auto start = Clock::now();
    const auto page = store.log().read(millrace::kDefaultStream, query);
    if (page.events.empty()) throw std::runtime_error("growth: the log ended early");
    slices.push_back(microseconds_each(seconds_since(start), page.events.size()));
    read += page.events.size();
    query.after = page.next;
  }
  return quantile(slices, 0.5);
}

double ask_where(millrace::Store& store, const Sample& sample, const millrace::GroupName& group) {
  std::vector<double> each;
  for (const std::string& id : sample.ids()) {
    const auto start = Clock::now();
    const auto found = store.log().find(millrace::kDefaultStream, id);
    if (found.size() != 1) throw std::runtime_error("growth: `where` did not find " + id);
    (void)store.ledger().where(group, found[0].stored.position);
    each.push_back(1e6 * seconds_since(start));
  }
  return quantile(each, 0.5);
}

// From opening the file to the first append and the first claim answered, in this process.
double start_up(const std::string& url, std::unique_ptr<millrace::Store>& store, Workload& extra,
                const millrace::GroupName& group) {
  std::vector<double> all;
  for (int i = 0; i < kStarts; ++i) {
    store.reset();
    const auto start = Clock::now();
    store = millrace::open_store(url);
    const auto events = extra.take(1);
    if (store->log().append("logs", events).at(0).status != millrace::AppendStatus::stored)
      throw std::runtime_error("growth: the first append was refused");
    (void)store->ledger().claim(group, {.consumer = "bench", .max = 1});
    all.push_back(1e3 * seconds_since(start));
  }
  return quantile(all, 0.5);
}

void add(Report& report, const std::string& what, const std::string& ids, const std::string& unit,
         std::optional<double> at_most, double value) {
  for (auto& row : report.growth)
    if (row.operation == what && row.ids == ids) return row.values.push_back(value);
  report.growth.push_back({what, ids, unit, at_most, {value}});
}

constexpr double kTimeOrdered = 1.5;
constexpr double kRandom = 3;
constexpr const char* kEach = "µs per event";

void grow_millrace(const Options& options, Workload::Ids kind, const std::string& ids, Report& report) {
  const std::string url = "sqlite:" + options.own_dir("growth") + "/millrace.db";
  auto store = millrace::open_store(url);
  Workload workload(1, kind);
  Workload extra(1, kind);
  Sample sample;
  const bool ordered = kind == Workload::Ids::growing;
  const std::optional<double> target = ordered ? kTimeOrdered : kRandom;
  for (const std::uint64_t size : options.sizes) {
    add(report, "append, batches of 1000", ids, kEach, target,
        grow(workload, size, sample, [&](auto events) { append_all(*store, events); }));
    if (ordered) add(report, "claim and settle, 1000 each", ids, kEach, target, claim_and_settle(*store, size));
    if (ordered) add(report, "read forward, pages of 1000", ids, kEach, target, read_forward(*store, size));
    const millrace::GroupName group("claims-" + std::to_string(size));
    if (!ordered)
      store->ledger().ensure_group(group, {.stream = millrace::kDefaultStream, .start = millrace::Start::end()});
    add(report, "where", ids, kEach, target, ask_where(*store, sample, group));
    if (ordered) add(report, "open, first append and claim", ids, "ms", target, start_up(url, store, extra, group));
    fmt::print(stderr, "{}: {} events\n", ids, size);
  }
  verify_log(*store, workload.taken(), "Millrace, " + ids);
}

void grow_bare(const Options& options, Workload::Ids kind, const std::string& ids, Report& report) {
  BareSqlite bare(options.own_dir("growth-bare"));
  Workload workload(1, kind);
  Sample sample;
  for (const std::uint64_t size : options.sizes) {
    add(report, "bare SQLite: append", ids, kEach, {},
        grow(workload, size, sample, [&](auto events) { bare.round(events); }));
    fmt::print(stderr, "bare SQLite, {}: {} events\n", ids, size);
  }
  bare.verify(workload.taken());
}

}  // namespace

void measure_growth(const Options& options, Report& report) {
  report.sizes = options.sizes;
  grow_millrace(options, Workload::Ids::growing, "UUIDv7", report);
  grow_bare(options, Workload::Ids::growing, "UUIDv7", report);
  grow_millrace(options, Workload::Ids::random, "UUIDv4", report);
  grow_bare(options, Workload::Ids::random, "UUIDv4", report);
}

}  // namespace bench
