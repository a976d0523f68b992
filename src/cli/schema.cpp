// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <cstdint>
#include <optional>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"
#include "cli/target_ports.hpp"
#include "daemon/schemas.hpp"

namespace millrace::cli {
namespace {

struct ListOptions {
  std::string file;
};
struct VerifyOptions {
  std::string file;
  std::vector<std::string> streams, types;
};

struct ForgetOptions {
  std::string type;
  std::int32_t from = 1;
};

SchemaRegistry configured(const std::string& file) {
  try {
    return daemon::registry_of(
        daemon::load_config(file.empty() ? std::nullopt : std::optional(file), {}).config.schemas);
  } catch (const Error& error) {
    // A named file that is not there is a usage error of this command, not a missing object of a store.
    throw Error(Errc::invalid_argument, error.operation(), error.object(), error.message(), error.native());
  }
}

int list(Context& context, const ListOptions& o) {
  const auto answer = o.file.empty() ? context.open()->get("/v1/schemas")
                                     : boost::json::parse(daemon::schemas_json(configured(o.file)));
  if (context.json) {
    print_json(answer);
    return kOk;
  }
  Table table({"TYPE", "#VERSION", "STATE", "UPCAST", "CHANGES", "DESCRIPTION"});
  for (const auto& schema : answer.at("schemas").as_array()) {
    const bool current = schema.at("current").as_bool();
    const bool deprecated = schema.at("deprecated").as_bool();
    std::string changes;
    for (const auto& change : schema.at("changes").as_array()) changes += (changes.empty() ? "" : "; ") + cell(change);
    table.row({cell_at(schema, "type"), cell_at(schema, "version"),
               current      ? "current"
               : deprecated ? "deprecated"
                            : "-",
               cell_at(schema, "upcast"), changes.empty() ? "-" : shortened(changes, 60),
               cell_at(schema, "description")});
  }
  table.print("no schema versions");
  return kOk;
}

/// What is known there to exist in a program only; the configuration alone cannot know.
void add_recorded(Target& target, SchemaRegistry& schemas) {
  std::vector<delivery::ProgramStep> steps;
  const auto known = target.get("/v1/schemas");
  for (const auto& schema : known.at("schemas").as_array()) {
    if (schema.at("upcast").as_string() != "program") continue;
    const auto version = static_cast<std::int32_t>(schema.at("version").as_int64());
    steps.push_back(
        {std::string(schema.at("type").as_string()), version - 1, std::string(schema.at("description").as_string())});
  }
  daemon::add_program_steps(schemas, steps);
}

class Verifier {
 public:
  Verifier(Context& context, Target& target, const SchemaRegistry& schemas)
      : context_(context),
        ports_(
            target, [] {}, [] { return false; }),
        audit_(schemas),
        progress_(0) {}

  /// Page by page, as stored.
  void run(const StreamName& stream, const std::vector<std::string>& types) {
    ReadQuery query;
    query.types = types;
    query.limit = 1000;
    for (bool more = true; more;) {
      const Page page = ports_.read(stream, query);
      for (const StoredEvent& stored : page.events) look(stream.str(), stored);
      progress_.update(audit_.counts().events, bytes_);
      query.after = page.next;
      more = !page.at_end;
    }
  }

  [[nodiscard]] const SchemaAudit::Counts& counts() const { return audit_.counts(); }

 private:
  void look(const std::string& stream, const StoredEvent& stored) {
    if (stored.event.data) bytes_ += stored.event.data->size();
    if (const auto failure = audit_.look(stored.position, stored.event)) report(stream, *failure);
  }

  void report(const std::string& stream, const SchemaFailure& failure) const {
    if (context_.json) {
      print_json(boost::json::object{{"stream", stream},
                                     {"position", failure.position.to_string()},
                                     {"type", failure.type},
                                     {"source", failure.source},
                                     {"id", failure.id},
                                     {"version", failure.version},
                                     {"reason", failure.reason}});
      return;
    }
    print(printable(stream) + ' ' + failure.position.to_string() + "  " + printable(failure.type) + " version " +
          (failure.version == 0 ? "?" : std::to_string(failure.version)) + "  " + printable(failure.source) + ' ' +
          printable(failure.id) + "  " + printable(failure.reason));
  }

