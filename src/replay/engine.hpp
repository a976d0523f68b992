// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The replay itself, over whatever ports it is given.

#include <map>

#include "replay/ports.hpp"

namespace millrace::replay {

struct RunOptions {
  std::size_t window = 1'000;
  std::function<void(const ReplayProgress&)> progress = {};
  std::shared_ptr<const SchemaRegistry> schemas = {};
};

/// A record of what is asked, checked, with an id, not begun.
ReplayRecord new_record(const ReplayQuery& query, const ReplayTarget& target, const ReplayOptions& options);

/// Begins the replay of a record (version 0), or goes on with it, and keeps the record true. Returns when it is
/// finished, told to stop, or an event failed and it is to stop then. What the ports throw is recorded, as far as that
/// is possible, and thrown on. \throws Error{invalid_argument}: the target is not the recorded one, or a group of
/// another stream
void run(Ports& ports, ReplayRecord& record, const ReplayTarget& target, const RunOptions& options);

/// What a replay would do now.
struct Preview {
  std::uint64_t events = 0;
  std::map<std::string, std::uint64_t> types = {};
  std::optional<StoredEvent> first = {}, last = {};
  std::uint64_t erased = 0;                             ///< among them
  std::map<ReplayStatus, std::uint64_t> statuses = {};  ///< to a group
  Position end = {};
  std::optional<Position> gap = {};
};
/// Reads all of it and changes nothing.
Preview preview(Ports& ports, const ReplayRecord& record);

}  // namespace millrace::replay
