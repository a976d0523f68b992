// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string group, after;
  std::uint64_t limit = 100;
};

int pending(Context& context, const Options& o) {
  Query query{{"limit", std::to_string(o.limit)}};
  if (!o.after.empty()) query.emplace_back("after", o.after);
  const auto answer = context.open()->get(group_path(o.group, "/pending"), query);
  if (context.json) {
    print_json(answer);
    return kOk;
  }
  Table table({"#POSITION", "ID", "TYPE", "STATE", "CONSUMER", "#ATTEMPT", "#FAILURES", "#CRASHES", "LEASE UNTIL",
               "NEXT TRY", "LAST ERROR"});
  for (const auto& event : answer.at("pending").as_array()) {
    table.row({cell_at(event, "position"), shortened(cell_at(event, "id"), 40), shortened(cell_at(event, "type"), 40),
               cell_at(event, "state"), cell_at(event, "consumer"), cell_at(event, "attempt"),
               cell_at(event, "failures"), cell_at(event, "crashes"), cell_at(event, "lease_until"),
               cell_at(event, "next_try"), shortened(cell_at(event, "last_error"), 60)});
  }
  table.print("nothing is pending in group " + printable(o.group) + ": nothing is handed out, and nothing waits");
  if (!answer.at("next").is_null()) print("more: --after " + cell_at(answer, "next"));
  return kOk;
}

}  // namespace

void add_pending(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "pending", "Events of a group that are handed out or waiting, and why",
      [](CLI::App& command, Options& o) {
        command.add_option("group", o.group, "Name of the group")->required();
        command.add_option("--after", o.after, "Only after this position");
        command.add_option("--limit", o.limit, "At most so many")->capture_default_str();
      },
      [&context](const Options& o) { return pending(context, o); });
}

}  // namespace millrace::cli
