// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace millrace::test {

/// A redis-server of one test's own, in a directory of its own, gone with it. On a Unix socket always, on a free TCP
/// port when asked. With `appendonly yes` and `appendfsync always` unless told otherwise.
class RedisServer {
 public:
  struct Options {
    bool tcp = false;
    bool tls = false;       ///< a TLS port, with certificates of a CA made for it
    bool sentinel = false;  ///< a sentinel, not a server
    /// Lines of its configuration, name and value: they replace those above.
    std::vector<std::pair<std::string, std::string>> settings = {};
  };

  RedisServer() : RedisServer(Options{}) {}
  explicit RedisServer(Options options);  ///< started, and answering
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  void start();      ///< with what is in its files
  void terminate();  ///< SIGTERM: it writes what it has, and ends
  void kill();       ///< SIGKILL
  void suspend();    ///< SIGSTOP: it takes connections, and says nothing
  void resume();     ///< SIGCONT

  [[nodiscard]] std::string socket() const { return file("redis.sock"); }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::uint16_t tls_port() const { return tls_port_; }
  /// "redis+unix:<socket>?<options>".
  [[nodiscard]] std::string url(const std::string& options = {}) const;
  /// A file in its directory; with TLS there are ca.crt, server.crt, client.crt and client.key.
  [[nodiscard]] std::string file(const std::string& name) const { return directory_ + "/" + name; }

  /// What redis-cli prints for this command, as the default user.
  std::string cli(const std::vector<std::string>& arguments) const;

 private:
  void write_settings() const;
  void repair() const;
  [[nodiscard]] bool answers() const;
  void reap();

  Options options_;
  std::string directory_;
  std::uint16_t port_ = 0;
  std::uint16_t tls_port_ = 0;
  int pid_ = 0;
};

/// A TCP or TLS port nobody listens on right now.
std::uint16_t free_port();

}  // namespace millrace::test
