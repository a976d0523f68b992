// SPDX-License-Identifier: Apache-2.0
#include "daemon/schemas.hpp"

#include <fmt/format.h>

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

/// Upcasts what it can. nullopt: all of it; else how to settle the claim before it is made again.
std::optional<std::vector<Settlement>> upcast_all(const SchemaRegistry& schemas, ClaimAnswer& answer,
                                                  std::optional<Error>& refused) {
  bool failed = false;
  std::vector<Settlement> settlements;
  for (Delivery& delivery : answer.deliveries) {
    Outcome outcome = Outcome::release();
    const auto need = schemas.need(delivery.event, answer.max_dataversion);
    if (need != SchemaRegistry::Need::nothing) {
      try {
        delivery.event = schemas.upcast(std::move(delivery.event), answer.max_dataversion);
      } catch (const Error& error) {
        failed = true;
        outcome = Outcome::retry(error.what());
        if (need == SchemaRegistry::Need::program && !refused) {
          refused = Error(Errc::upcast_failed, "claim", error.object(),
                          fmt::format("position {}: {}", delivery.position.to_string(), error.message()));
        }
      }
    }
    settlements.push_back({delivery.lease, std::move(outcome)});
  }
  if (!failed) return std::nullopt;
  if (refused) {
    for (Settlement& settlement : settlements) settlement.outcome = Outcome::release();
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
    std::optional<Error> refused;
    const auto settlements = upcast_all(*schemas, answer, refused);
    if (!settlements) return answer;
    store_.ledger().settle(group, *settlements);
    if (refused) throw Error(*refused);
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

}  // namespace millrace::daemon
