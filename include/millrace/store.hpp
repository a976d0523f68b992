// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A store: one backend behind three small interfaces.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "millrace/event_log.hpp"
#include "millrace/key_value.hpp"
#include "millrace/ledger.hpp"

namespace millrace {

/// How to open a store.
struct StoreOptions {
  /// `memory:` · `sqlite:<path>?<option>=<value>&…` (a plain path means sqlite) · `redis://…`, `rediss://…`,
  /// `redis+unix:<path of a socket>`. Empty = the default file. Options of every store are those below, by name, beside
  /// its own (docs/stores.md); an unknown one is an error.
  std::string url = {};

  enum class Access {
    owner,  ///< a daemon or an embedding program: one per file; a second one is refused with the
            ///< first one's pid. On Redis there may be any number
    tool,   ///< beside an owner, in fair turns
  };
  Access access = Access::owner;
  bool create = true;  ///< false: a store that is not there is Error{not_found}

  std::chrono::seconds dedup_keep{24 * 3600};  ///< URL `dedup_keep=<seconds>`: ids are remembered at least so long
  std::uint64_t min_free_bytes = 1ULL << 30;   ///< URL `min_free=<bytes>`: below it (or below 5 % when that is less)
                                               ///< appends answer store_full; 0 switches the floor off

  std::chrono::seconds history{7 * 24 *
                               3600};  ///< URL `history=<seconds>`: who settled what is known so long (0 = not)

  /// From the environment, strongest first: MILLRACE_STORE_URL; else EVENT_STORE_BACKEND (sqlite | redis | memory) with
  /// EVENT_STORE_PATH (sqlite) or REDIS_URL (redis); else EVENT_STORE_PATH alone; else the default file,
  /// `${XDG_DATA_HOME:-~/.local/share}/millrace/events.db`. \throws Error{invalid_argument} naming the variable.
  static StoreOptions from_env();
};

/// What a backend promises; the same table is docs/stores.md.
struct Capabilities {
  std::string name = {};  ///< "memory", "sqlite", "redis"
  Durability strongest = Durability::durable;
  bool shared_between_processes = false;
  bool fences_late_settles = true;
  bool relaxed_differs = false;  ///< a relaxed append answers `relaxed`
};

/// Thread-safe. Destroying it closes it; calls still running then finish or answer `stopped`.
class Store {
 public:
  virtual ~Store() = default;
  virtual EventLog& log() = 0;
  virtual Ledger& ledger() = 0;
  virtual KeyValue& kv() = 0;
  [[nodiscard]] virtual Capabilities capabilities() const = 0;
  /// One line for people: "sqlite:/var/lib/millrace/events.db (owner)". Never a secret.
  [[nodiscard]] virtual std::string describe() const = 0;
  /// Counters for metrics, `millrace_store_<name>`; names ending in _total only grow.
  struct Figure {
    std::string name = {};
    std::string help = {};
    double value;
  };
  /// Answers at once, also while the backend does not; what only the backend could say is left out then.
  [[nodiscard]] virtual std::vector<Figure> figures() const = 0;

  /// Writes a copy of the store, as of some moment during the call, while it goes on serving. Everything acknowledged
  /// as durable before the call is in it. `to` must not exist; it appears whole or not at all, synced.
  /// \throws Error{already_exists | store_full | permission_denied | unavailable}; {invalid_argument} for a store whose
  /// engine makes its own backups
  virtual void backup(const std::string& to) = 0;

  /// The connections to a server for one purpose.
  struct Pool {
    std::string name = {};               ///< "append"
    bool connected = false;              ///< all of them are
    std::chrono::milliseconds since{};   ///< they have been, or have not been, for so long
    std::string why = {};                ///< why not, or why they are of no use; empty when all is well
    std::uint64_t connects = 0;          ///< connections made so far
    std::uint64_t errors = 0;            ///< calls that got no answer, or an error
    std::size_t in_flight = 0;           ///< calls sent and not answered
    std::size_t queued = 0;              ///< calls that wait to be sent
    std::chrono::milliseconds oldest{};  ///< how long the oldest of those calls has waited; 0 when there is none
  };
  /// None for a store without a server. Answers at once, also while the server does not.
  [[nodiscard]] virtual std::vector<Pool> pools() const { return {}; }

  /// A setting of the server that weakens what its store promises, though not below what was asked for.
  struct Doubt {
    std::string found = {};    ///< "aof-load-truncated is yes"
    std::string at_risk = {};  ///< what could be lost or repeated
    std::string to_do = {};
  };
  /// As of the server's last word. None for a store without a server.
  [[nodiscard]] virtual std::vector<Doubt> doubts() const { return {}; }
};

/// Opens (and by default creates) a store. A new store has the streams `events` and `logs`.
/// \throws Error{invalid_argument | not_found | busy | permission_denied | read_only | corrupt | unsupported_version |
/// unavailable}; nothing is left half-created.
std::unique_ptr<Store> open_store(const StoreOptions& options);
std::unique_ptr<Store> open_store(std::string_view url);

/// Makes a store at `url` from a backup. No lease from before holds in it, and its positions go on far behind those of
/// the backup, so that none that was handed out after the backup is ever used again.
/// \throws Error{already_exists} when there is a store; {corrupt | unsupported_version | not_found} of the backup
void restore_store(const std::string& backup, std::string_view url);

/// What `migrate_store` did or would do.
struct Migration {
  std::int64_t from = 0;
  std::int64_t to = 0;  ///< equal: nothing to do
};
/// Brings a store that an older Millrace wrote to this one's format, in one transaction. An owner's `open_store` does
/// the same; opening as a tool refuses an older format and names this. \throws Error as open_store
Migration migrate_store(std::string_view url, bool dry_run = false);

}  // namespace millrace
