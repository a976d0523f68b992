// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <map>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string group, after, reason, position, since, until;
  std::vector<std::string> positions, types;
  std::uint64_t limit = 100;
  bool all = false, dry_run = false;
};

void group_option(CLI::App& command, Options& o) {
  command.add_option("group", o.group, "Name of the group")->required();
}

void filter_options(CLI::App& command, Options& o) {
  add_list(command, "--types", o.types, "Only of these types (patterns)");
  command.add_option("--reason", o.reason, "Only whose reason contains this");
  command.add_option("--since", o.since, "Only that died at this RFC 3339 time or after");
  command.add_option("--until", o.until, "Only that died before this RFC 3339 time");
}

/// For redrive and purge: which ones must be said, even if it is all of them.
void choice_options(CLI::App& command, Options& o) {
  group_option(command, o);
  add_list(command, "--position", o.positions, "These ones, as `dlq list` shows them");
  filter_options(command, o);
  command.add_flag("--all", o.all, "Every dead letter of the group");
  command.add_flag("--dry-run", o.dry_run, "Say how many; change nothing");
}

void check_choice(const Options& o) {
  const bool some = !o.positions.empty() || !o.types.empty() || !(o.reason + o.since + o.until).empty();
  if (some == o.all) {
    throw Error(Errc::invalid_argument, "choose dead letters", o.group,
                some ? "--all cannot stand beside --position, --types, --reason, --since or --until"
                     : "say which: --position, --types, --reason, --since, --until, or --all");
  }
}

Query query_of(const Options& o) {
  Query query;
  for (const auto& position : split_lists(o.positions, "--position")) query.emplace_back("position", position);
  for (const auto& types : o.types) query.emplace_back("types", types);
  if (!o.reason.empty()) query.emplace_back("reason", o.reason);
  if (!o.since.empty()) query.emplace_back("since", o.since);
  if (!o.until.empty()) query.emplace_back("until", o.until);
  return query;
}

int list(Context& context, const Options& o) {
  Query query = query_of(o);
  query.emplace_back("limit", std::to_string(o.limit));
  if (!o.after.empty()) query.emplace_back("after", o.after);
  const auto answer = context.open()->get(group_path(o.group, "/dead-letters"), query);
  if (context.json) {
    print_json(answer);
    return kOk;
  }
  Table table({"#POSITION", "ID", "TYPE", "DIED AT", "#ATTEMPTS", "#FAILURES", "#CRASHES", "REASON"});
  for (const auto& letter : answer.at("dead_letters").as_array()) {
    table.row({cell_at(letter, "position"), shortened(cell_at(letter, "event.id"), 40),
               shortened(cell_at(letter, "event.type"), 40), cell_at(letter, "died_at"), cell_at(letter, "attempts"),
               cell_at(letter, "failures"), cell_at(letter, "crashes"), shortened(cell_at(letter, "reason"), 80)});
  }
  table.print("no dead letters in group " + printable(o.group));
  if (!answer.at("next").is_null()) print("more: --after " + cell_at(answer, "next"));
  return kOk;
}

int show(Context& context, const Options& o) {
  const auto answer = context.open()->get(group_path(o.group, "/dead-letters"), {{"position", o.position}});
  const auto& letters = answer.at("dead_letters").as_array();
  if (letters.empty()) {
    throw Error(Errc::not_found, "show dead letter", o.position,
                "is no dead letter of group " + o.group + "; see millrace dlq list");
  }
  const auto& letter = letters.front();
  if (context.json) {
    print_json(letter);
    return kOk;
  }
  Table table({"KEY", "VALUE"});
  for (const auto& member : letter.as_object()) {
    if (member.key() != "event") table.row({std::string(member.key()), cell(member.value())});
  }
  for (const auto& member : letter.at("event").as_object()) {
    table.row({"event." + std::string(member.key()), cell(member.value())});
  }
  table.print("");
  return kOk;
}

int redrive(Context& context, const Options& o) {
  check_choice(o);
  boost::json::object body;
  if (!o.positions.empty()) body["positions"] = boost::json::value_from(split_lists(o.positions, "--position"));
  if (!o.types.empty()) body["types"] = boost::json::value_from(split_lists(o.types, "--types"));
  if (!o.reason.empty()) body["reason"] = o.reason;
  if (!o.since.empty()) body["since"] = o.since;
  if (!o.until.empty()) body["until"] = o.until;
  if (o.dry_run) body["dry_run"] = true;
  const auto answer = context.open()->post(group_path(o.group, "/dead-letters/redrive"), body);
  if (context.json) {
    print_json(answer);
  } else {
    print(cell_at(answer, "redriven") + (o.dry_run ? " would be handed" : " handed") + " to group " +
          printable(o.group) + " again");
  }
  return kOk;
}

