// SPDX-License-Identifier: Apache-2.0

// Consumers that read the native group by themselves, with XREADGROUP and XACK. What they hold is a claim like others,
// in their name: nobody else gets it until they acknowledge it or do not touch it for a while.

#include <algorithm>

#include "base/log.hpp"
#include "store/redis/ledger.hpp"

namespace millrace::store::redis {

bool RedisLedger::foreigners_due(const Slot& slot, Timestamp now) const {
  (void)slot;
  (void)now;
  return false;
}

void RedisLedger::look_at_foreigners(Slot& slot, std::string_view operation) {
  (void)operation;
  slot.read_on = false;
}

}  // namespace millrace::store::redis
