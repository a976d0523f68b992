// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What Prometheus is told. Counters are kept here; gauges are asked from the store when they are wanted, and are
/// absent while it cannot say: unknown is never shown as a number.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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
  void published(const std::string& stream, const std::vector<AppendResult>& results);
  void publish_failed(const std::string& stream, std::size_t events);
  void delivered(const GroupName& group, std::span<const Delivery> deliveries);
  void publish_ack(Durability level, double seconds);

  /// Prometheus text format 0.0.4. Blocks for the store.
  std::string text(Services& services);
  /// The same of a store that does not answer: it is not asked.
  std::string text_without_store(Services& services);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::daemon
