// SPDX-License-Identifier: Apache-2.0
#include "bus/door.hpp"

#include <string>

#include "millrace/error.hpp"

namespace millrace::bus {

void check_not_erased(const Event& event) {
  if (event.extension(kErasedTime)) {
    throw Error(Errc::invalid_event, "publish", std::string(kErasedTime),
                "marks an event whose data was erased, and is set by the store alone; leave it out");
  }
}

void check_incoming(const Event& event) {
  validate(event);
  check_not_erased(event);
}

}  // namespace millrace::bus
