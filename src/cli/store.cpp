// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"
#include "millrace/store.hpp"
#include "store/url.hpp"

namespace millrace::cli {
namespace {

struct InitOptions {};
struct MigrateOptions {
  bool dry_run = false;
};

/// The store of these commands as it may be shown.
std::string shown(const Context& context) {
  return store::without_password(context.store);
}

const std::string& store_of(const Context& context) {
  if (!context.store.empty()) return context.store;
  throw Error(Errc::invalid_argument, context.command, "--store", "say with --store URL which store is meant");
}

int init(const Context& context) {
  StoreOptions options;
  options.url = store_of(context);
  options.access = StoreOptions::Access::tool;
  options.create = false;
  try {
    const auto there = open_store(options);
    throw Error(Errc::already_exists, "make store", shown(context), "there is a store already: " + there->describe());
  } catch (const Error& error) {
    if (error.code() != Errc::not_found) throw;
  }
  options.access = StoreOptions::Access::owner;
  options.create = true;
  const auto store = open_store(options);
  if (context.json) {
    boost::json::array streams;
    for (const StreamInfo& stream : store->log().streams()) streams.emplace_back(stream.name.str());
    print_json(boost::json::object{{"store", shown(context)}, {"streams", streams}});
  } else {
    print("made the store " + printable(shown(context)));
  }
  return kOk;
}

int migrate(const Context& context, const MigrateOptions& o) {
  const Migration done = migrate_store(store_of(context), o.dry_run);
  if (context.json) {
    print_json(
        boost::json::object{{"store", shown(context)}, {"from", done.from}, {"to", done.to}, {"dry_run", o.dry_run}});
  } else if (done.from == done.to) {
    print("nothing to do: the store has format version " + std::to_string(done.to));
  } else {
    print((o.dry_run ? "would bring the store from format version " : "brought the store from format version ") +
          std::to_string(done.from) + " to " + std::to_string(done.to));
  }
  return kOk;
}

}  // namespace

void add_store(CLI::App& app, Context& context) {
  CLI::App* store = app.add_subcommand("store", "The store itself: make one, bring an older one up");
  store->require_subcommand(1);
  add_command<InitOptions>(
      *store, context, "init", "Make a new store at --store", [](CLI::App&, InitOptions&) {},
      [&context](const InitOptions&) { return init(context); });
  add_command<MigrateOptions>(
      *store, context, "migrate", "Bring a store that an older Millrace wrote to this one's format; nobody may use it",
      [](CLI::App& command, MigrateOptions& o) {
        command.add_flag("--dry-run", o.dry_run, "Say what would be done; change nothing");
      },
      [&context](const MigrateOptions& o) { return migrate(context, o); });
}

}  // namespace millrace::cli
