// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

namespace millrace::fuzz {

std::span<const Target> targets() {
  static constexpr Target kTargets[] = {
      {"json_event", json_event},
      {"json_batch", json_batch},
      {"http_binary", http_binary},
      {"schema_changes", schema_changes},
      {"glob", glob},
      {"text_values", text_values},
      {"range_set", range_set},
      {"store_url", store_url},
      {"publish_body", publish_body},
      {"params", params},
      {"sse", sse},
      {"ndjson", ndjson},
      {"config", config},
      {"replay_record", replay_record},
      {"group_operations", group_operations},
      {"store_operations", store_operations},
  };
  return kTargets;
}

}  // namespace millrace::fuzz
