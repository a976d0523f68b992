// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Declared changes, applied to JSON as text.

#include <span>
#include <string>
#include <string_view>

#include "millrace/schema.hpp"

namespace millrace {

/// The data after all changes, in order. \throws Error{upcast_failed}: what is not as a change needs it; its object is
/// empty, since only the caller knows what the data belongs to
std::string apply_changes(std::string_view json, std::span<const SchemaChange> changes);

}  // namespace millrace
