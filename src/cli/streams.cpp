// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct ListOptions {};
struct CreateOptions {
  std::string name;
};

int list(Context& context) {
  const auto answer = context.open()->get("/v1/streams");
  if (context.json) {
    print_json(answer);
    return kOk;
  }
  Table table({"STREAM", "#EVENTS", "#BYTES", "#FIRST", "#LAST", "OLDEST"});
  for (const auto& stream : answer.at("streams").as_array()) {
    table.row({cell_at(stream, "name"), cell_at(stream, "events"), cell_at(stream, "bytes"), cell_at(stream, "first"),
               cell_at(stream, "last"), cell_at(stream, "oldest")});
  }
  table.print("no streams");
  return kOk;
}

int create(Context& context, const CreateOptions& options) {
  const auto answer = context.open()->post("/v1/streams", boost::json::object{{"name", options.name}});
  if (context.json) {
    print_json(answer);
  } else {
    print("created stream " + cell_at(answer, "name"));
  }
  return kOk;
}

}  // namespace

void add_streams(CLI::App& app, Context& context) {
  CLI::App& streams = *app.add_subcommand("streams", "The streams of the store");
  streams.require_subcommand(1);
  add_command<ListOptions>(
      streams, context, "list", "All streams, with what they hold", [](CLI::App&, ListOptions&) {},
      [&context](const ListOptions&) { return list(context); });
  add_command<CreateOptions>(
      streams, context, "create", "Create a stream; publishing to one that is not there is an error",
      [](CLI::App& command, CreateOptions& o) {
        command.add_option("name", o.name, "[a-z0-9][a-z0-9._-]*, at most 128 characters")->required();
      },
      [&context](const CreateOptions& o) { return create(context, o); });
}

}  // namespace millrace::cli
