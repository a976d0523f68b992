// SPDX-License-Identifier: Apache-2.0
#include "daemon/config_tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>

#include "base/units.hpp"
#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string file;
};

std::string origin_name(daemon::Origin origin, const daemon::LoadedConfig& loaded) {
  switch (origin) {
    case daemon::Origin::default_value:
      return "default";
    case daemon::Origin::file:
      return "file " + loaded.file.value_or("");
    case daemon::Origin::environment:
      return "environment";
    case daemon::Origin::flag:
      return "flag";
  }
  return "?";
}

/// The longest the waits between `attempts` tries can add up to.
Milliseconds longest_total(const Backoff& backoff, std::uint32_t attempts) {
  Milliseconds total{0};
  Milliseconds wait = std::min(backoff.first, backoff.max);
  for (std::uint32_t i = 1; i < attempts; ++i) {
    total += wait;
    wait = std::min(wait * 2, backoff.max);
  }
  return total;
}

/// How many tries certainly fit into `age` when every wait is as long as it can be.
std::uint64_t fewest_tries(const Backoff& backoff, Milliseconds age) {
  std::uint64_t tries = 1;
  Milliseconds wait = std::min(backoff.first, backoff.max);
  for (Milliseconds total = wait; total < age; total += wait) {
    ++tries;
    if (wait == backoff.max) return tries + static_cast<std::uint64_t>((age - total) / backoff.max);
    wait = std::min(wait * 2, backoff.max);
  }
  return tries;
}

boost::json::object schedules(const RetryPolicy& retry) {
  return {
      {"handler", fmt::format("dead after {} failures, at most {} after the first", retry.max_attempts,
                              format_duration(longest_total(retry.handler_backoff, retry.max_attempts)))},
      {"transient", fmt::format("dead {} after the first failure, at least {} tries", format_duration(retry.max_age),
                                fewest_tries(retry.transient_backoff, retry.max_age))},
      {"crash", fmt::format("dead after {} crashes of its consumer", retry.max_crashes)}};
}

daemon::LoadedConfig load(const Options& o) {
  try {
    return daemon::load_config(o.file.empty() ? std::nullopt : std::optional(o.file), {});
  } catch (const Error& error) {
    // A named file that is not there is a usage error of this command, not a missing object of a store.
    throw Error(Errc::invalid_argument, error.operation(), error.object(), error.message(), error.native());
  }
}

int check(Context& context, const Options& o) {
  const auto loaded = load(o);
  const std::string file = loaded.file.value_or("");
  if (context.json) {
    print_json(boost::json::object{{"ok", true}, {"file", file}});
  } else {
    print(file.empty() ? "the configuration is valid; there is no file"
                       : "the configuration is valid: " + printable(file));
  }
  return kOk;
}

int show(Context& context, const Options& o) {
  const auto loaded = load(o);
  const auto totals = schedules(loaded.config.delivery.group.retry);
  boost::json::array keys;
  Table table({"KEY", "VALUE", "ORIGIN"});
  for (const auto& key : daemon::descriptors()) {
    const std::string name = key.section + '.' + key.key;
    const std::string origin = origin_name(loaded.origins.at(name), loaded);
    keys.push_back(boost::json::object{{"key", name}, {"value", key.get(loaded.config)}, {"origin", origin}});
    table.row({name, printable(key.get(loaded.config)), printable(origin)});
  }
  boost::json::object tables;
  for (const auto& kind : daemon::table_kinds()) {
    boost::json::array rows;
    for (const auto& row : kind.rows(loaded.config)) {
      const std::string name = fmt::format("{}[{}].", kind.name, rows.size() + 1);
      boost::json::object values;
      for (const auto& [key, value] : row) {
        values.emplace(key, value);
        table.row({name + key, printable(value), printable("file " + loaded.file.value_or(""))});
      }
      rows.push_back(std::move(values));
    }
    tables.emplace(kind.name, std::move(rows));
  }
  if (context.json) {
    print_json(
        boost::json::object{{"file", loaded.file.value_or("")}, {"keys", keys}, {"tables", tables}, {"retry", totals}});
    return kOk;
  }
  table.print("");
  print("");
  Table retry({"RETRY", "TOTAL"});
  for (const auto& total : totals) retry.row({std::string(total.key()), cell(total.value())});
  retry.print("");
  return kOk;
}

/// docs/configuration.md, so that it cannot say anything else than the program does.
int docs() {
  std::string text =
      "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
      "<!-- Written by `millrace config docs`; change src/daemon/config_keys.cpp instead. -->\n"
      "# Configuration\n\n"
      "One TOML file: `--config`, else `MILLRACE_CONFIG`, else `${XDG_CONFIG_HOME:-~/.config}/millrace/millrace.toml` "
      "if it is "
      "there.\nEach key can be given as a flag of `millrace serve` or in the environment too. Precedence: flag > "
      "environment > "
      "file > default.\n\n"
      "An unknown key, or a variable `MILLRACE_…` that is meant for one, is an error that names the nearest known one. "
      "A value "
      "in the file may use\n`${VARIABLE}`; a secret may be `file:<path>`, and is never printed. Durations are a number "
      "and `ms`, "
      "`s`, `m`, `h` or `d`; sizes are bytes or\n`\"1 MiB\"`.\n\n"
      "`millrace config check` reads everything and says what is wrong; `millrace config show` prints every value, "
      "where it came "
      "from, and how long\nretries can take in total.\n";
  std::string section;
  const daemon::Config defaults;
  for (const auto& key : daemon::descriptors()) {
    if (key.section != section) {
      section = key.section;
      text += "\n## [" + section + "]\n\n| key | default | what | example |\n| --- | --- | --- | --- |\n";
    }
    text += fmt::format("| `{}` | `{}` | {}{} | `{}` |\n", key.key, key.get(defaults), key.help,
                        key.secret ? "; secret" : "", key.example);
  }
  for (const auto& kind : daemon::table_kinds()) {
    text += fmt::format("\n## [[{}]]\n\n{}\nIt may stand several times, in the file only.\n\n", kind.name, kind.help);
    text += "| key | what | example |\n| --- | --- | --- |\n";
    for (const auto& key : kind.keys) {
      text += fmt::format("| `{}` | {}{}{} | `{}` |\n", key.key, key.help, key.required ? "; required" : "",
                          key.secret ? "; secret" : "", key.example);
    }
  }
  text +=
      "\nAs a flag `server.tls_cert` is `--server-tls-cert`, as a variable `MILLRACE_SERVER_TLS_CERT`. The command "
      "line "
      "reads "
      "`MILLRACE_URL`, `MILLRACE_TOKEN` and\n`MILLRACE_CA_FILE` to find its daemon.";
  print(text);
  return kOk;
}

void file_option(CLI::App& command, Options& o) {
  command.add_option("--config", o.file, "Configuration file, instead of MILLRACE_CONFIG or the default place")
      ->type_name("FILE");
}

}  // namespace

void add_config(CLI::App& app, Context& context) {
  CLI::App& config = *app.add_subcommand("config", "The configuration of `serve`");
  config.require_subcommand(1);
  add_command<Options>(config, context, "check", "Read it all and say whether `serve` would start with it", file_option,
                       [&context](const Options& o) { return check(context, o); });
  add_command<Options>(config, context, "show", "Every key with its value and where that came from", file_option,
                       [&context](const Options& o) { return show(context, o); });
  CLI::App& hidden = add_command<Options>(
      config, context, "docs", "", [](CLI::App&, Options&) {}, [](const Options&) { return docs(); });
  hidden.group("");
}

}  // namespace millrace::cli
