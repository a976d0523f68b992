// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "io/endpoint.hpp"
#include "millrace/types.hpp"
#include "store/redis/foreign_mapping.hpp"
#include "store/url.hpp"

namespace millrace::store::redis {

/// How safe a write is when the server has answered it; weakest first.
enum class Level {
  unknown,  ///< the server does not let its settings be read
  memory,   ///< no append-only file: a restart loses what came after the last snapshot
  relaxed,  ///< `appendfsync` is `everysec` or `no`, or rewrites switch it off: a crash of the machine loses the tail
  durable,  ///< `appendfsync always`: on disk before the answer
};
std::string_view to_string(Level level) noexcept;

/// What a URL of this store says:
///
///     redis://[user[:password]@]host[:port][/database][?option=value&…]     (port 6379, database 0)
///     rediss://…                                                            TLS
///     redis+unix:[//[user[:password]@]]/path/of/socket[?db=0&…]             also written unix:
///
/// User and password are percent-encoded. Options of every store (`dedup_keep`, `history`) stand beside these.
struct RedisUrl {
  io::Endpoint endpoint = {};
  std::string user = {};      ///< empty: the server's default user
  std::string password = {};  ///< never printed
  unsigned database = 0;

  std::string prefix = {};  ///< `prefix=`: begins every key, so that several stores share a database

  /// `durability=durable|relaxed|memory|unknown`: the least that will do; a server that gives less is refused, at the
  /// start and when it changes. Where the server's settings cannot be read it is believed instead. Not given: durable.
  std::optional<Level> durability = {};
  unsigned replicas = 0;  ///< `replicas=`: a write is answered when so many replicas have it too (`WAIT`)

  /// `connect_timeout=<ms>`: how long one attempt takes at most, and a call waits for a lost connection to come back.
  Milliseconds connect_timeout{2'000};
  /// `timeout=<ms>`: how long an answer is waited for. Longer than the longest pause of the server (a slow disk with
  /// `appendfsync always`, another client's script), or its answers get lost.
  Milliseconds timeout{5'000};

  /// `foreign_type=`, `foreign_id=`, `foreign_source=`, `foreign_subject=`, `foreign_time=`, `foreign_trace_id=`: names
  /// of fields, separated by commas, instead of the usual ones. Every process that shares a store says the same.
  ForeignMapping foreign = {};

  // TLS, `rediss:` only: `ca=<file>`, `cert=<file>` and `key=<file>`, `server_name=<name>`, `insecure=true`.

  /// "redis://me@localhost:6379/0": no password.
  [[nodiscard]] std::string describe() const;
};

/// Takes the options that are this store's own out of `url.options` and leaves those of every store.
/// \throws Error{invalid_argument} naming what is wrong; for an unknown option, the known ones
RedisUrl parse_redis_url(StoreUrl& url);
RedisUrl parse_redis_url(std::string_view text);  ///< the same of the text of a URL

}  // namespace millrace::store::redis
