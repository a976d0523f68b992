// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Figures beside their limits, for people and for programs.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bench {

struct Spread {
  double median = 0, min = 0, max = 0;
};
Spread spread_of(std::vector<double> values);
/// Quantile q of the values, in their unit.
double quantile(std::vector<double> values, double q);

/// One comparison. `ours` and `limit` are per round, taken next to each other.
struct Figure {
  std::string name;
  std::string limit_name;
  std::string unit;  ///< "events/s", "ns"
  std::vector<double> ours;
  std::vector<double> limit;
  std::optional<double> at_least;  ///< target for the median of ours / limit; neither = only for orientation
  std::optional<double> at_most;

  [[nodiscard]] Spread ratio() const;
  [[nodiscard]] std::string target() const;
  [[nodiscard]] std::string verdict() const;  ///< "met", "missed" or "" without a target
};

/// A single number with a bound: the memory's growth, a start's seconds.
struct Bound {
  std::string name;
  double value;
  double at_most;
  std::string unit;
  std::string detail;
  [[nodiscard]] std::string verdict() const { return value <= at_most ? "met" : "missed"; }
};

/// What one operation costs at each size of Report::sizes.
struct Growth {
  std::string operation;
  std::string ids;                ///< "UUIDv7"
  std::string unit;               ///< "µs per event"
  std::optional<double> at_most;  ///< target for the last size beside the one before
  std::vector<double> values;

  [[nodiscard]] double ratio() const;
  [[nodiscard]] std::string verdict() const;
};

struct Latency {
  std::string name;
  double p50_ms, p99_ms, p999_ms, max_ms;
};
/// \param ms not empty.
Latency latency_of(std::string name, const std::vector<double>& ms);

struct Report {
  std::vector<std::string> conditions;  ///< "2 cores, …", "events 2000000, rounds 10"
  std::vector<Figure> figures;
  std::vector<Bound> bounds;
  std::vector<Latency> latencies;
  std::vector<std::uint64_t> sizes;
  std::vector<Growth> growth;
  std::vector<std::string> notes;
  std::vector<std::string> not_measured;

  [[nodiscard]] std::string table() const;
  [[nodiscard]] std::string markdown() const;
  [[nodiscard]] std::string json() const;
};

/// Cores, memory, kernel, file system and load of the machine, without its name.
std::vector<std::string> describe_machine(const std::string& dir);

}  // namespace bench
