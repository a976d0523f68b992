// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "contender.hpp"

namespace bench {

/// Batches of 100 as NDJSON into a real daemon over a few keep-alive connections, each sending its next batch when the
/// last one was answered as durable. The requests are made before the clock starts.
class HttpBatches : public Contender {
 public:
  HttpBatches(const std::string& program, const std::string& dir);
  ~HttpBatches() override;
  [[nodiscard]] std::string name() const override;
  double round(std::span<const millrace::Event> events) override;
  void verify(std::uint64_t count) override;  ///< ends the daemon and reads its store
  [[nodiscard]] std::vector<double> latencies() const override;
  /// What both sides used, for the report.
  [[nodiscard]] std::string cpu() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bench
