// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "millrace/types.hpp"

namespace millrace::io {

/// How long to wait before the next try. Doubles from `first` up to `most`; each wait is between half of that and the
/// whole, so that many clients of one server that fell do not all come back in the same moment. Pure.
class Backoff {
 public:
  explicit Backoff(Milliseconds first = Milliseconds{20}, Milliseconds most = Milliseconds{2'000});

  /// \param jitter in [0, 1): 0 takes the whole wait, nearly 1 half of it
  Milliseconds next(double jitter);
  void reset();  ///< after a success

 private:
  Milliseconds first_;
  Milliseconds most_;
  Milliseconds current_;
};

}  // namespace millrace::io
