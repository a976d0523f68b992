// SPDX-License-Identifier: Apache-2.0
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"
#include "daemon/schemas.hpp"
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

/// `upcast=false` shows what was stored.
bool wants_upcast(const Query& query) {
  return !query.text("upcast") || query.boolean("upcast");
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
  read.keys = query.texts("key");
  read.since = query.time("since");
  read.until = query.time("until");
  const bool upcast = wants_upcast(query);
  Page page = services.store.log().read(stream, read);
  if (upcast) {
    for (StoredEvent& stored : page.events) services.schemas.show(stored.event);
  }
  if (!wants_ndjson(call->request())) return call->json(page_json(read.after, page));
  http::Response response{200, {{"Content-Type", "application/x-ndjson"}}, {}};
  response.headers.emplace_back("Millrace-Next", page.next.to_string());
  response.headers.emplace_back("Millrace-At-End", page.at_end ? "true" : "false");
  if (page.gap) response.headers.emplace_back("Millrace-Gap-First", page.gap->to_string());
  for (const StoredEvent& stored : page.events) {
    append_stored_event(stored, response.body);
    response.body += '\n';
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
  services.tails.open(call, stream, position, std::move(types), wants_upcast(query));
}

}  // namespace millrace::daemon
