// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/retention.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string stream, up_to;
  LimitFlags limits;
  bool force = false, dry_run = false;
};

void print_result(const Options& o, const boost::json::value& answer) {
  const std::string stream = printable(o.stream);
  const auto removed = answer.at("removed").to_number<std::uint64_t>();
  std::string line =
      (o.dry_run ? "would remove " : "removed ") + std::to_string(removed) + " events of stream " + stream;
  if (const std::string to = cell_at(answer, "trimmed_to"); to != "-")
    line += "; all up to position " + to + " are gone";
  if (o.dry_run && removed > 0) line += " then";
  print(line);
  for (const auto& kept : answer.at("kept").as_array()) {
    const std::string group = cell_at(kept, "group");
    print("kept " + cell_at(kept, "events") + " that group " + group + " has not settled; look: millrace groups show " +
          group);
  }
}

int trim(Context& context, const Options& o) {
  boost::json::object body;
  put_limits(body, o.limits);
  if (!o.up_to.empty()) body["up_to"] = o.up_to;
  if (o.force) body["force"] = true;
  if (o.dry_run) body["dry_run"] = true;
  const auto answer = context.open()->post(stream_path(o.stream, "/trim"), body);
  if (context.json) {
    print_json(answer);
  } else {
    print_result(o, answer);
  }
  return kOk;
}

}  // namespace

void add_trim(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "trim", "Remove old events now, but none that a live group has not settled",
      [](CLI::App& command, Options& o) {
        command.add_option("stream", o.stream, "Name of the stream; without a limit its own retention counts")
            ->required();
        add_limit_flags(command, o.limits);
        command.add_option("--up-to", o.up_to, "Remove everything up to this position, inclusive");
        command.add_flag("--force", o.force, "Also what live groups have not settled: they never get it");
        command.add_flag("--dry-run", o.dry_run, "Say what would be removed and kept; change nothing");
      },
      [&context](const Options& o) { return trim(context, o); });
}

}  // namespace millrace::cli
