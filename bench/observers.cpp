// SPDX-License-Identifier: Apache-2.0
#include "observers.hpp"

#include <time.h>

#include <algorithm>
#include <boost/signals2/signal.hpp>
#include <stdexcept>

#include "millrace/bus.hpp"
#include "workload.hpp"

namespace bench {
namespace {

// Neither side waits for anything, so time of this thread is the fair measure on a machine with other work to do.
double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

ObserverRound run_observer_round(std::uint64_t calls) {
  const millrace::Event event = Workload().next();
  std::uint64_t observed = 0, signalled = 0;

  millrace::Bus bus(nullptr);
  const auto observation = bus.observe({}, [&](const millrace::Observed& o) { observed += o.event.id.size(); });
  boost::signals2::signal<void(const millrace::Event&)> signal;
  signal.connect([&](const millrace::Event& e) { signalled += e.id.size(); });

  // In slices, by turns, so that whatever else the machine does meets both.
  const std::uint64_t slice = std::max<std::uint64_t>(1, calls / 100);
  double bus_seconds = 0, signal_seconds = 0;
  for (std::uint64_t done = 0; done < calls; done += slice) {
    double start = thread_seconds();
    for (std::uint64_t i = 0; i < slice; ++i) bus.publish(event);
    bus_seconds += thread_seconds() - start;
    start = thread_seconds();
    for (std::uint64_t i = 0; i < slice; ++i) signal(event);
    signal_seconds += thread_seconds() - start;
  }
  if (observed != signalled || observed < calls * event.id.size())
    throw std::runtime_error("observer: calls are missing");
  return {bus_seconds, signal_seconds};
}

}  // namespace bench
