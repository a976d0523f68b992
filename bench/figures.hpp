// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The figures that are no race of batches. Each verifies what it counted and throws std::runtime_error when a single
/// event is missing.

#include "options.hpp"
#include "report.hpp"

namespace bench {

/// One publisher, one event at a time, each durable before the next: beside one 4 KiB write and sync.
void measure_one_publisher(const Options& options, Report& report);
/// From the moment an event was due to be published to the call of its handler, at 10,000 events/s.
void measure_reaction(const Options& options, Report& report);
/// A daemon on a store with millions of events that a group has not read: start, memory, bytes per event.
void measure_start(const Options& options, Report& report);
/// What operations cost as one table grows, with ids that grow with time and with random ones.
void measure_growth(const Options& options, Report& report);
/// The store on Redis beside bare clients of the same server: append, consume and acknowledge, latency over two
/// processes, memory.
void measure_redis(const Options& options, Report& report);
/// The second of those processes: handles so many events of the store at `url`, and tells when.
int run_redis_child(const std::string& url, std::uint64_t events);

}  // namespace bench
