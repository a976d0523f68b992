// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What all commands share: the flags every one of them takes, and how each is added to the command line.

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/target.hpp"

namespace millrace::cli {

struct Context {
  bool json = false;
  std::string url = "http://127.0.0.1:8420";
  std::string token;
  std::string ca_file;
  std::string store;  ///< --store: open it instead of asking a daemon

  std::string command;          ///< the chosen one: "groups list"
  std::function<int()> action;  ///< what it does

  [[nodiscard]] std::unique_ptr<Target> open(std::chrono::milliseconds patience = kUsualPatience) const {
    return store.empty() ? make_http_target(url, token, ca_file, patience) : open_store_target(store);
  }
};

/// A subcommand whose options live in `Options`; `action(options)` runs after parsing and answers the exit code.
template <class Options>
CLI::App& add_command(CLI::App& parent, Context& context, const std::string& name, const std::string& help,
                      const std::function<void(CLI::App&, Options&)>& describe,
                      std::function<int(const Options&)> action) {
  CLI::App* command = parent.add_subcommand(name, help);
  auto options = std::make_shared<Options>();
  describe(*command, *options);
  const std::string full = parent.get_parent() == nullptr ? name : parent.get_name() + ' ' + name;
  command->callback([&context, command, options, action = std::move(action), full] {
    if (!command->get_subcommands().empty()) return;  // the one that was chosen acts
    context.command = full;
    context.action = [options, action] { return action(*options); };
  });
  return *command;
}

/// An option that may be repeated; each may hold several, comma-separated. A comma inside `{}` or `[]` belongs to a
/// pattern.
CLI::Option* add_list(CLI::App& command, const std::string& name, std::vector<std::string>& list,
                      const std::string& help);
/// \throws Error{invalid_argument} naming `name` for an empty element
std::vector<std::string> split_lists(const std::vector<std::string>& given, std::string_view name);

void add_serve(CLI::App& app, Context& context);
void add_publish(CLI::App& app, Context& context);
void add_tail(CLI::App& app, Context& context);
void add_replay(CLI::App& app, Context& context);
void add_streams(CLI::App& app, Context& context);
void add_groups(CLI::App& app, Context& context);
void add_pending(CLI::App& app, Context& context);
void add_dlq(CLI::App& app, Context& context);
void add_stats(CLI::App& app, Context& context);
void add_status(CLI::App& app, Context& context);
void add_metrics(CLI::App& app, Context& context);
void add_config(CLI::App& app, Context& context);
void add_schema(CLI::App& app, Context& context);
void add_where(CLI::App& app, Context& context);
void add_backup(CLI::App& app, Context& context);  // and restore
void add_store(CLI::App& app, Context& context);
void add_trim(CLI::App& app, Context& context);
void add_erase(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);

}  // namespace millrace::cli
