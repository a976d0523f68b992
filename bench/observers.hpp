// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bench {

/// One publish to one observer without a store, and one signal to one slot, with the same event. Seconds each.
struct ObserverRound {
  double bus;
  double signal;
};
ObserverRound run_observer_round(std::uint64_t calls);

}  // namespace bench
