// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <boost/json.hpp>
#include <iostream>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string id, source, stream = "events";
  bool yes = false;
};

/// True when a person at the terminal typed yes. \throws Error{invalid_argument} when nobody is there to ask
bool confirmed(const Options& o) {
  if (o.yes) return true;
  if (isatty(STDIN_FILENO) != 1) {
    throw Error(Errc::invalid_argument, "erase", o.id, "cannot be undone and nobody is there to ask: say --yes");
  }
  std::cerr << "This overwrites the data of event " << printable(o.id) << " from " << printable(o.source)
            << " in stream " << printable(o.stream) << " for good. Type yes: " << std::flush;
  std::string answer;
  return std::getline(std::cin, answer) && answer == "yes";
}

int erase(Context& context, const Options& o) {
  if (!confirmed(o)) {
    print("nothing was erased");
    return kFailed;
  }
  const auto answer = context.open()->remove(stream_path(o.stream, "/events"), {{"id", o.id}, {"source", o.source}});
  if (context.json) {
    print_json(answer);
  } else {
    print("erased the data of event " + printable(o.id) + " at position " + cell_at(answer, "position") +
          " of stream " + printable(o.stream) + " (" + cell_at(answer, "erased_at") + ")");
  }
  return kOk;
}

}  // namespace

void add_erase(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "erase", "Overwrite the data of one event for good; its position and id stay",
      [](CLI::App& command, Options& o) {
        command.add_option("--id", o.id, "Its id")->required();
        command.add_option("--source", o.source, "Its source")->required();
        command.add_option("--stream", o.stream, "Its stream")->capture_default_str();
        command.add_flag("--yes", o.yes, "Do not ask");
      },
      [&context](const Options& o) { return erase(context, o); });
}

}  // namespace millrace::cli
