// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One side of a comparison: it is given the same events as the others, round by round.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "millrace/event.hpp"

namespace bench {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

inline constexpr std::size_t kBatch = 1000;

class Contender {
 public:
  virtual ~Contender() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  /// Makes the events durable in the contender's way and returns the seconds that took. What a caller would have
  /// ready, such as the events themselves, is prepared off the clock.
  virtual double round(std::span<const millrace::Event> events) = 0;
  /// Reads everything back. \throws std::runtime_error unless exactly the first `count` events of the workload are
  /// there.
  virtual void verify(std::uint64_t count) = 0;
  /// Acknowledgement latencies of all rounds, in seconds; empty when not measured.
  [[nodiscard]] virtual std::vector<double> latencies() const { return {}; }
};

std::unique_ptr<Contender> make_raw_append(const std::string& dir);
/// Overwrites a file whose blocks are already allocated and written: the disk's own pace, without metadata.
std::unique_ptr<Contender> make_raw_preallocated(const std::string& dir);
/// nullptr when no redis-server is installed.
std::unique_ptr<Contender> make_redis(const std::string& dir);
/// nullptr when no PostgreSQL server is installed.
std::unique_ptr<Contender> make_postgres(const std::string& dir);
/// With a store of that URL.
std::unique_ptr<Contender> make_millrace_batches(const std::string& url);
std::unique_ptr<Contender> make_millrace_publishers(const std::string& url, std::size_t publishers);

}  // namespace bench
