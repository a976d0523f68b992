// SPDX-License-Identifier: Apache-2.0
// [[schema]]: the versions of event types, and the declared steps between them.
#include <fmt/format.h>

#include <limits>

#include "daemon/config_tables.hpp"
#include "daemon/schemas.hpp"

namespace millrace::daemon {
namespace {

constexpr const char* kExample = R"([{rename = "/path", to = "file_path"}, {add = "/tags", value = "[]"}])";

SchemaChange read_change(const TableRow& row, const TableValue& value) {
  if (value.kind != TableValue::Kind::table)
    row.refuse("upcast", std::string("must be a list of changes: ") + kExample);
  std::map<std::string, std::string> texts;
  for (const auto& [name, member] : value.table) {
    static const std::vector<std::string> known{"rename", "add", "remove", "move", "to", "value"};
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      row.refuse("upcast",
                 fmt::format("unknown key {}; the nearest known one is {}", name, nearest_name(name, known).first));
    }
    if (member.kind != TableValue::Kind::text) row.refuse("upcast", name + " must be a text");
    texts.emplace(name, member.text);
  }
  const auto take = [&](const char* key) {
    auto node = texts.extract(key);
    return node.empty() ? std::optional<std::string>() : std::optional(std::move(node.mapped()));
  };
  const auto need = [&](const char* key, const char* of) {
    auto text = take(key);
    if (!text) row.refuse("upcast", fmt::format("{} needs {}, as in {}", of, key, kExample));
    return std::move(*text);
  };
  std::optional<SchemaChange> change;
  if (auto path = take("rename")) {
    change = SchemaChange::rename(std::move(*path), need("to", "rename"));
  } else if (path = take("add"); path) {
    change = SchemaChange::add(std::move(*path), need("value", "add"));
  } else if (path = take("remove"); path) {
    change = SchemaChange::remove(std::move(*path));
  } else if (path = take("move"); path) {
    change = SchemaChange::move(std::move(*path), need("to", "move"));
  } else {
    row.refuse("upcast", fmt::format("a change is one of rename, add, remove and move: {}", kExample));
  }
  if (!texts.empty()) {
    row.refuse("upcast", fmt::format("{} does not belong into \"{}\"", texts.begin()->first, change->to_string()));
  }
  try {
    change->validate();
  } catch (const Error& error) {
    row.refuse("upcast", change->to_string() + ": " + error.object() + ": " + error.message());
  }
  return std::move(*change);
}

void add_schema(Config& config, const TableRow& row) {
  Config::Schema schema;
  schema.schema.type = row.text("type");
  if (schema.schema.type.empty()) row.refuse("type", "must not be empty");
  schema.schema.version =
      static_cast<std::int32_t>(row.number("version", 1, 1, std::numeric_limits<std::int32_t>::max()));
  if (schema.schema.version == 1 && row.find("upcast") != nullptr) {
    row.refuse("version", "1 is the first one; upcast is the step from the version before, so it needs 2 or more");
  }
  schema.schema.description = row.text("description");
  schema.schema.deprecated = row.flag("deprecated", false);
  if (const TableValue* upcast = row.find("upcast"); upcast != nullptr) {
    if (upcast->kind == TableValue::Kind::list) {
      schema.step = SchemaRegistry::StepKind::declared;
      for (const TableValue& change : upcast->list) schema.changes.push_back(read_change(row, change));
    } else if (upcast->kind == TableValue::Kind::text && upcast->text == "program") {
      schema.step = SchemaRegistry::StepKind::program;
    } else {
      row.refuse("upcast", std::string("must be \"program\" or a list of changes: ") + kExample);
    }
  }
  config.schemas.push_back(std::move(schema));
  try {
    static_cast<void>(registry_of(config.schemas));
  } catch (const Error& error) {
    row.refuse("", error.object() + ": " + error.message());
  }
}

std::string change_toml(const SchemaChange& change) {
  const std::string path = toml_text(change.path);
  switch (change.kind) {
    case SchemaChange::Kind::rename:
      return fmt::format("{{rename = {}, to = {}}}", path, toml_text(change.to));
    case SchemaChange::Kind::add:
      return fmt::format("{{add = {}, value = {}}}", path, toml_text(change.value));
    case SchemaChange::Kind::remove:
      return fmt::format("{{remove = {}}}", path);
    case SchemaChange::Kind::move:
      return fmt::format("{{move = {}, to = {}}}", path, toml_text(change.to));
  }
  return {};
}

std::vector<std::pair<std::string, std::string>> schema_row(const Config::Schema& schema) {
  std::vector<std::pair<std::string, std::string>> row{{"type", toml_text(schema.schema.type)},
                                                       {"version", std::to_string(schema.schema.version)}};
  if (!schema.schema.description.empty()) row.emplace_back("description", toml_text(schema.schema.description));
  if (schema.schema.deprecated) row.emplace_back("deprecated", "true");
  if (schema.step == SchemaRegistry::StepKind::program) row.emplace_back("upcast", "\"program\"");
  if (schema.step == SchemaRegistry::StepKind::declared) {
    std::string changes;
    for (const SchemaChange& change : schema.changes) changes += (changes.empty() ? "" : ", ") + change_toml(change);
    row.emplace_back("upcast", '[' + changes + ']');
  }
  return row;
}

}  // namespace

SchemaRegistry registry_of(const std::vector<Config::Schema>& schemas) {
  SchemaRegistry registry;
  for (const Config::Schema& each : schemas) {
    registry.add(each.schema);
    if (each.step == SchemaRegistry::StepKind::none) continue;
    const std::int32_t from = each.schema.version - 1;
    if (each.step == SchemaRegistry::StepKind::declared) {
      registry.upcast(each.schema.type, from, each.changes);
    } else {
      registry.upcast_in_program(each.schema.type, from);
    }
  }
  return registry;
}

TableKind schema_table() {
  return {
      "schema",
      "One version of an event type, and how an event of the version before it becomes one (docs/schemas.md).",
      {{"type", "The event type", "\"asset.discovered\"", true},
       {"version", "Which `dataversion` this describes; 1 unless given", "2"},
       {"description", "For people", "\"path is called file_path, and there are tags\""},
       {"deprecated", "Still read, no longer what consumers are given", "true"},
       {"upcast",
        "The step from the version before: a list of changes, addressed by JSON Pointers; or `\"program\"` when only a "
        "C++ program can do it. `value` is JSON",
        kExample}},
      add_schema,
      [](const Config& config) {
        std::vector<std::vector<std::pair<std::string, std::string>>> rows;
        for (const Config::Schema& schema : config.schemas) rows.push_back(schema_row(schema));
        return rows;
      }};
}

}  // namespace millrace::daemon
