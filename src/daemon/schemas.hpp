// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the daemon knows of schema versions, and how it brings events up to date for those who ask over HTTP.

#include <vector>

#include "daemon/config.hpp"
#include "millrace/schema.hpp"

namespace millrace::daemon {

/// \throws Error{invalid_argument} as SchemaRegistry
SchemaRegistry registry_of(const std::vector<Config::Schema>& schemas);

}  // namespace millrace::daemon
