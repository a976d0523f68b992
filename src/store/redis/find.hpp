// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/redis/client.hpp"
#include "store/redis/keys.hpp"
#include "store/redis/position.hpp"

namespace millrace::store::redis {

/// One event whose id is known: it stands in the log, or was trimmed less than `dedup_keep` ago.
struct KnownId {
  Position position = {};
  std::string source = {};
  std::optional<Timestamp> trimmed_at = {};
};

/// Those under an id, by position; at most 100. \param days as in StreamRow \param not_before trimmed ones from before
/// count as forgotten
std::vector<KnownId> find_ids(Client& client, const Keys& keys, const StreamName& stream, const std::string& days,
                              std::string_view id, std::optional<std::string_view> source, Timestamp not_before);

}  // namespace millrace::store::redis
