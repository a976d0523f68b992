// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "millrace/subscription.hpp"

namespace millrace {
namespace {

void check(bool good, const char* field, const std::string& value, const char* allowed) {
  if (good) return;
  throw Error(Errc::invalid_argument, "subscribe", field,
              fmt::format("{} = {} is not allowed: {}", field, value, allowed));
}

}  // namespace

void SubscriptionOptions::validate() const {
  check(batch >= 1 && batch <= 10'000, "batch", std::to_string(batch), "1 … 10'000");
  check(concurrency >= 1 && concurrency <= 1'000, "concurrency", std::to_string(concurrency), "1 … 1'000");
  check(timeout >= Milliseconds{1} && timeout <= std::chrono::hours{24}, "timeout",
        fmt::format("{} ms", timeout.count()), "1 ms … 24 h");
  check(lease >= Milliseconds{10} && lease <= std::chrono::hours{1}, "lease", fmt::format("{} ms", lease.count()),
        "10 ms … 1 h");
  check(consumer.size() <= 256, "consumer", fmt::format("({} bytes)", consumer.size()), "at most 256 bytes");
  settings.validate();
}

}  // namespace millrace
