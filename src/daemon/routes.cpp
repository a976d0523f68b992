// SPDX-License-Identifier: Apache-2.0
#include "daemon/handlers.hpp"
#include "daemon/router.hpp"

namespace millrace::daemon {

std::span<const Route> routes() {
  static const std::vector<Route> table{
      {"POST", "/v1/streams/{stream}/events", {"durability"}, &publish_events, Pool::ingest},
      {"GET",
       "/v1/streams/{stream}/events",
       {"after", "limit", "types", "source", "key", "since", "until", "upcast"},
       &read_events},
      {"GET", "/v1/streams/{stream}/tail", {"after", "types", "upcast"}, &tail_events},
      {"GET", "/v1/streams", {}, &list_streams},
      {"POST", "/v1/streams", {}, &create_stream},
      {"POST", "/v1/streams/{stream}/retention", {}, &set_retention},
      {"POST", "/v1/streams/{stream}/trim", {}, &trim_stream},
      {"DELETE", "/v1/streams/{stream}/events", {"id", "source"}, &erase_event},
      {"GET", "/v1/groups", {}, &list_groups},
      {"POST", "/v1/groups", {}, &create_group},
      {"GET", "/v1/groups/{group}", {}, &show_group},
      {"DELETE", "/v1/groups/{group}", {}, &delete_group},
      {"POST", "/v1/groups/{group}/claim", {}, &claim_events},
      {"POST", "/v1/groups/{group}/ack", {}, &ack_leases},
      {"POST", "/v1/groups/{group}/retry", {}, &retry_leases},
      {"POST", "/v1/groups/{group}/reject", {}, &reject_leases},
      {"POST", "/v1/groups/{group}/release", {}, &release_leases},
      {"POST", "/v1/groups/{group}/extend", {}, &extend_leases},
      {"POST", "/v1/groups/{group}/settings", {}, &set_group},
      {"POST", "/v1/groups/{group}/seek", {}, &seek_group},
      {"POST", "/v1/groups/{group}/skip", {}, &skip_event},
      {"POST", "/v1/groups/{group}/pause", {}, &pause_group},
      {"POST", "/v1/groups/{group}/resume", {}, &resume_group},
      {"GET", "/v1/groups/{group}/pending", {"after", "limit"}, &list_pending},
      {"GET",
       "/v1/groups/{group}/dead-letters",
       {"after", "limit", "position", "types", "reason", "since", "until"},
       &list_dead_letters},
      {"DELETE",
       "/v1/groups/{group}/dead-letters",
       {"position", "types", "reason", "since", "until", "dry_run"},
       &purge_dead_letters},
      {"POST", "/v1/groups/{group}/dead-letters/redrive", {}, &redrive_dead_letters},
      {"POST", "/v1/groups/{group}/replay", {}, &replay_to_group},
      {"GET", "/v1/replays", {}, &list_replays},
      {"GET", "/v1/replays/{id}", {}, &show_replay},
      {"PUT", "/v1/replays/{id}", {}, &put_replay},
      {"DELETE", "/v1/replays/{id}", {}, &forget_replay},
      {"GET", "/v1/events", {"id", "source", "stream"}, &find_event},
      {"POST", "/v1/backup", {}, &back_up},
      {"GET", "/v1/schemas", {}, &list_schemas},
      {"GET", "/v1/stats", {}, &show_stats},
      {"GET", "/v1/doctor", {}, &show_doctor},
      {"GET", "/health", {}, &show_health, Pool::work, Access::open},
      {"GET", "/health/events", {}, &show_event_health},
      {"GET", "/ready", {}, &show_ready, Pool::work, Access::open},
      {"GET", "/metrics", {}, &show_metrics},
  };
  return table;
}

}  // namespace millrace::daemon
