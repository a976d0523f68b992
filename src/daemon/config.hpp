// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The daemon's configuration: one table of descriptors feeds the TOML file, the environment
/// (`MILLRACE_<SECTION>_<KEY>`), the flags of `serve` (`flag_of`), `--help`, `config show` and
/// docs/configuration.md. Precedence: flag > environment > file > default. What may stand several times, an array of
/// tables, is described in config_tables.hpp.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.hpp"
#include "millrace/ledger.hpp"
#include "millrace/schema.hpp"
#include "millrace/store.hpp"

namespace millrace::daemon {

/// What a token may be for.
enum class Scope {
  publish,
  consume,
  metrics,
  admin,  ///< includes the others
};
std::string_view to_string(Scope scope);

struct Config {
  struct Server {
    std::string listen = "127.0.0.1:8420";  ///< host:port; port 0 picks a free one, printed at start
    std::string token;                      ///< bearer token that may do everything; secret
    std::string tls_cert, tls_key;          ///< PEM files; both or none: then it speaks plain HTTP
    std::uint64_t max_event_bytes = 1 << 20;
    std::uint64_t max_batch_bytes = 8 << 20;
    std::uint64_t max_header_bytes = 64 << 10;
    std::uint64_t max_connections = 10'000;
    Milliseconds request_timeout{30'000};  ///< to send a whole request once it began; also the longest idle keep-alive
    Milliseconds max_wait{60'000};         ///< longest long poll
    Milliseconds stop_grace{10'000};       ///< SIGTERM: how long running work may take
  } server;
  struct Store {
    std::string url;  ///< empty: StoreOptions::from_env()
  } store;
  struct Delivery {
    GroupSettings group;                          ///< what a group made by a claim is recorded with
    Milliseconds lease{30'000};                   ///< of a claim that names none
    std::chrono::seconds expires{7 * 24 * 3600};  ///< of a group made by a claim
  } delivery;
  /// A `[[schema]]`.
  struct Schema {
    SchemaVersion schema;
    SchemaRegistry::StepKind step = SchemaRegistry::StepKind::none;  ///< from the version before
    std::vector<SchemaChange> changes;
  };
  std::vector<Schema> schemas;
  /// A `[[stream]]`.
  struct Stream {
    std::string name;
    Retention retention;
    bool create = true;  ///< false: it must be there
  };
  std::vector<Stream> streams;
  /// A `[[token]]`.
  struct Token {
    std::string name;
    std::string secret;
    std::vector<Scope> scopes;
    std::vector<std::string> streams;  ///< patterns; none = all
  };
  std::vector<Token> tokens;
  struct Log {
    log::Level level = log::Level::info;
    log::Format format = log::Format::automatic;
  } log;

  /// Whether a request needs a token.
  [[nodiscard]] bool asks_for_token() const { return !server.token.empty() || !tokens.empty(); }
};

/// One key: how it is called, what it means, how to read and print it.
struct Descriptor {
  std::string section, key;
  std::string help;     ///< one sentence, with unit and range
  std::string example;  ///< as in TOML
  bool secret = false;
  std::function<void(Config&, const std::string&)> set;  ///< \throws Error{invalid_argument} naming key and value
  std::function<std::string(const Config&)> get;         ///< as TOML; a secret prints as "***" when set
};
const std::vector<Descriptor>& descriptors();
/// "--server-tls-cert": dashes throughout, as every other flag has them.
std::string flag_of(const Descriptor& key);

enum class Origin { default_value, file, environment, flag };
struct LoadedConfig {
  Config config;
  std::map<std::string, Origin> origins;  ///< "server.listen" → where it came from
  std::optional<std::string> file;
};
/// \param file  --config, else MILLRACE_CONFIG, else `${XDG_CONFIG_HOME:-~/.config}/millrace/millrace.toml` if it
/// exists. \param flags "server.listen" → text. \throws Error{invalid_argument} that names the key (and the nearest
/// known one), the file and the line; {not_found} for a named file that is not there.
LoadedConfig load_config(const std::optional<std::string>& file, const std::map<std::string, std::string>& flags);

}  // namespace millrace::daemon
