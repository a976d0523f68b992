// SPDX-License-Identifier: Apache-2.0
#include "base/random.hpp"

#include <random>

namespace millrace {

double random_unit() {
  thread_local std::mt19937_64 generator{[] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }()};
  // 53 bits are what a double holds exactly; std::generate_canonical may round up to 1.
  return static_cast<double>(generator() >> 11U) * 0x1p-53;
}

}  // namespace millrace
