// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The limits of Millrace's store on Redis: what a client reaches that has nothing to do but the commands.

#include "contender.hpp"
#include "redis_server.hpp"

namespace bench {

/// A contender that has a redis-server of its own.
class ServedContender : public Contender {
 public:
  [[nodiscard]] virtual const RedisServer& server() const = 0;
  /// Before each round, off the clock.
  virtual void prepare(std::span<const millrace::Event>) {}
};

enum class BareWay {
  script,  ///< EVALSHA: refuses duplicates
  xadd,    ///< XADD alone
};
std::unique_ptr<ServedContender> make_bare_batches(const std::string& dir, BareWay way);
std::unique_ptr<ServedContender> make_bare_publishers(const std::string& dir, BareWay way, std::size_t publishers);

/// A stream that a group reads: XREADGROUP, with the XACK of what was read before in the same write.
std::unique_ptr<ServedContender> make_bare_consumer(const std::string& dir);
/// The same with Millrace: a Subscription of batches of 1000.
std::unique_ptr<ServedContender> make_millrace_consumer(const std::string& dir);

}  // namespace bench
