// SPDX-License-Identifier: Apache-2.0
#include "daemon/access.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"

namespace millrace::daemon {
namespace {

constexpr std::uint64_t kMostRows = 10'000;

GroupName group_of(const CallPtr& call) {
  return call->path("group");
}

Position position_or_beginning(const Query& query) {
  const auto text = query.text("after");
  return text ? Position::parse(*text) : Position{};
}

void alter(Services& services, const CallPtr& call, const GroupChange& change) {
  call->json(group_json(services.store.ledger().alter_group(group_of(call), change)));
}

/// A list and where to go on, null when that was all.
template <class Row>
std::string list_json(std::string_view name, const std::vector<Row>& rows, std::size_t limit,
                      std::string (*to_json)(const Row&)) {
  JsonWriter array('[');
  for (const Row& row : rows) array.element(to_json(row));
  JsonWriter json;
  json.raw(name, array.finish());
  json.text_or_null("next", rows.size() < limit ? std::string() : rows.back().position.to_string());
  return json.finish();
}

DeadLetterQuery query_of(const Query& query) {
  DeadLetterQuery out;
  out.positions = query.positions("position");
  out.types = query.list("types");
  out.reason_contains = query.text("reason");
  out.since = query.time("since");
  out.until = query.time("until");
  return out;
}

/// How many, or with dry_run how many it would be.
std::string count_json(std::string_view name, std::uint64_t count, bool dry_run) {
  return JsonWriter().boolean("dry_run", dry_run).number(name, count).finish();
}

}  // namespace

void list_groups(Services& services, const CallPtr& call) {
  JsonWriter array('[');
  for (const GroupInfo& group : services.store.ledger().groups()) {
    if (sees(call->who(), group.stream.str())) array.element(group_json(group));
  }
  call->json(JsonWriter().raw("groups", array.finish()).finish());
}

void create_group(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"name", "stream", "start", "types", "order", "max_dataversion"});
  const GroupName name(body.required("name"));
  GroupSpec spec;
  spec.stream = StreamName(body.required("stream"));
  check_stream(call->who(), spec.stream->str());
  spec.start = Start::parse(body.required("start"));
  spec.types = body.texts("types");
  if (const auto order = body.text("order")) spec.order = OrderRule::parse(*order);
  spec.settings = services.config.delivery.group;  // made on purpose: it never expires
  spec.settings->expires.reset();
  spec.settings->max_dataversion = max_dataversion_of(body);
  for (const GroupInfo& group : services.store.ledger().groups()) {
    if (group.name == name)
      throw Error(Errc::already_exists, "create group", name.str(), "a group of that name is there already");
  }
  call->json(group_json(services.store.ledger().ensure_group(name, spec)), 201);
}

void show_group(Services& services, const CallPtr& call) {
  call->json(group_json(services.store.ledger().group(group_of(call))));
}

void delete_group(Services& services, const CallPtr& call) {
  const GroupName group = group_of(call);
  services.store.ledger().delete_group(group);
  call->json(JsonWriter().text("deleted", group.str()).finish());
}

void set_group(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"max_dataversion"});
  const auto pin = body.number("max_dataversion", {0, INT32_MAX});  // 0 = as far as is known
  if (!pin) {
    throw Error(Errc::invalid_argument, "read request", "max_dataversion",
                "the member 'max_dataversion' is required; 0 lifts it");
  }
  GroupChange change;
  change.settings = services.store.ledger().group(group_of(call)).settings;
  change.settings->max_dataversion = *pin == 0 ? std::nullopt : std::optional(static_cast<std::int32_t>(*pin));
  alter(services, call, change);
}

void seek_group(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"to"});
  GroupChange change;
  change.seek = Start::parse(body.required("to"));
  alter(services, call, change);
}

void skip_event(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"position"});
  GroupChange change;
  change.skip = Position::parse(body.required("position"));
  alter(services, call, change);
}

void pause_group(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {});
  GroupChange change;
  change.paused = true;
  alter(services, call, change);
}

void resume_group(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {});
  GroupChange change;
  change.paused = false;
  alter(services, call, change);
}

void list_pending(Services& services, const CallPtr& call) {
  const Query query = call->query();
  const std::size_t limit = query.number("limit", 100, {1, kMostRows});
  const auto rows = services.store.ledger().pending(group_of(call), position_or_beginning(query), limit);
  call->json(list_json("pending", rows, limit, &pending_json));
}

void list_dead_letters(Services& services, const CallPtr& call) {
  const Query query = call->query();
  DeadLetterQuery asked = query_of(query);
  asked.after = position_or_beginning(query);
  asked.limit = query.number("limit", 100, {1, kMostRows});
  const auto rows = services.store.ledger().dead_letters(group_of(call), asked);
  call->json(list_json("dead_letters", rows, asked.limit, &dead_letter_json));
}

void redrive_dead_letters(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"positions", "types", "reason", "since", "until", "dry_run"});
  DeadLetterQuery asked;
  asked.dry_run = body.boolean("dry_run").value_or(false);
  const auto positions = body.texts("positions");
  // An empty list asks for none of them, which must not become all of them.
  if (positions && positions->empty()) return call->json(count_json("redriven", 0, asked.dry_run));
  for (const std::string& text : positions.value_or(std::vector<std::string>{}))
    asked.positions.push_back(Position::parse(text));
  asked.types = body.texts("types").value_or(std::vector<std::string>{});
  asked.reason_contains = body.text("reason");
  asked.since = body.time("since");
  asked.until = body.time("until");
  call->json(count_json("redriven", services.store.ledger().redrive(group_of(call), asked), asked.dry_run));
}

void purge_dead_letters(Services& services, const CallPtr& call) {
  const Query query = call->query();
  DeadLetterQuery asked = query_of(query);
  asked.dry_run = query.boolean("dry_run");
  call->json(count_json("purged", services.store.ledger().purge(group_of(call), asked), asked.dry_run));
}

}  // namespace millrace::daemon
