// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "millrace/error.hpp"
#include "store/redis/reply.hpp"
#include "store/redis/url.hpp"

namespace millrace::store::redis {

/// What a server says about itself. Read at every connect and once a minute.
struct ServerFacts {
  std::string version = {};              ///< "7.0.15"
  std::string mode = "standalone";       ///< or "cluster", "sentinel"
  std::string role = "master";           ///< or "slave"
  std::string appendonly = {};           ///< "yes", "no"; empty: not known
  std::string appendfsync = {};          ///< "always", "everysec", "no"; empty: not known
  std::string no_fsync_on_rewrite = {};  ///< `no-appendfsync-on-rewrite`: "yes", "no"; empty: not known
  std::string maxmemory_policy = {};     ///< empty: not known
  std::int64_t replicas = 0;             ///< connected ones

  [[nodiscard]] Level level() const noexcept;  ///< what its settings say, without the URL
  bool operator==(const ServerFacts&) const = default;
};

}  // namespace millrace::store::redis
