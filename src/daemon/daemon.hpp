// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "daemon/config.hpp"

namespace millrace::daemon {

/// Open files that a daemon with so many connections needs.
std::uint64_t descriptors_for(std::uint64_t connections);

/// `millrace serve`: opens the store, listens, and stops in the order of the design. It handles no signals itself.
class Daemon {
 public:
  /// Opens the store and listens; when it returns, requests are served. \throws Error: nothing is left running.
  explicit Daemon(const Config& config);
  ~Daemon();
  [[nodiscard]] std::string url() const;    ///< "http://127.0.0.1:8420" or https, with the real port
  [[nodiscard]] std::string store() const;  ///< one line
  /// Reads the TLS certificate and its key again, for new connections. What is wrong with them goes to the log, and the
  /// old pair stays. Nothing happens without TLS. From any thread, not while `stop` runs.
  void reload();
  /// Stop accepting → stop claiming (long polls answer empty, streams end) → running requests finish → release →
  /// close the store → close connections. False when `grace` ran out and work was cut off.
  bool stop(Milliseconds grace);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::daemon
