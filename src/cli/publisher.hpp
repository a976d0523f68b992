// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/target.hpp"
#include "millrace/error.hpp"
#include "millrace/event.hpp"

namespace millrace::cli {

/// Publishes events in batches and counts what was acknowledged, and nothing else. An answer that did not come is asked
/// for again with the same ids, so that nothing is stored twice.
class Publisher {
 public:
  struct Options {
    std::string stream, durability;
    std::chrono::milliseconds patience{30'000};  ///< how long one batch is tried again
  };
  struct Counts {
    std::uint64_t stored = 0, duplicates = 0, conflicts = 0;
    std::uint64_t last_line = 0;  ///< every line up to here has its answer
    std::string durability;       ///< the weakest level any event reached
    [[nodiscard]] std::uint64_t acknowledged() const { return stored + duplicates; }
  };
  struct Result {
    std::uint64_t line;
    std::string id, status, position, durability;
  };

  /// \param each called for every answered event.
  Publisher(Target& target, Options options, std::function<void(const Result&)> each)
      : target_(target), options_(std::move(options)), each_(std::move(each)) {}

  /// Collects; sends when the batch is full. `line` is for messages. The event must be valid.
  void add(const Event& event, std::uint64_t line);
  /// Sends what was collected and returns when it is answered.
  /// \throws InvalidInput naming the line; Error when patience ran out; CannotConnect when nobody was ever there
  void flush();
  [[nodiscard]] bool idle() const { return lines_.empty(); }
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  http::Response send_patiently(const http::Request& request);
  http::Response repeat(const http::Request& request, std::optional<Error>& unknown);
  void refuse(const http::Response& response, const std::string& operation) const;
  void take(const http::Response& response);
  [[nodiscard]] std::string lines() const;

  Target& target_;
  Options options_;
  std::function<void(const Result&)> each_;
  Counts counts_;
  std::string body_;
  std::vector<std::uint64_t> lines_;
};

}  // namespace millrace::cli
