// SPDX-License-Identifier: Apache-2.0
#include "millrace/schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/utf8.hpp"
#include "event/rules.hpp"
#include "event/schema_change.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

[[noreturn]] void refuse(std::string_view object, std::string message) {
  throw Error(Errc::invalid_argument, "register schema", printable(object), std::move(message));
}

[[noreturn]] void fail(const Event& event, std::string message, std::string native = {}) {
  throw Error(Errc::upcast_failed, "upcast", printable(event.type), std::move(message), std::move(native));
}

bool has_json(const Event& event) {
  return event.datacontenttype.empty() || is_json_content_type(event.datacontenttype);
}

void change(Event& event, const std::vector<SchemaChange>& changes) {
  if (changes.empty()) return;
  if (!event.data) throw Error(Errc::upcast_failed, "upcast", "", "it has no data");
  if (!has_json(event)) {
    throw Error(Errc::upcast_failed, "upcast", "",
                fmt::format("its data is {}, and a declared change needs JSON", printable(event.datacontenttype)));
  }
  event.data = apply_changes(*event.data, changes);
}

/// What an upcaster must leave alone.
void run_upcaster(const Upcaster& upcaster, Event& event) {
  const std::string id = event.id;
  const std::string source = event.source;
  const std::string type = event.type;
  upcaster(event);
  const char* changed = event.id != id           ? "id"
                        : event.source != source ? "source"
                        : event.type != type     ? "type"
                                                 : nullptr;
  event.id = id;
  event.source = source;
  event.type = type;
  if (changed != nullptr) {
    throw Error(Errc::upcast_failed, "upcast", "", fmt::format("the upcaster changed the event's {}", changed));
  }
  validate(event);
}

}  // namespace

/// From where to where an event has to go.
struct SchemaRegistry::Way {
  const Type* type = nullptr;  ///< nullptr: nobody described it
  std::int32_t from = 1;
  std::int32_t to = 1;
};

SchemaRegistry::Type& SchemaRegistry::type_of(std::string_view type, std::int32_t version) {
  if (type.empty()) refuse("type", "is required");
  if (version < 1) refuse(type, fmt::format("version {} must be at least 1", version));
  return types_.try_emplace(std::string(type)).first->second;
}

SchemaRegistry& SchemaRegistry::add(SchemaVersion version) {
  Type& type = type_of(version.type, version.version);
  auto& place = type.versions[version.version];
  if (place) refuse(version.type, fmt::format("version {} is described twice", version.version));
  place = std::move(version);
  type.find_current();
  return *this;
}

// clang-tidy does not see that the step is moved from.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
SchemaRegistry& SchemaRegistry::put_step(std::string_view name, std::int32_t from, Step step) {
  Type& type = type_of(name, from);
  if (from == std::numeric_limits<std::int32_t>::max()) refuse(name, "there is no version after the largest one");
  if (!type.steps.try_emplace(from, std::move(step)).second) {
    refuse(name, fmt::format("there is a step from version {} to {} already", from, from + 1));
  }
  type.versions.try_emplace(from);
  type.versions.try_emplace(from + 1);
  type.find_current();
  return *this;
}

void SchemaRegistry::Type::find_current() {
  current = versions.rbegin()->first;  // when all are deprecated
  for (const auto& [version, described] : versions) {
    if (!described || !described->deprecated) current = version;
  }
}

SchemaRegistry& SchemaRegistry::upcast(std::string_view type, std::int32_t from, Upcaster upcaster) {
  if (!upcaster) refuse(type, fmt::format("the upcaster from version {} must be callable", from));
  return put_step(type, from, std::move(upcaster));
}

SchemaRegistry& SchemaRegistry::upcast(std::string_view type, std::int32_t from, std::vector<SchemaChange> changes) {
  for (const SchemaChange& each : changes) each.validate();
  return put_step(type, from, std::move(changes));
}

SchemaRegistry& SchemaRegistry::upcast_in_program(std::string_view type, std::int32_t from) {
  return put_step(type, from, InProgram{});
}

std::vector<SchemaRegistry::Entry> SchemaRegistry::versions() const {
  std::vector<Entry> out;
  for (const auto& [name, type] : types_) {
    for (const auto& [version, described] : type.versions) {
      Entry& entry = out.emplace_back();
      entry.schema = described.value_or(SchemaVersion{name, version, {}, false});
      entry.current = version == type.current;
      const auto step = type.steps.find(version - 1);
      if (step == type.steps.end()) continue;
      if (const auto* changes = std::get_if<std::vector<SchemaChange>>(&step->second)) {
        entry.step = StepKind::declared;
        entry.changes = *changes;
      } else {
        entry.step = std::holds_alternative<Upcaster>(step->second) ? StepKind::code : StepKind::program;
      }
    }
  }
  return out;
}

std::optional<std::int32_t> SchemaRegistry::current(std::string_view type) const {
  const auto found = types_.find(type);
  return found == types_.end() ? std::nullopt : std::optional(found->second.current);
}

