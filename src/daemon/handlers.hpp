// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The handlers, by subject. Each answers its call exactly once, now or later; what it throws is the answer.

#include <memory>

#include "daemon/call.hpp"

namespace millrace::daemon {

using CallPtr = std::shared_ptr<Call>;

// publish_api.cpp
void publish_events(Services& services, const CallPtr& call);
// access_token.cpp
void make_access_token(Services& services, const CallPtr& call);
// events_api.cpp
void read_events(Services& services, const CallPtr& call);
void tail_events(Services& services, const CallPtr& call);
// where_api.cpp
void find_event(Services& services, const CallPtr& call);
// deliveries_api.cpp
void claim_events(Services& services, const CallPtr& call);
void ack_leases(Services& services, const CallPtr& call);
void retry_leases(Services& services, const CallPtr& call);
void reject_leases(Services& services, const CallPtr& call);
void release_leases(Services& services, const CallPtr& call);
void extend_leases(Services& services, const CallPtr& call);
// schemas.cpp
void list_schemas(Services& services, const CallPtr& call);
void forget_schema(Services& services, const CallPtr& call);
// groups_api.cpp
void list_groups(Services& services, const CallPtr& call);
void create_group(Services& services, const CallPtr& call);
void show_group(Services& services, const CallPtr& call);
void delete_group(Services& services, const CallPtr& call);
void set_group(Services& services, const CallPtr& call);
void seek_group(Services& services, const CallPtr& call);
void skip_event(Services& services, const CallPtr& call);
void pause_group(Services& services, const CallPtr& call);
void resume_group(Services& services, const CallPtr& call);
void list_pending(Services& services, const CallPtr& call);
void list_dead_letters(Services& services, const CallPtr& call);
void redrive_dead_letters(Services& services, const CallPtr& call);
void purge_dead_letters(Services& services, const CallPtr& call);
// replay_api.cpp
void replay_to_group(Services& services, const CallPtr& call);
void list_replays(Services& services, const CallPtr& call);
void show_replay(Services& services, const CallPtr& call);
void put_replay(Services& services, const CallPtr& call);
void forget_replay(Services& services, const CallPtr& call);
// streams_api.cpp
void list_streams(Services& services, const CallPtr& call);
void create_stream(Services& services, const CallPtr& call);
void set_retention(Services& services, const CallPtr& call);
void change_retention(Services& services, const CallPtr& call);
void trim_stream(Services& services, const CallPtr& call);
void erase_event(Services& services, const CallPtr& call);
// doctor_api.cpp
void show_doctor(Services& services, const CallPtr& call);
// backup_api.cpp
void back_up(Services& services, const CallPtr& call);
// admin_api.cpp
void show_stats(Services& services, const CallPtr& call);
void show_health(Services& services, const CallPtr& call);
void show_event_health(Services& services, const CallPtr& call);
void show_ready(Services& services, const CallPtr& call);
void show_metrics(Services& services, const CallPtr& call);

}  // namespace millrace::daemon
