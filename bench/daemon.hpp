// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A real `millrace serve` and connections to it, as any program would talk to it.

#include <boost/json.hpp>
#include <memory>
#include <string>

#include "child.hpp"

namespace bench {

class Daemon {
 public:
  /// Starts `program serve` on a store; returns when it says where it listens. \throws std::runtime_error
  Daemon(const std::string& program, const std::string& store_path, const std::string& dir);
  [[nodiscard]] const std::string& port() const { return port_; }
  [[nodiscard]] Child& process() { return process_; }
  void stop();  ///< in order. \throws std::runtime_error when it did not end well

 private:
  std::string log_;
  Child process_;
  std::string port_;
};

/// A request whose bytes are ready to be sent.
std::string post(const std::string& target, const std::string& content_type, const std::string& body);

/// A keep-alive connection. Not thread-safe.
class Connection {
 public:
  explicit Connection(const std::string& port);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  /// Sends what `post` made; the body of the answer. \throws std::runtime_error unless it was 200
  std::string call(const std::string& request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bench
