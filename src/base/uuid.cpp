// SPDX-License-Identifier: Apache-2.0
#include "base/uuid.hpp"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <system_error>

#include "millrace/error.hpp"

namespace millrace {
namespace {

/// From the kernel each time, so that a forked child does not repeat its parent's ids.
template <class T>
T random_bits() {
  T bits{};
  auto* bytes = reinterpret_cast<unsigned char*>(&bits);
  std::size_t done = 0;
  while (done < sizeof bits) {
    const auto got = ::getrandom(bytes + done, sizeof bits - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw Error(Errc::unavailable, "make uuid", {}, "the system gives no random bytes",
                  std::generic_category().message(errno));
    }
    done += static_cast<std::size_t>(got);
  }
  return bits;
}

constexpr std::uint64_t kCounterBits = 12;
constexpr std::uint64_t kCounterStart = 0x7FF;  // begins in the lower half, so that a millisecond has room to count

/// Milliseconds and counter in one number: what must strictly increase (RFC 9562 §6.2, method 1).
std::uint64_t next_tick(std::uint64_t random) {
  static std::mutex mutex;
  static std::uint64_t last = 0;
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  const auto millis =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count());
  const std::uint64_t fresh = (millis << kCounterBits) | (random & kCounterStart);
  const std::lock_guard lock(mutex);
  last = (fresh >> kCounterBits) > (last >> kCounterBits) ? fresh : last + 1;
  return last;
}

}  // namespace

std::string new_uuid_v7() {
  const auto random = random_bits<std::array<std::uint64_t, 2>>();
  const std::uint64_t tick = next_tick(random[0]);
  const std::uint64_t high = ((tick >> kCounterBits) << 16U) | 0x7000U | (tick & 0xFFFU);
  const std::uint64_t low = (random[1] & 0x3FFF'FFFF'FFFF'FFFFULL) | 0x8000'0000'0000'0000ULL;

  constexpr char kHex[] = "0123456789abcdef";
  std::string text(36, '-');
  std::size_t at = 0;
  for (int nibble = 0; nibble < 32; ++nibble) {
    if (nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20) ++at;
    const std::uint64_t word = nibble < 16 ? high : low;
    text[at++] = kHex[(word >> static_cast<unsigned>(60 - 4 * (nibble % 16))) & 0xFU];
  }
  return text;
}

}  // namespace millrace
