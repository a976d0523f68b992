// SPDX-License-Identifier: Apache-2.0
#include "io/backoff.hpp"

#include <algorithm>

namespace millrace::io {

Backoff::Backoff(Milliseconds first, Milliseconds most) : first_(first), most_(most), current_(first) {}

Milliseconds Backoff::next(double jitter) {
  const Milliseconds whole = std::min(current_, most_);
  current_ = std::min(whole * 2, most_);
  return Milliseconds(whole.count() - static_cast<std::int64_t>(static_cast<double>(whole.count()) * 0.5 * jitter));
}

void Backoff::reset() {
  current_ = first_;
}

}  // namespace millrace::io
