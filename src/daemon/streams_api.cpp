// SPDX-License-Identifier: Apache-2.0
#include "daemon/access.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"

namespace millrace::daemon {
namespace {

/// Some 3000 years: what is more would leave the range of times.
constexpr std::uint64_t kMostSeconds = 100'000'000'000;

StreamName stream_of(const CallPtr& call) {
  return call->path("stream");
}

std::optional<std::chrono::seconds> seconds_of(const Members& body, std::string_view name) {
  const auto number = body.number(name, {0, kMostSeconds});
  return number ? std::optional(std::chrono::seconds(*number)) : std::nullopt;
}

/// What the body makes of a retention: a member that it names is set, null is no limit (of the interval: a day); what
/// it does not name stays.
Retention changed(Retention retention, const Members& body) {
  if (body.names("max_events")) retention.max_events = body.number("max_events", {});
  if (body.names("max_bytes")) retention.max_bytes = body.number("max_bytes", {});
  if (body.names("max_age_s")) retention.max_age = seconds_of(body, "max_age_s");
  if (body.names("interval_s")) retention.interval = seconds_of(body, "interval_s").value_or(Retention{}.interval);
  return retention;
}

}  // namespace

void list_streams(Services& services, const CallPtr& call) {
  JsonWriter array('[');
  for (const StreamInfo& stream : services.store.log().streams()) {
    if (sees(call->who(), stream.name.str())) array.element(stream_json(stream));
  }
  call->json(JsonWriter().raw("streams", array.finish()).finish());
}

void create_stream(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"name", "max_events", "max_bytes", "max_age_s", "interval_s"});
  const StreamName name(body.required("name"));
  check_stream(call->who(), name.str());
  services.store.log().create_stream(name, changed({}, body));
  call->json(stream_json(services.store.log().stream(name)), 201);
}

void set_retention(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"max_events", "max_bytes", "max_age_s", "interval_s"});
  call->json(stream_json(services.store.log().set_retention(stream_of(call), changed({}, body))));
}

void change_retention(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"max_events", "max_bytes", "max_age_s", "interval_s"});
  call->json(stream_json(services.store.log().change_retention(
      stream_of(call), [&body](const Retention& recorded) { return changed(recorded, body); })));
}

void trim_stream(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"up_to", "max_events", "max_bytes", "max_age_s", "force", "dry_run"});
  const StreamName stream = stream_of(call);
  TrimRequest request;
  if (const auto up_to = body.text("up_to")) request.up_to = Position::parse(*up_to);
  request.max_events = body.number("max_events", {});
  request.max_bytes = body.number("max_bytes", {});
  request.max_age = seconds_of(body, "max_age_s");
  request.force = body.boolean("force").value_or(false);
  request.dry_run = body.boolean("dry_run").value_or(false);
  if (!request.up_to && !request.max_events && !request.max_bytes && !request.max_age) {
    const Retention retention = services.store.log().stream(stream).retention;
    if (retention.keeps_all()) {
      throw Error(
          Errc::invalid_argument, "trim", stream.str(),
          "the stream keeps everything: name what to remove (up_to, max_events, max_age, max_bytes), or give it "
          "a retention first");
    }
    request.max_events = retention.max_events;
    request.max_bytes = retention.max_bytes;
    request.max_age = retention.max_age;
  }
  const TrimResult result = services.store.log().trim(stream, request);
  JsonWriter json;
  json.text("stream", stream.str()).boolean("dry_run", request.dry_run);
  add_trim(json, result);
  call->json(json.finish());
}

void erase_event(Services& services, const CallPtr& call) {
  const Query query = call->query();
  const StreamName stream = stream_of(call);
  const std::string id = query.required("id");
  const std::string source = query.required("source");
  const auto position = services.store.log().erase(stream, source, id);
  if (!position) {
    throw Error(Errc::not_found, "erase", id,
                "stream " + stream.str() + " has no event of this id from " + source +
                    "; see where it is: GET /v1/events?id=, millrace where");
  }
  JsonWriter json;
  json.text("stream", stream.str()).text("id", id).text("source", source).text("position", position->to_string());
  // From the event itself: erasing twice is as once, and it is the first time that counts. Trimmed meanwhile: not
  // known.
  std::string erased_at;
  for (const FoundEvent& found : services.store.log().find(stream, id, source)) {
    if (const auto* time = found.stored.event.extension(kErasedTime)) erased_at = millrace::to_string(*time);
  }
  call->json(json.text_or_null("erased_at", erased_at).finish());
}

}  // namespace millrace::daemon