  Context& context_;
  TargetPorts ports_;
  SchemaAudit audit_;
  Progress progress_;
  std::uint64_t bytes_ = 0;
};

std::string summary(const SchemaAudit::Counts& counts) {
  std::string text = std::to_string(counts.events) + " events: " + std::to_string(counts.upcast) +
                     " of an old version come through, " + std::to_string(counts.failed) + " would fail";
  if (counts.in_program > 0) {
    text += "; " + std::to_string(counts.in_program) +
            " need a step that only a C++ program has, which audit_schemas() can try";
  }
  return text;
}

int verify(Context& context, const VerifyOptions& o) {
  SchemaRegistry schemas = configured(o.file);
  const auto target = context.open();
  add_recorded(*target, schemas);
  std::vector<std::string> streams = split_lists(o.streams, "--stream");
  if (streams.empty()) {
    const auto all = target->get("/v1/streams");
    for (const auto& stream : all.at("streams").as_array()) streams.push_back(cell_at(stream, "name"));
  }
  SchemaAudit::Counts counts;
  {
    Verifier verifier(context, *target, schemas);
    for (const std::string& stream : streams) verifier.run(StreamName(stream), o.types);
    counts = verifier.counts();
  }
  if (context.json) {
    print_json(boost::json::object{{"ok", counts.failed == 0},
                                   {"events", counts.events},
                                   {"upcast", counts.upcast},
                                   {"failed", counts.failed},
                                   {"in_program", counts.in_program}});
  } else {
    print(summary(counts));
  }
  return counts.failed == 0 ? kOk : kFailed;
}

int forget(Context& context, const ForgetOptions& o) {
  const auto answer = context.open()->remove("/v1/schemas", {{"type", o.type}, {"from", std::to_string(o.from)}});
  if (context.json) {
    print_json(answer);
  } else {
    print("forgot the step of " + printable(o.type) + " from version " + std::to_string(o.from) + " to " +
          std::to_string(o.from + 1) + "; a program that has it records it again when it subscribes");
  }
  return kOk;
}

}  // namespace

void add_schema(CLI::App& app, Context& context) {
  CLI::App& schema = *app.add_subcommand("schema", "The versions of event types, and the steps between them");
  schema.require_subcommand(1);
  add_command<ListOptions>(
      schema, context, "list", "What the daemon knows, its programs' steps included; or what a file declares",
      [](CLI::App& command, ListOptions& o) {
        command.add_option("--config", o.file, "Read this configuration file instead of asking a daemon")
            ->type_name("FILE");
      },
      [&context](const ListOptions& o) { return list(context, o); });
  add_command<VerifyOptions>(
      schema, context, "verify",
      "Bring every stored event up to date by a configuration, for a test: what would fail is named; --json prints one "
      "object per failure and then the counts",
      [](CLI::App& command, VerifyOptions& o) {
        command
            .add_option("--config", o.file, "The configuration to try, instead of MILLRACE_CONFIG or the default place")
            ->type_name("FILE");
        add_list(command, "--stream", o.streams, "Only these streams; none = all");
        add_list(command, "--types", o.types, "Only of these types (patterns)");
      },
      [&context](const VerifyOptions& o) { return verify(context, o); });
  add_command<ForgetOptions>(
      schema, context, "forget", "Forget a step that a program recorded and no program has any more",
      [](CLI::App& command, ForgetOptions& o) {
        command.add_option("type", o.type, "The event type")->required();
        command.add_option("from", o.from, "The version that the step starts from")
            ->required()
            ->check(CLI::Range(1, INT32_MAX - 1));
      },
      [&context](const ForgetOptions& o) { return forget(context, o); });
}

}  // namespace millrace::cli
