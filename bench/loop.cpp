// SPDX-License-Identifier: Apache-2.0
#include "loop.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "contender.hpp"
#include "millrace/bus.hpp"
#include "millrace/subscription.hpp"
#include "workload.hpp"

namespace bench {
namespace {

std::uint64_t rss_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

class Sampler {
 public:
  explicit Sampler(const millrace::Subscription& subscription)
      : thread_([this, &subscription] {
          while (!stop_) {
            samples_.push_back({subscription.stats().acked, rss_bytes()});
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
          }
        }) {}
  ~Sampler() { stop(); }
  const std::vector<MemorySample>& stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return samples_;
  }

 private:
  std::vector<MemorySample> samples_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace

int run_loop_child(const std::string& dir, std::uint64_t events_of_all_rounds) {
  const auto store = millrace::open_store("sqlite:" + dir + "/millrace.db");
  millrace::Bus bus(store.get());
  Workload workload;
  // The one handler's, until it has stopped. By position, and all of it at once: its growth would be taken for the
  // store's.
  std::vector<bool> seen(events_of_all_rounds + 1, false);
  std::uint64_t delivered = 0, again = 0;
  millrace::SubscriptionOptions options{.group = "bench"};
  options.start = millrace::Start::beginning();
  options.batch = kBatch;
  options.lease = millrace::Milliseconds{30'000};  // a machine that stands still for a while is not the subject here
  millrace::Subscription subscription(*store, options, millrace::Handler([&](const millrace::Delivery& delivery) {
    const std::uint64_t at = delivery.position.low;
    if (seen.at(at)) ++again;
    seen.at(at) = true;
    ++delivered;
    return millrace::Outcome::ack();
  }));
  Sampler sampler(subscription);
  std::uint64_t published = 0;

  for (std::string command; std::cin >> command;) {
    if (command == "round") {
      std::uint64_t events = 0;
      std::cin >> events;
      const auto start = Clock::now();
      for (const std::uint64_t end = published + events; published < end;) {
        const auto batch = workload.take(std::min<std::uint64_t>(kBatch, end - published));
        for (const auto& result : bus.publish(batch))
          if (result.status != millrace::AppendStatus::stored || result.durability != millrace::Durability::durable)
            throw std::runtime_error("loop: an event was not stored durably");
        published += batch.size();
      }
      while (subscription.stats().acked < published) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::cout << seconds_since(start) << std::endl;
    } else if (command == "finish") {
      const auto samples = sampler.stop();
      subscription.stop();
      const auto group = store->ledger().group("bench");
      const auto stream = store->log().stream(millrace::kDefaultStream);
      const auto& lag = group.lag;
      if (stream.events != published || group.processed != published || delivered != published || again != 0 ||
          lag.ahead + lag.in_flight + lag.waiting + group.dead != 0)
        throw std::runtime_error(fmt::format(
            "loop: published {}, in the log {}, delivered {} ({} again), settled {}, ahead {}, in flight {}, "
            "waiting {}, dead {}",
            published, stream.events, delivered, again, group.processed, lag.ahead, lag.in_flight, lag.waiting,
            group.dead));
      std::cout << samples.size();
      for (const auto& sample : samples) std::cout << ' ' << sample.acknowledged << ' ' << sample.rss_bytes;
      std::cout << std::endl;
      return 0;
    }
  }
  return 0;
}

struct LoopProcess::Reader {
  explicit Reader(std::FILE* stream) : file(stream) {}
  ~Reader() { std::fclose(file); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  std::FILE* file;
  std::string line() {
    char* text = nullptr;
    std::size_t room = 0;
    const auto size = ::getline(&text, &room, file);
    std::string result(text, size > 0 ? static_cast<std::size_t>(size) : 0);
    std::free(text);
    if (result.empty()) throw std::runtime_error("loop: the process ended early; its last words stand above");
    return result;
  }
};

LoopProcess::LoopProcess(const std::string& dir, std::uint64_t events) {
  const std::string all = std::to_string(events);
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("loop: no pipe");
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("loop: fork failed");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    ::execl("/proc/self/exe", "millrace_bench", "--loop-child", dir.c_str(), "--loop-events", all.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = std::make_unique<Reader>(::fdopen(out[0], "r"));
}

LoopProcess::~LoopProcess() {
  ::close(to_);  // the child's input ends, and so does the child
  ::waitpid(pid_, nullptr, 0);
}

std::string LoopProcess::ask(const std::string& line) {
  if (::write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw std::runtime_error("loop: the process is gone");
  return from_->line();
}

double LoopProcess::round(std::uint64_t events) {
  return std::stod(ask("round " + std::to_string(events) + "\n"));
}

std::vector<MemorySample> LoopProcess::finish() {
  std::istringstream answer(ask("finish\n"));
  std::size_t count = 0;
  answer >> count;
  std::vector<MemorySample> samples(count);
  for (auto& sample : samples) answer >> sample.acknowledged >> sample.rss_bytes;
  return samples;
}

double second_half_growth(const std::vector<MemorySample>& samples) {
  if (samples.empty()) return 0;
  const double middle = static_cast<double>(samples.back().acknowledged) / 2;
  double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (const auto& sample : samples) {
    const auto x = static_cast<double>(sample.acknowledged), y = static_cast<double>(sample.rss_bytes);
    if (x < middle) continue;
    n += 1, sx += x, sy += y, sxx += x * x, sxy += x * y;
  }
  const double spread = n * sxx - sx * sx;
  if (spread <= 0) return 0;
  return (n * sxy - sx * sy) / spread * middle / (sy / n);
}

}  // namespace bench
