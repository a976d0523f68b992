// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <filesystem>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"
#include "millrace/store.hpp"
#include "store/url.hpp"

namespace millrace::cli {
namespace {

/// A large store takes its time, and nothing is gained by giving up on it.
constexpr std::chrono::hours kBackupPatience{24};

struct Options {
  std::string place;
};

int back_up(Context& context, const Options& o) {
  const std::string to = std::filesystem::absolute(o.place).string();
  const auto answer = context.open(kBackupPatience)->post("/v1/backup", boost::json::object{{"to", to}});
  if (context.json) {
    print_json(answer);
  } else {
    print("wrote " + cell_at(answer, "bytes") + " bytes to " + printable(to) +
          "; make a store of it with: millrace restore " + printable(to) + " --store URL");
  }
  return kOk;
}

int restore(const Context& context, const Options& o) {
  if (context.store.empty()) {
    throw Error(Errc::invalid_argument, "restore", "--store", "say with --store URL where the new store is to be");
  }
  restore_store(o.place, context.store);
  if (context.json) {
    print_json(boost::json::object{{"backup", o.place}, {"store", store::without_password(context.store)}});
  } else {
    print("restored " + printable(o.place) + " as " + printable(store::without_password(context.store)) +
          "; positions go on 1,000,000,000 behind those of the backup");
  }
  return kOk;
}

}  // namespace

void add_backup(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "backup", "Write a copy of the store while it goes on serving",
      [](CLI::App& command, Options& o) {
        command.add_option("to", o.place, "The new file, on the daemon's machine; it must not exist")->required();
      },
      [&context](const Options& o) { return back_up(context, o); });
  add_command<Options>(
      app, context, "restore", "Make a new store, at --store, from a backup",
      [](CLI::App& command, Options& o) {
        command.add_option("from", o.place, "The file that millrace backup wrote")->required();
      },
      [&context](const Options& o) { return restore(context, o); });
}

}  // namespace millrace::cli
