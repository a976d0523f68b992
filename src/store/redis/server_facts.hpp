// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "millrace/error.hpp"
#include "millrace/store.hpp"
#include "store/redis/reply.hpp"
#include "store/redis/url.hpp"

namespace millrace::store::redis {

/// What a server says about itself. Read at every connect and once a minute. A text that is empty is not known: the
/// server's ACL forbids to ask.
struct ServerFacts {
  std::string version = {};              ///< "7.0.15"
  std::string mode = {};                 ///< "standalone", "cluster", "sentinel"
  std::string role = {};                 ///< "master", "slave"
  bool loading = false;                  ///< it is still reading its files
  std::int64_t replicas = 0;             ///< connected ones
  std::string appendonly = {};           ///< "yes", "no"
  std::string appendfsync = {};          ///< "always", "everysec", "no"
  std::string no_fsync_on_rewrite = {};  ///< `no-appendfsync-on-rewrite`: "yes", "no"
  std::string load_truncated = {};       ///< `aof-load-truncated`: "yes", "no"
  std::string maxmemory_policy = {};

  /// What the settings say; the URL is not asked.
  [[nodiscard]] Level level() const noexcept;
  bool operator==(const ServerFacts&) const = default;
};

/// The answers to HELLO (when there was one), INFO and `config_question()`; an error among them leaves its facts
/// unknown.
ServerFacts read_facts(const Reply* hello, const Reply& info, const Reply& config);
std::vector<std::string> config_question();

/// What a write that was answered has reached: the server's level, or, where that cannot be read, the URL's word.
Level level_of(const ServerFacts& facts, const RedisUrl& url) noexcept;

/// Why this server will not do for what the URL asks, or nothing. {unsupported_version} for an old one;
/// {invalid_argument} for a cluster, a sentinel, settings that give less than asked or throw keys away; {unavailable}
/// for what passes: it loads, is a replica, has too few replicas.
std::optional<Error> why_unfit(const ServerFacts& facts, const RedisUrl& url);

/// What an operator should change although the server will do, or nothing: its file of commands may bring back a part
/// of a torn transaction (docs/stores.md, "A torn file").
std::optional<Store::Doubt> why_doubtful(const ServerFacts& facts);

}  // namespace millrace::store::redis
