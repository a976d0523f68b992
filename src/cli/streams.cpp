// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/retention.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct ListOptions {};
struct StreamOptions {
  std::string name;
  RetentionFlags retention;
};
struct SetOptions : StreamOptions {
  bool keep_all = false;
};

int list(Context& context) {
  const auto answer = context.open()->get("/v1/streams");
  if (context.json) {
    print_json(answer);
  } else {
    print_streams(answer.at("streams"));
  }
  return kOk;
}

/// One line for a stream that was made or changed.
int changed(Context& context, const boost::json::value& stream, const std::string& what) {
  if (context.json) {
    print_json(stream);
  } else {
    print(what + cell_at(stream, "name") + ": keeps " + retention_text(stream.at("retention")));
  }
  return kOk;
}

int create(Context& context, const StreamOptions& options) {
  boost::json::object body{{"name", options.name}};
  put_retention(body, options.retention);
  return changed(context, context.open()->post("/v1/streams", body), "created stream ");
}

int set(Context& context, const SetOptions& options) {
  boost::json::object changes;
  if (options.keep_all) changes = {{"max_events", nullptr}, {"max_bytes", nullptr}, {"max_age_s", nullptr}};
  put_retention(changes, options.retention);
  if (changes.empty()) {
    throw Error(Errc::invalid_argument, "set stream", options.name,
                "say what to set: --max-events, --max-age, --max-bytes, --interval or --keep-all");
  }
  return changed(context, context.open()->patch(stream_path(options.name, "/retention"), changes), "stream ");
}

void name_option(CLI::App& command, StreamOptions& options) {
  command.add_option("name", options.name, "[a-z0-9][a-z0-9._-]*, at most 128 characters")->required();
}

}  // namespace

void add_streams(CLI::App& app, Context& context) {
  CLI::App& streams = *app.add_subcommand("streams", "The streams of the store");
  streams.require_subcommand(1);
  add_command<ListOptions>(
      streams, context, "list", "All streams: what they hold, how long they keep it, and what the last trim did",
      [](CLI::App&, ListOptions&) {}, [&context](const ListOptions&) { return list(context); });
  add_command<StreamOptions>(
      streams, context, "create", "Create a stream; publishing to one that is not there is an error",
      [](CLI::App& command, StreamOptions& o) {
        name_option(command, o);
        add_retention_flags(command, o.retention);
      },
      [&context](const StreamOptions& o) { return create(context, o); });
  add_command<SetOptions>(
      streams, context, "set", "How long a stream keeps its events; what is not named stays as it is",
      [](CLI::App& command, SetOptions& o) {
        name_option(command, o);
        add_retention_flags(command, o.retention);
        command.add_flag("--keep-all", o.keep_all, "No limits but those named beside it");
      },
      [&context](const SetOptions& o) { return set(context, o); });
}

}  // namespace millrace::cli
