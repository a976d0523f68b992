// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The parts of `measure_redis`.

#include "options.hpp"
#include "report.hpp"

namespace bench {

void measure_redis_latency(const Options& options, Report& report);

}  // namespace bench
