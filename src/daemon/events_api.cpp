// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/time.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"
#include "daemon/tails.hpp"
#include "millrace/codec.hpp"
#include "millrace/pattern.hpp"

namespace millrace::daemon {
namespace {

constexpr std::uint64_t kMostEvents = 10'000;

/// "beginning", "end" or a position.
Position read_after(Services& services, const StreamName& stream, const std::string& text) {
  if (text == "beginning") return {};
  if (text == "end") return services.store.log().stream(stream).last;
  return Position::parse(text);
}

bool wants_ndjson(const http::Request& request) {
  const std::string* accept = request.header("Accept");
  return accept != nullptr && accept->find("application/x-ndjson") != std::string::npos;
}

Position just_before(Position position) {
  return position.low > 0 ? Position{position.high, position.low - 1} : Position{position.high - 1, UINT64_MAX};
}

/// What has become of an event in one group.
std::string state_in(Services& services, const GroupInfo& group, const StoredEvent& stored) {
  JsonWriter json;
  json.text("group", group.name.str());
  if (!PatternList(group.types).matches(stored.event.type)) return json.text("state", "filtered_out").finish();
  const auto pending = services.store.ledger().pending(group.name, just_before(stored.position), 1);
  if (!pending.empty() && pending.front().position == stored.position) {
    const PendingEvent& event = pending.front();
    const bool retry = event.state == PendingEvent::State::waiting && event.failures > 0;
    json.text("state", retry ? std::string_view("retry") : to_string(event.state));
    return json.raw("pending", pending_json(event)).finish();
  }
  DeadLetterQuery dead;
  dead.positions = {stored.position};
  dead.limit = 1;
  const auto letters = services.store.ledger().dead_letters(group.name, dead);
  if (!letters.empty()) {
    const DeadLetter& letter = letters.front();
    return json.text("state", "dead")
        .text("reason", letter.reason)
        .text("died_at", format_rfc3339(letter.died_at))
        .finish();
  }
  return json.text("state", stored.position > group.cursor ? "ahead" : "settled").finish();
}

}  // namespace

void read_events(Services& services, const CallPtr& call) {
  const StreamName stream(call->path("stream"));
  const Query query = call->query();
  ReadQuery read;
  read.after = read_after(services, stream, query.text("after").value_or("beginning"));
  read.limit = query.number("limit", 100, {1, kMostEvents});
  read.types = query.list("types");
  read.sources = query.list("source");
  read.since = query.time("since");
  read.until = query.time("until");
  const Page page = services.store.log().read(stream, read);
  if (!wants_ndjson(call->request())) return call->json(page_json(read.after, page));
  http::Response response{200, {{"Content-Type", "application/x-ndjson"}}, {}};
  response.headers.emplace_back("Millrace-Next", page.next.to_string());
  response.headers.emplace_back("Millrace-At-End", page.at_end ? "true" : "false");
  if (page.gap) response.headers.emplace_back("Millrace-Gap-First", page.gap->to_string());
  for (const StoredEvent& stored : page.events) {
    response.body += "{\"position\":\"" + stored.position.to_string() + "\",\"event\":";
    encode_json_to(stored.event, response.body);
    response.body += "}\n";
  }
  call->respond(std::move(response));
}

void tail_events(Services& services, const CallPtr& call) {
  const StreamName stream(call->path("stream"));
  const Query query = call->query();
  const std::string* resume = call->request().header("Last-Event-ID");
  const std::string after = resume != nullptr && !resume->empty() ? *resume : query.text("after").value_or("end");
  std::vector<std::string> types = query.list("types");
  static_cast<void>(PatternList(types));  // a malformed pattern is told before the stream starts
  const Position position = read_after(services, stream, after);
  static_cast<void>(services.store.log().stream(stream));  // so is an unknown stream
  services.tails.open(call, stream, position, std::move(types));
}

void find_event(Services& services, const CallPtr& call) {
  const Query query = call->query();
  const std::string id = query.required("id");
  const std::string source = query.required("source");
  const std::vector<GroupInfo> groups = services.store.ledger().groups();
  JsonWriter matches('[');
  for (const StreamInfo& stream : services.store.log().streams()) {
    const auto found = services.store.log().find(stream.name, id, source);
    if (found.empty()) continue;
    const StoredEvent* stored = &found.front().stored;
    JsonWriter states('[');
    for (const GroupInfo& group : groups) {
      if (group.stream == stream.name) states.element(state_in(services, group, *stored));
    }
    matches.element(JsonWriter()
                        .text("stream", stream.name.str())
                        .text("position", stored->position.to_string())
                        .text("stored_at", format_rfc3339(stored->stored_at))
                        .raw("event", encode_json(stored->event))
                        .raw("groups", states.finish())
                        .finish());
  }
  call->json(JsonWriter().raw("matches", matches.finish()).finish());
}

}  // namespace millrace::daemon
