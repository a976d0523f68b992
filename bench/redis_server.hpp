// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A redis-server of our own, and a bare client of it: hiredis and nothing between.

#include <hiredis/hiredis.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "child.hpp"
#include "workload.hpp"

namespace bench {

/// One connection. Errors are thrown as std::runtime_error.
class BareClient {
 public:
  struct FreeReply {
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
  };
  using Reply = std::unique_ptr<redisReply, FreeReply>;
  using Words = std::vector<std::string_view>;

  explicit BareClient(const std::string& socket);
  /// Puts a command where the next `reply` or `call` sends it from.
  void queue(const Words& words);
  /// The next answer; sends what is queued when none has come yet.
  Reply reply();
  Reply call(const Words& words) {
    queue(words);
    return reply();
  }

 private:
  struct Disconnect {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  std::unique_ptr<redisContext, Disconnect> context_;
};

/// A server with its own directory, its own socket and no port, that answers when the append-only file is synced.
/// Append-only file rewrites and snapshots are off.
class RedisServer {
 public:
  static bool installed();
  explicit RedisServer(const std::string& dir);

  [[nodiscard]] std::string socket() const { return socket_dir_.path() + "/redis.sock"; }
  [[nodiscard]] std::string url() const { return "redis+unix:" + socket(); }
  [[nodiscard]] double cpu_seconds() const { return process_.cpu_seconds(); }
  [[nodiscard]] std::uint64_t used_memory() const;  ///< what it has allocated, in bytes

 private:
  TemporaryDir socket_dir_;
  Child process_;  // killed at the end: what it holds was verified, an orderly end would only write it once more
};

/// Reads a stream's entries back, whose field at `id_at` is the id. \throws std::runtime_error unless it holds exactly
/// the first `count` events of the workload
void verify_stream(BareClient& client, std::string_view key, std::size_t id_at, std::uint64_t count,
                   std::string_view who);

}  // namespace bench
