// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Everything public at once.

#include "millrace/bus.hpp"           // IWYU pragma: export
#include "millrace/codec.hpp"         // IWYU pragma: export
#include "millrace/error.hpp"         // IWYU pragma: export
#include "millrace/event.hpp"         // IWYU pragma: export
#include "millrace/pattern.hpp"       // IWYU pragma: export
#include "millrace/replay.hpp"        // IWYU pragma: export
#include "millrace/schema.hpp"        // IWYU pragma: export
#include "millrace/store.hpp"         // IWYU pragma: export
#include "millrace/subscription.hpp"  // IWYU pragma: export
#include "millrace/types.hpp"         // IWYU pragma: export