int purge(Context& context, const Options& o) {
  check_choice(o);
  Query query = query_of(o);
  if (o.dry_run) query.emplace_back("dry_run", "true");
  const auto answer = context.open()->remove(group_path(o.group, "/dead-letters"), query);
  if (context.json) {
    print_json(answer);
  } else {
    print(cell_at(answer, "purged") + " dead letters of group " + printable(o.group) +
          (o.dry_run ? " would be deleted" : " deleted"));
  }
  return kOk;
}

/// Dead letters of one group counted by type and reason.
int stats_of_group(Context& context, const Options& o) {
  std::map<std::pair<std::string, std::string>, std::uint64_t> counts;
  const auto target = context.open();
  Query query{{"limit", "1000"}};
  for (;;) {
    const auto answer = target->get(group_path(o.group, "/dead-letters"), query);
    for (const auto& letter : answer.at("dead_letters").as_array()) {
      ++counts[{cell_at(letter, "event.type"), cell_at(letter, "reason")}];
    }
    if (answer.at("next").is_null()) break;
    query = {{"limit", "1000"}, {"after", std::string(answer.at("next").as_string())}};
  }
  boost::json::array rows;
  Table table({"#DEAD", "TYPE", "REASON"});
  for (const auto& [what, dead] : counts) {
    rows.push_back(boost::json::object{{"type", what.first}, {"reason", what.second}, {"dead", dead}});
    table.row({std::to_string(dead), what.first, shortened(what.second, 100)});
  }
  if (context.json) {
    print_json(boost::json::object{{"group", o.group}, {"dead_letters", rows}});
  } else {
    table.print("no dead letters in group " + printable(o.group));
  }
  return kOk;
}

int stats(Context& context, const Options& o) {
  if (!o.group.empty()) return stats_of_group(context, o);
  const auto answer = context.open()->get("/v1/groups");
  boost::json::array rows;
  Table table({"GROUP", "#DEAD", "#REJECTED EVER"});
  for (const auto& group : answer.at("groups").as_array()) {
    rows.push_back(boost::json::object{
        {"group", group.at("name")}, {"dead", group.at("dead")}, {"rejected", group.at("rejected")}});
    table.row({cell_at(group, "name"), cell_at(group, "dead"), cell_at(group, "rejected")});
  }
  if (context.json) {
    print_json(boost::json::object{{"groups", rows}});
  } else {
    table.print("no groups");
  }
  return kOk;
}

}  // namespace

void add_dlq(CLI::App& app, Context& context) {
  CLI::App& dlq = *app.add_subcommand("dlq", "The dead letters of a group");
  dlq.require_subcommand(1);
  add_command<Options>(
      dlq, context, "list", "Dead letters, oldest position first",
      [](CLI::App& command, Options& o) {
        group_option(command, o);
        filter_options(command, o);
        command.add_option("--after", o.after, "Only after this position");
        command.add_option("--limit", o.limit, "At most so many")->capture_default_str();
      },
      [&context](const Options& o) { return list(context, o); });
  add_command<Options>(
      dlq, context, "show", "One dead letter with its event",
      [](CLI::App& command, Options& o) {
        group_option(command, o);
        command.add_option("position", o.position, "As `dlq list` shows it")->required();
      },
      [&context](const Options& o) { return show(context, o); });
  add_command<Options>(dlq, context, "redrive", "Hand dead letters to their group again, with fresh counters",
                       choice_options, [&context](const Options& o) { return redrive(context, o); });
  add_command<Options>(dlq, context, "purge", "Delete dead letters for good", choice_options,
                       [&context](const Options& o) { return purge(context, o); });
  add_command<Options>(
      dlq, context, "stats", "Dead letters counted: per group, or of one group by type and reason",
      [](CLI::App& command, Options& o) { command.add_option("group", o.group, "Only this group"); },
      [&context](const Options& o) { return stats(context, o); });
}

}  // namespace millrace::cli
