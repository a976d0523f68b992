// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `millrace replay list|show|forget`.

#include "cli/context.hpp"
#include "millrace/replay.hpp"

namespace millrace::cli {

void add_replay_records(CLI::App& replay, Context& context);

/// \throws Error{not_found}
ReplayRecord read_replay_record(Target& target, const std::string& replayid);

}  // namespace millrace::cli
