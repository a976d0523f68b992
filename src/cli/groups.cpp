// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

constexpr std::int32_t kNewest = std::numeric_limits<std::int32_t>::max();

struct NoOptions {};
struct GroupOptions {
  std::string group;
};
struct CreateOptions : GroupOptions {
  std::string stream = "events", start = "end", order;
  std::vector<std::string> types;
  std::int32_t max_dataversion = 0;  ///< 0 = not given
};
struct SetOptions : GroupOptions {
  std::int32_t max_dataversion = 0;
};
struct SeekOptions : GroupOptions {
  std::string to;
};
struct SkipOptions : GroupOptions {
  std::string position;
};

void name_option(CLI::App& command, GroupOptions& options) {
  command.add_option("group", options.group, "Name of the group")->required();
}

std::string state_of(const boost::json::value& group) {
  if (cell_at(group, "stalled") != "-") return "stalled";
  return cell_at(group, "paused") == "true" ? "paused" : "live";
}

int list(Context& context) {
  const auto answer = context.open()->get("/v1/groups");
  if (context.json) {
    print_json(answer);
    return kOk;
  }
  Table table(
      {"GROUP", "STREAM", "STATE", "#AHEAD", "#IN FLIGHT", "#WAITING", "#OLDEST", "#DEAD", "#PROCESSED", "#CONSUMERS"});
  for (const auto& group : answer.at("groups").as_array()) {
    const double oldest = group.at("lag").at("oldest_seconds").to_number<double>();
    table.row({cell_at(group, "name"), cell_at(group, "stream"), state_of(group), cell_at(group, "lag.ahead"),
               cell_at(group, "lag.in_flight"), cell_at(group, "lag.waiting"), human_seconds(oldest),
               cell_at(group, "dead"), cell_at(group, "processed"),
               std::to_string(group.at("consumers").as_array().size())});
  }
  table.print("no groups");
  return kOk;
}

/// One line per member, nested ones as "lag.ahead".
void rows_of(Table& table, const std::string& prefix, const boost::json::object& object) {
  for (const auto& member : object) {
    const std::string name = prefix + std::string(member.key());
    if (const auto* inner = member.value().if_object()) {
      rows_of(table, name + '.', *inner);
    } else {
      table.row({name, cell(member.value())});
    }
  }
}

int show(Context& context, const boost::json::value& group) {
  if (context.json) {
    print_json(group);
    return kOk;
  }
  Table table({"KEY", "VALUE"});
  rows_of(table, "", group.as_object());
  table.print("");
  return kOk;
}

/// For a change: one line, or the group as it is now.
int changed(Context& context, const boost::json::value& group, const std::string& what) {
  if (context.json) {
    print_json(group);
  } else {
    print(what);
  }
  return kOk;
}

int create(Context& context, const CreateOptions& o) {
  boost::json::object body{{"name", o.group}, {"stream", o.stream}, {"start", o.start}};
  if (!o.types.empty()) body["types"] = boost::json::value_from(split_lists(o.types, "--types"));
  if (!o.order.empty()) body["order"] = o.order;
  if (o.max_dataversion != 0) body["max_dataversion"] = o.max_dataversion;
  return changed(context, context.open()->post("/v1/groups", body), "created group " + printable(o.group));
}

int remove(Context& context, const GroupOptions& o) {
  return changed(context, context.open()->remove(group_path(o.group)), "deleted group " + printable(o.group));
}

/// POST /v1/groups/{group}/{verb}
int change(Context& context, const std::string& group, const std::string& verb, const boost::json::object& body,
           const std::string& what) {
  return changed(context, context.open()->post(group_path(group, '/' + verb), body), what);
}

void add_changes(CLI::App& groups, Context& context) {
  add_command<SetOptions>(
      groups, context, "set", "Change what is recorded with a group",
      [](CLI::App& command, SetOptions& o) {
        name_option(command, o);
        command
            .add_option("--max-dataversion", o.max_dataversion,
                        "Newest schema version its consumers know; 0 = whatever is newest")
            ->required()
            ->check(CLI::Range(0, kNewest));
      },
      [&context](const SetOptions& o) {
        return change(context, o.group, "settings", {{"max_dataversion", o.max_dataversion}},
                      "changed group " + printable(o.group));
      });
  add_command<SeekOptions>(
      groups, context, "seek", "Move a group; everything unsettled in it is forgotten",
      [](CLI::App& command, SeekOptions& o) {
        name_option(command, o);
        command.add_option("--to", o.to, "beginning, end, a position (the next event is the one after it) or a time")
            ->required();
      },
      [&context](const SeekOptions& o) {
        return change(context, o.group, "seek", {{"to", o.to}},
                      "moved group " + printable(o.group) + " to " + printable(o.to));
      });
  add_command<SkipOptions>(
      groups, context, "skip", "Settle one unsettled event without delivering it",
      [](CLI::App& command, SkipOptions& o) {
        name_option(command, o);
        command.add_option("--position", o.position, "As `pending` shows it")->required();
      },
      [&context](const SkipOptions& o) {
        return change(context, o.group, "skip", {{"position", o.position}},
                      "skipped " + printable(o.position) + " in group " + printable(o.group));
      });
  add_command<GroupOptions>(groups, context, "pause", "Hand out nothing more until resume; settling goes on",
                            name_option, [&context](const GroupOptions& o) {
                              return change(context, o.group, "pause", {}, "paused group " + printable(o.group));
                            });
  add_command<GroupOptions>(groups, context, "resume", "Hand out events again", name_option,
                            [&context](const GroupOptions& o) {
                              return change(context, o.group, "resume", {}, "resumed group " + printable(o.group));
                            });
}

}  // namespace

void add_groups(CLI::App& app, Context& context) {
  CLI::App& groups = *app.add_subcommand("groups", "The consumer groups");
  groups.require_subcommand(1);
  add_command<NoOptions>(
      groups, context, "list", "All groups with their lag", [](CLI::App&, NoOptions&) {},
      [&context](const NoOptions&) { return list(context); });
  add_command<GroupOptions>(
      groups, context, "show", "Everything known of one group", name_option,
      [&context](const GroupOptions& o) { return show(context, context.open()->get(group_path(o.group))); });
  add_command<CreateOptions>(
      groups, context, "create", "Create a group that lives until it is deleted",
      [](CLI::App& command, CreateOptions& o) {
        name_option(command, o);
        command.add_option("--stream", o.stream, "Stream it reads")->capture_default_str();
        command.add_option("--start", o.start, "beginning, end, a position or a time")->capture_default_str();
        add_list(command, "--types", o.types, "Patterns over the type, comma-separated; none = all");
        command.add_option("--order", o.order, "key (default), attribute:<name> or none");
        command.add_option("--max-dataversion", o.max_dataversion, "Newest schema version its consumers know")
            ->check(CLI::Range(1, kNewest));
      },
      [&context](const CreateOptions& o) { return create(context, o); });
  add_changes(groups, context);
  add_command<GroupOptions>(groups, context, "delete", "Delete a group, with its progress and its dead letters",
                            name_option, [&context](const GroupOptions& o) { return remove(context, o); });
}

}  // namespace millrace::cli
