// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace bench {

struct Options {
  std::uint64_t events = 2'000'000;
  std::uint64_t loop_events = 5'000'000;
  std::uint64_t single_events = 20'000;
  std::uint64_t http_events = 500'000;
  std::uint64_t start_events = 10'000'000;
  double latency_seconds = 30;
  std::size_t rounds = 10;
  std::size_t publishers = 1024;
  std::set<std::string> only{"batch", "publishers", "loop", "observer", "single", "latency", "http", "start"};
  bool growth = false;
  bool redis = false;
  std::uint64_t redis_events = 500'000;
  std::vector<std::uint64_t> sizes{100'000, 1'000'000, 10'000'000};  ///< of growth, ascending
  std::string dir = "build/bench";
  std::string program;  ///< `millrace`, for http and start
  bool markdown = false;
  std::string loop_child;
  std::string redis_child;

  /// An empty folder of that name. Files of earlier runs go first: a contender that starts on a full table is another
  /// contender.
  [[nodiscard]] std::string own_dir(const std::string& name) const;
  /// Of a store in such a folder.
  [[nodiscard]] std::string sqlite_url(const std::string& name) const;
};

}  // namespace bench
