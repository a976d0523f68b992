// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Server-sent events from a stream, without a thread per client. A client that does not read stops being read for.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/call.hpp"

namespace millrace::daemon {

/// The blocks of `text/event-stream`. Pure.
std::string sse_event(const Position& position, const Event& event);
std::string sse_id(const Position& position);
std::string sse_gap(const Position& after, const Position& first);

class Tails {
 public:
  explicit Tails(Services& services) : services_(services) {}

  /// Starts the answer. Blocks for the store. \throws Error{unknown_stream}
  /// \param upcast  show events in their current version, not as they were stored
  void open(const std::shared_ptr<Call>& call, const StreamName& stream, Position after, std::vector<std::string> types,
            bool upcast);
  void changed();  ///< something may have been appended; any thread, does not block
  void tick();     ///< keep-alives that are due; call it each second
  void end();      ///< all streams end
  [[nodiscard]] std::size_t count() const;

 private:
  struct Tail;
  void look(const std::shared_ptr<Tail>& tail);
  void read(const std::shared_ptr<Tail>& tail);

  Services& services_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<Tail>> tails_;
  std::uint64_t last_id_ = 0;
  bool ended_ = false;
};

}  // namespace millrace::daemon
