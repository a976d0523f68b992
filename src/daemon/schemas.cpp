// SPDX-License-Identifier: Apache-2.0
#include "daemon/schemas.hpp"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/log.hpp"
#include "base/utf8.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"

namespace millrace::daemon {
namespace {

/// Each round settles what cannot be upcast; a long run of such events is left to the next look after so many.
constexpr int kRounds = 10;

/// What could not be upcast.
struct Failures {
  std::map<std::size_t, std::string> reasons;  ///< by the delivery's index
  std::optional<Error> refused;                ///< a step is in a program only
};

Failures upcast_all(const SchemaRegistry& schemas, ClaimAnswer& answer) {
  Failures failures;
  for (std::size_t i = 0; i < answer.deliveries.size(); ++i) {
    Delivery& delivery = answer.deliveries[i];
    const auto need = schemas.need(delivery.event, answer.max_dataversion);
    if (need == SchemaRegistry::Need::nothing) continue;
    try {
      delivery.event = schemas.upcast(std::move(delivery.event), answer.max_dataversion);
    } catch (const Error& error) {
      failures.reasons.emplace(i, error.what());
      if (need == SchemaRegistry::Need::program && !failures.refused) {
        failures.refused = Error(Errc::upcast_failed, "claim", error.object(),
                                 fmt::format("position {}: {}", delivery.position.to_string(), error.message()));
      }
    }
  }
  return failures;
}

/// What failed is charged, unless the whole claim is refused; the rest goes back.
std::vector<Settlement> settlements_of(const ClaimAnswer& answer, const Failures& failures) {
  std::vector<Settlement> settlements;
  settlements.reserve(answer.deliveries.size());
  for (std::size_t i = 0; i < answer.deliveries.size(); ++i) {
    const auto reason = failures.reasons.find(i);
    const bool charged = !failures.refused && reason != failures.reasons.end();
    settlements.push_back({answer.deliveries[i].lease, charged ? Outcome::retry(reason->second) : Outcome::release()});
  }
  return settlements;
}

}  // namespace

void add_program_steps(SchemaRegistry& schemas, const std::vector<delivery::ProgramStep>& steps) {
  std::set<std::pair<std::string, std::int32_t>> described;
  std::set<std::pair<std::string, std::int32_t>> declared;
  for (const SchemaRegistry::Entry& entry : schemas.versions()) {
    described.emplace(entry.schema.type, entry.schema.version);
    if (entry.step != SchemaRegistry::StepKind::none) declared.emplace(entry.schema.type, entry.schema.version - 1);
  }
  for (const delivery::ProgramStep& step : steps) {
    if (!described.contains({step.type, step.from + 1})) schemas.add({step.type, step.from + 1, step.description});
    if (!declared.contains({step.type, step.from})) schemas.upcast_in_program(step.type, step.from);
  }
}

std::string schemas_json(const SchemaRegistry& schemas) {
  JsonWriter array('[');
  for (const SchemaRegistry::Entry& entry : schemas.versions()) {
    std::vector<std::string> changes;
    for (const SchemaChange& change : entry.changes) changes.push_back(change.to_string());
    array.element(JsonWriter()
                      .text("type", entry.schema.type)
                      .number("version", static_cast<std::uint64_t>(entry.schema.version))
                      .text("description", entry.schema.description)
                      .boolean("deprecated", entry.schema.deprecated)
                      .boolean("current", entry.current)
                      .text("upcast", to_string(entry.step))
                      .texts("changes", changes)
                      .finish());
  }
  return JsonWriter().raw("schemas", array.finish()).finish();
}

Schemas::Schemas(Store& store, const std::vector<Config::Schema>& declared)
    : store_(store), declared_(registry_of(declared)) {
  SchemaRegistry all = declared_;
  add_program_steps(all, delivery::recorded_steps(store_.kv()));
  registry_ = std::make_shared<const SchemaRegistry>(std::move(all));
}

void Schemas::forget(const std::string& type, std::int32_t from) {
  if (!delivery::forget_step(store_.kv(), type, from)) {
    throw Error(Errc::not_found, "forget schema step", printable(type) + " " + std::to_string(from),
                "no program has recorded this step; one that a configuration declares ([[schema]]) is taken out there");
  }
  refresh();
}

void Schemas::refresh() {
  try {
    auto all = std::make_shared<SchemaRegistry>(declared_);
    add_program_steps(*all, delivery::recorded_steps(store_.kv()));
    const std::lock_guard lock(mutex_);
    registry_ = std::move(all);
  } catch (const Error& error) {
    log::write(log::Level::warn, error);
  }
}

std::shared_ptr<const SchemaRegistry> Schemas::registry() const {
  const std::lock_guard lock(mutex_);
  return registry_;
}

ClaimAnswer Schemas::claim(const GroupName& group, const ClaimRequest& request) const {
  const auto schemas = registry();
  for (int round = 0; round < kRounds; ++round) {
    ClaimAnswer answer = store_.ledger().claim(group, request);
    const Failures failures = upcast_all(*schemas, answer);
    if (failures.reasons.empty()) return answer;
    store_.ledger().settle(group, settlements_of(answer, failures));
    if (failures.refused) throw Error(*failures.refused);
  }
  ClaimAnswer none;
  none.next_due = Milliseconds{0};
  return none;
}

void Schemas::show(Event& event) const {
  const auto schemas = registry();
  if (schemas->need(event) == SchemaRegistry::Need::nothing) return;
  try {
    event = schemas->upcast(event);
  } catch (const Error& error) {
    event.set_extension("upcasterror", printable(error.message()));
  }
}

void list_schemas(Services& services, const CallPtr& call) {
  call->json(schemas_json(*services.schemas.registry()));
}

void forget_schema(Services& services, const CallPtr& call) {
  const Query query = call->query();
  const std::string type = query.required("type");
  (void)query.required("from");
  services.schemas.forget(type, static_cast<std::int32_t>(query.number("from", 1, {1, INT32_MAX - 1})));
  call->json(schemas_json(*services.schemas.registry()));
}

}  // namespace millrace::daemon
