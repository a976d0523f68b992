// SPDX-License-Identifier: Apache-2.0
#include "delivery/upcasting.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "base/log.hpp"

namespace millrace::delivery {
namespace {

constexpr std::int32_t kAny = std::numeric_limits<std::int32_t>::max();
constexpr std::string_view kPrefix = "millrace/schema/";
constexpr std::size_t kMaxKey = 512;

std::string key_of(const std::string& type, std::int32_t from) {
  return std::string(kPrefix) + type + '/' + std::to_string(from);
}

}  // namespace

Upcasting::Upcasting(std::shared_ptr<const SchemaRegistry> schemas, std::optional<std::int32_t> newest)
    : schemas_(schemas != nullptr ? std::move(schemas) : std::make_shared<const SchemaRegistry>()),
      newest_(newest.value_or(kAny)) {}

std::optional<std::int32_t> Upcasting::max() const {
  const std::int32_t pin = pin_.load();
  const std::int32_t most = std::min(newest_, pin == 0 ? kAny : pin);
  return most == kAny ? std::nullopt : std::optional(most);
}

Handler Upcasting::before(Handler handler) const {
  return [self = shared_from_this(), handler = std::move(handler)](const Delivery& delivery) {
    const auto max = self->max();
    if (self->schemas_->need(delivery.event, max) == SchemaRegistry::Need::nothing) return handler(delivery);
    Delivery shown = delivery;
    shown.event = self->schemas_->upcast(std::move(shown.event), max);
    return handler(shown);
  };
}

AsyncHandler Upcasting::before(AsyncHandler handler) const {
  return [self = shared_from_this(), handler = std::move(handler)](const Delivery& delivery, HandlerDone done) {
    const auto max = self->max();
    if (self->schemas_->need(delivery.event, max) == SchemaRegistry::Need::nothing) {
      return handler(delivery, std::move(done));
    }
    const auto shown = std::make_shared<Delivery>(delivery);  // the handler may look at it until it has answered
    shown->event = self->schemas_->upcast(std::move(shown->event), max);
    handler(*shown, [shown, done = std::move(done)](Outcome outcome) { done(std::move(outcome)); });
  };
}

void record_steps(KeyValue& store, const SchemaRegistry& schemas) {
  for (const SchemaRegistry::Entry& entry : schemas.versions()) {
    if (entry.step == SchemaRegistry::StepKind::none || entry.step == SchemaRegistry::StepKind::program) continue;
    const std::string key = key_of(entry.schema.type, entry.schema.version - 1);
    if (key.size() > kMaxKey) {
      log::warn("schema_not_recorded", entry.schema.type.substr(0, 64),
                "the type's name is too long to tell daemons of its schema versions");
      continue;
    }
    store.set_if_absent(key, entry.schema.description);
  }
}

bool forget_step(KeyValue& store, const std::string& type, std::int32_t from) {
  const std::string key = key_of(type, from);
  return key.size() <= kMaxKey && store.erase(key);
}

std::vector<ProgramStep> recorded_steps(KeyValue& store) {
  constexpr std::size_t kPage = 1000;
  std::vector<ProgramStep> steps;
  std::string after;
  for (;;) {
    const auto entries = store.scan(kPrefix, after, kPage);
    for (const KeyValueEntry& entry : entries) {
      after = entry.key;
      const std::string_view rest = std::string_view(entry.key).substr(kPrefix.size());
      const std::size_t slash = rest.rfind('/');
      if (slash == std::string_view::npos || slash == 0) continue;
      ProgramStep step{std::string(rest.substr(0, slash)), 0, entry.value};
      const char* end = rest.data() + rest.size();
      const auto [stop, bad] = std::from_chars(rest.data() + slash + 1, end, step.from);
      // Somebody else's entry under our prefix is nothing to act on.
      if (bad != std::errc{} || stop != end || step.from < 1 || step.from == kAny) continue;
      steps.push_back(std::move(step));
    }
    if (entries.size() < kPage) return steps;
  }
}

}  // namespace millrace::delivery