SchemaRegistry::Way SchemaRegistry::way(const Event& event, std::optional<std::int32_t> max_dataversion) const {
  const auto found = types_.find(event.type);
  if (found == types_.end() && !max_dataversion) return {};
  Way way;
  try {
    way.from = data_version(event);
  } catch (const Error& error) {
    fail(event, fmt::format("{} {}", error.object(), error.message()));
  }
  constexpr auto kAny = std::numeric_limits<std::int32_t>::max();
  if (found != types_.end()) way.type = &found->second;
  way.to = std::min(way.type == nullptr ? kAny : way.type->current, max_dataversion.value_or(kAny));
  if (way.from > way.to) {
    const bool pinned = max_dataversion && *max_dataversion == way.to;
    fail(event, fmt::format("the event has version {}, newer than {} = {}; there is no way back: {}", way.from,
                            pinned ? "max_dataversion" : "the newest that is known and not deprecated", way.to,
                            pinned ? "raise it when the handlers know that version" : "describe that version first"));
  }
  if (way.type == nullptr) way.to = way.from;
  return way;
}

SchemaRegistry::Need SchemaRegistry::need(const Event& event, std::optional<std::int32_t> max_dataversion) const {
  if (types_.empty() && !max_dataversion) return Need::nothing;
  try {
    const Way found = way(event, max_dataversion);
    if (found.from == found.to) return Need::nothing;
    if (event.extension(kErasedTime) != nullptr) return Need::steps;
    for (std::int32_t version = found.from; version < found.to; ++version) {
      const auto step = found.type->steps.find(version);
      if (step == found.type->steps.end()) return Need::steps;
      if (std::holds_alternative<InProgram>(step->second)) return Need::program;
    }
  } catch (const Error&) {  // upcast says it again
  }
  return Need::steps;
}

Event SchemaRegistry::upcast(Event event, std::optional<std::int32_t> max_dataversion) const {
  const Way found = way(event, max_dataversion);
  if (found.from == found.to) return event;
  const bool erased = event.extension(kErasedTime) != nullptr;
  for (std::int32_t version = found.from; version < found.to && !erased; ++version) {
    const auto step = found.type->steps.find(version);
    if (step == found.type->steps.end()) {
      fail(event,
           fmt::format("there is no step from version {} to {}: declare it as [[schema]], or register an upcaster",
                       version, version + 1));
    }
    if (std::holds_alternative<InProgram>(step->second)) {
      fail(event,
           fmt::format("the step from version {} to {} is known to a C++ program only: declare it as [[schema]], "
                       "consume in that program, or pin the group with max_dataversion = {}",
                       version, version + 1, version));
    }
    const auto failed = [&](std::string_view why) {
      fail(event, fmt::format("the step from version {} to {} failed: {}", version, version + 1, why));
    };
    event.set_extension("dataversion", version);  // what the step is given, however an earlier one left it
    try {
      if (const auto* changes = std::get_if<std::vector<SchemaChange>>(&step->second)) {
        change(event, *changes);
      } else {
        run_upcaster(std::get<Upcaster>(step->second), event);
      }
    } catch (const Error& error) {
      failed(error.object().empty() ? error.message() : error.object() + ": " + error.message());
    } catch (const std::exception& error) {
      failed(error.what());
    } catch (...) {
      failed("the upcaster threw something that is no std::exception");
    }
  }
  event.set_extension("dataversion", found.to);
  return event;
}

std::string_view to_string(SchemaRegistry::StepKind kind) noexcept {
  switch (kind) {
    case SchemaRegistry::StepKind::none:
      return "none";
    case SchemaRegistry::StepKind::declared:
      return "declared";
    case SchemaRegistry::StepKind::code:
      return "code";
    case SchemaRegistry::StepKind::program:
      return "program";
  }
  return "?";
}

void require_schema(const Event& event, std::string_view type, std::int32_t version) {
  if (event.type != type) fail(event, fmt::format("the handler takes {}", type));
  std::int32_t given = 0;
  try {
    given = data_version(event);
  } catch (const Error& error) {
    fail(event, fmt::format("{} {}", error.object(), error.message()));
  }
  if (given == version) return;
  fail(event, fmt::format("the event has version {}, the handler takes {}{}", given, version,
                          given < version ? ": give the subscription a SchemaRegistry with the steps between" : ""));
}

std::optional<SchemaFailure> SchemaAudit::look(Position position, const Event& event) {
  ++counts_.events;
  const auto need = schemas_.need(event, max_dataversion_);
  if (need == SchemaRegistry::Need::nothing) return std::nullopt;
  if (need == SchemaRegistry::Need::program) {
    ++counts_.in_program;
    return std::nullopt;
  }
  try {
    static_cast<void>(schemas_.upcast(event, max_dataversion_));
    ++counts_.upcast;
    return std::nullopt;
  } catch (const Error& error) {
    ++counts_.failed;
    SchemaFailure failure{position, event.type, event.source, event.id, 0, error.message()};
    try {
      failure.version = data_version(event);
    } catch (const Error&) {  // the reason says so
    }
    return failure;
  }
}

}  // namespace millrace
