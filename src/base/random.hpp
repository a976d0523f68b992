// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace millrace {

/// Uniform in [0, 1), for jitter. Thread-safe; not for secrets.
double random_unit();

}  // namespace millrace
