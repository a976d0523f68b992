// SPDX-License-Identifier: Apache-2.0
// Where is my event: what the log and every group know of one (docs/http-api.md, `GET /v1/events`).
#include "base/time.hpp"
#include "daemon/access.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"
#include "millrace/codec.hpp"

namespace millrace::daemon {
namespace {

void time_or_null(JsonWriter& json, std::string_view name, const std::optional<Timestamp>& time) {
  json.text_or_null(name, time ? format_rfc3339(*time) : std::string());
}

/// What a person calls the state of an open event: one that failed before is not just waiting.
std::string_view name_of(const PendingEvent& event) {
  const bool failed = event.state == PendingEvent::State::waiting && event.failures > 0;
  return failed ? std::string_view("retry") : to_string(event.state);
}

void add_state(JsonWriter& json, const Whereabouts& where) {
  switch (where.state) {
    case Whereabouts::State::filtered_out:
      json.text("state", "filtered_out").boolean("computed", true);
      return;
    case Whereabouts::State::ahead:
      json.text("state", "ahead").number("behind", where.behind);
      return;
    case Whereabouts::State::open:
      json.text("state", where.pending ? name_of(*where.pending) : "waiting");
      if (where.pending) json.raw("pending", pending_json(*where.pending));
      if (where.parked_behind) json.text("parked_behind", where.parked_behind->to_string());
      return;
    case Whereabouts::State::settled:
      json.text("state", "settled");
      time_or_null(json, "settled_after", where.settled_after);
      time_or_null(json, "settled_before", where.settled_before);
      json.text_or_null("claim", where.claim ? std::to_string(*where.claim) : std::string());
      json.text_or_null("consumer", where.consumer);
      return;
    case Whereabouts::State::dead:
      json.text("state", "dead").text("reason", where.reason);
      time_or_null(json, "died_at", where.died_at);
      return;
  }
}

std::string group_json_at(const GroupInfo& group, const Whereabouts& where) {
  JsonWriter json;
  json.text("group", group.name.str());
  add_state(json, where);
  json.text_or_null("key", where.key.value_or(std::string()));
  return json.boolean("paused", group.paused).text_or_null("stalled", group.stalled).finish();
}

/// Of an event that was trimmed only its name is left.
std::string event_json(const FoundEvent& found) {
  if (!found.trimmed_at) return encode_json(found.stored.event);
  return JsonWriter().text("id", found.stored.event.id).text("source", found.stored.event.source).finish();
}

std::string match_json(Services& services, const StreamName& stream, const FoundEvent& found,
                       const std::vector<GroupInfo>& groups) {
  JsonWriter states('[');
  for (const GroupInfo& group : groups) {
    if (group.stream != stream) continue;
    try {
      states.element(group_json_at(group, services.store.ledger().where(group.name, found.stored.position)));
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;  // deleted since it was listed: it knows of nothing any more
    }
  }
  JsonWriter json;
  json.text("stream", stream.str()).text("position", found.stored.position.to_string());
  time_or_null(json, "stored_at", found.trimmed_at ? std::nullopt : std::optional<Timestamp>(found.stored.stored_at));
  json.text("durability", to_string(found.durability));
  if (found.trimmed_at) json.text("trimmed_at", format_rfc3339(*found.trimmed_at));
  if (const auto* erased = found.stored.event.extension(kErasedTime))
    json.text("erased_at", millrace::to_string(*erased));
  return json.raw("event", event_json(found)).raw("groups", states.finish()).finish();
}

}  // namespace

void find_event(Services& services, const CallPtr& call) {
  const Query query = call->query();
  const std::string id = query.required("id");
  const std::optional<std::string> source = query.text("source");
  std::vector<StreamName> streams;
  if (const auto named = query.text("stream")) {
    check_stream(call->who(), *named);
    streams.push_back(services.store.log().stream(StreamName(*named)).name);
  } else {
    for (const StreamInfo& stream : services.store.log().streams()) {
      if (sees(call->who(), stream.name.str())) streams.push_back(stream.name);
    }
  }
  const std::vector<GroupInfo> groups = services.store.ledger().groups();
  JsonWriter matches('[');
  for (const StreamName& stream : streams) {
    for (const FoundEvent& found : services.store.log().find(stream, id, source)) {
      matches.element(match_json(services, stream, found, groups));
    }
  }
  call->json(JsonWriter().raw("matches", matches.finish()).finish());
}

}  // namespace millrace::daemon
