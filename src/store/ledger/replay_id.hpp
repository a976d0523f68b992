// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace millrace::ledger {

/// The id of a replay has the characters of a name: `[a-z0-9][a-z0-9._-]{0,127}`. \throws Error{invalid_argument}
void check_replay_id(std::string_view replayid);

}  // namespace millrace::ledger
