// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What Prometheus is told. Counters are kept here; gauges are asked from the store when they are wanted, and are
/// absent while it cannot say: unknown is never shown as a number.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "millrace/store.hpp"

namespace millrace::daemon {

struct Services;

/// Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  /// \param route the template, or "other" for paths nobody has
  void request(std::string_view route, std::string_view method, unsigned status, double seconds);
  /// \param status as in the answer, or "failed"
  void published(const std::string& stream, std::string_view status, std::uint64_t events);
  void publish_ack(Durability level, double seconds);

  /// Prometheus text format 0.0.4. Blocks for the store.
  std::string text(Services& services);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::daemon
