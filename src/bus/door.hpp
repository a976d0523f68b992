// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "millrace/event.hpp"

namespace millrace::bus {

/// That the event does not bring along what only a store may set (`erasedtime`). Asked of what comes in; decoders and
/// `validate` do not ask, since they also read back what a store has set. \throws Error{invalid_event}
void check_not_erased(const Event& event);

/// What every event must pass that is published: `validate` and the above. \throws Error{invalid_event}
void check_incoming(const Event& event);

}  // namespace millrace::bus
