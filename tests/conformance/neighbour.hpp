// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace millrace::conformance {

/// Somebody else on the same Redis server, who does to the native groups whatever a client may do, all the time: takes
/// over what is pending, acknowledges it, removes consumers and whole groups, sets cursors, drops the scripts. None of
/// it changes what is true, so every check must hold beside it. (What changes the truth, XDEL, XTRIM, FLUSHALL and
/// reading as a foreign consumer, has tests of its own.)
class Neighbour {
 public:
  /// Begins at once. \param socket of the server
  explicit Neighbour(std::string socket);
  ~Neighbour();
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

  /// How often it did what had an effect.
  struct Deeds {
    std::uint64_t acked = 0;      ///< entries taken off a pending list
    std::uint64_t stolen = 0;     ///< entries moved to another consumer
    std::uint64_t removed = 0;    ///< consumers
    std::uint64_t set = 0;        ///< cursors
    std::uint64_t destroyed = 0;  ///< groups
  };
  [[nodiscard]] Deeds deeds() const { return {acked_, stolen_, removed_, set_, destroyed_}; }

 private:
  class Connection;
  void run(const std::stop_token& stop);
  void visit(Connection& server, const std::string& log, const std::string& group);

  std::string socket_;
  std::uint64_t turn_ = 0;
  std::atomic<std::uint64_t> acked_{0}, stolen_{0}, removed_{0}, set_{0}, destroyed_{0};
  std::jthread thread_;
};

}  // namespace millrace::conformance
