// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.hpp"

#include <CLI/CLI.hpp>
#include <exception>
#include <string>
#include <vector>

#include "cli/context.hpp"
#include "cli/exit.hpp"

namespace millrace::cli {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 cannot connect, 4 invalid input, 5 not found.";

void describe(CLI::App& app, Context& context) {
  app.name("millrace");
  app.description("A durable event backbone: what is acknowledged is on disk and reaches every group.");
  app.footer(kFooter);
  app.set_version_flag("--version", "millrace " MILLRACE_VERSION);
  app.fallthrough();  // the flags below may stand after the command too
  app.require_subcommand(1);
  app.add_flag("--json", context.json, "Print JSON for programs; errors as a JSON object on stderr");
  app.add_option("--url", context.url, "The daemon to talk to")->envname("MILLRACE_URL")->capture_default_str();
  app.add_option("--token", context.token, "Bearer token of the daemon")->envname("MILLRACE_TOKEN");
  app.add_option("--ca-file", context.ca_file,
                 "PEM file of the CAs to trust at an https:// URL, instead of the system's")
      ->envname("MILLRACE_CA_FILE")
      ->type_name("FILE");
  // Beside MILLRACE_URL in the environment --store still wins: it was typed.
  app.add_option("--store", context.store, "Open this store directly instead of asking a daemon")->type_name("URL");
  for (auto* add : {add_serve, add_publish, add_tail, add_replay, add_streams, add_groups, add_pending, add_dlq,
                    add_stats, add_status, add_metrics, add_config, add_schema, add_where, add_trim, add_backup,
                    add_store, add_erase, add_doctor}) {
    add(app, context);
  }
}

/// The words of the command that was being parsed: "groups show".
std::string command_words(const CLI::App& app) {
  std::string words;
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    words += (words.empty() ? "" : " ") + at->get_name();
  }
  return words;
}

/// A missing subcommand is found before the word that stands in its place; that word is what helps.
std::string message_of(const CLI::ParseError& error, const CLI::App& app) {
  const std::vector<std::string> left = app.remaining(true);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !left.empty()) {
    return '"' + left.front() + "\" is not known here";
  }
  return error.what();
}

}  // namespace

int run(int argc, char** argv) {
  Context context;
  CLI::App app;
  describe(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    const std::string words = command_words(app);
    print_error(words,
                Error(Errc::invalid_argument, "parse", "",
                      message_of(error, app) + "; see millrace " + (words.empty() ? "" : words + ' ') + "--help"),
                context.json);
    return kUsage;
  }
  try {
    return context.action();
  } catch (const Error& error) {
    print_error(context.command, error, context.json);
    return exit_code_of(error);
  } catch (const std::exception& error) {
    print_error(context.command, Error(Errc::internal, context.command, "", error.what()), context.json);
    return kFailed;
  }
}

}  // namespace millrace::cli
