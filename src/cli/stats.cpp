// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {};

int stats(Context& context) {
  const auto answer = context.open()->get("/v1/stats");
  if (context.json) {
    print_json(answer);
    return kOk;
  }
  Table table({"WHAT", "#VALUE"});
  for (const char* part : {"store", "bus", "server"}) {
    const auto* members = answer.as_object().if_contains(part);
    if (members == nullptr || !members->is_object()) continue;
    for (const auto& member : members->get_object()) {
      const std::string name = std::string(part) + '.' + std::string(member.key());
      if (const auto* inner = member.value().if_object()) {
        for (const auto& figure : *inner) table.row({name + '.' + std::string(figure.key()), cell(figure.value())});
      } else {
        table.row({name, cell(member.value())});
      }
    }
  }
  table.print("");
  return kOk;
}

}  // namespace

void add_stats(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "stats", "Counters of the store, the bus and the server", [](CLI::App&, Options&) {},
      [&context](const Options&) { return stats(context); });
}

}  // namespace millrace::cli
