// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Publish → group → acknowledged, in a process of its own so that its memory is nobody else's.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace bench {

struct MemorySample {
  std::uint64_t acknowledged;
  std::uint64_t rss_bytes;
};

class LoopProcess {
 public:
  /// \param events of all rounds together.
  LoopProcess(const std::string& dir, std::uint64_t events);
  ~LoopProcess();
  LoopProcess(const LoopProcess&) = delete;
  LoopProcess& operator=(const LoopProcess&) = delete;
  /// Publishes `events` more and waits until the group has acknowledged them all. Seconds.
  double round(std::uint64_t events);
  /// Ends it. \throws std::runtime_error unless every event was delivered and is settled, exactly once.
  std::vector<MemorySample> finish();

 private:
  std::string ask(const std::string& line);
  int pid_ = -1;
  int to_ = -1;
  struct Reader;
  std::unique_ptr<Reader> from_;
};

/// The child's main: answers "round <events>" and "finish" on standard input.
int run_loop_child(const std::string& dir, std::uint64_t events);

/// Growth of the fitted line over the samples' second half, as a share of their mean.
double second_half_growth(const std::vector<MemorySample>& samples);

}  // namespace bench
