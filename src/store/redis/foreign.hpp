// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Entries that another producer wrote in a shape of its own.

#include <string>
#include <vector>

#include "store/redis/entry.hpp"

namespace millrace::store::redis {

/// Makes an event of the fields, or says in `entry.aside` why it cannot.
void map_foreign(Entry& entry, std::vector<Reply>& fields, const std::string& log_key, const ForeignMapping& mapping);

/// What makes it no CloudEvent; empty when it is one.
std::string fault_of(const Event& event);

}  // namespace millrace::store::redis
