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
  /// `memory:` · `sqlite:<path>?<option>=<value>&…` (a plain path means sqlite). Empty = the default file.
  /// Options of every store are those below, by name; an unknown one is an error.
  std::string url = {};

  enum class Access {
    owner,  ///< a daemon or an embedding program: one per file; a second one is refused with the first one's pid
    tool,   ///< beside an owner, in fair turns
  };
  Access access = Access::owner;
  bool create = true;  ///< false: a store that is not there is Error{not_found}

  std::chrono::seconds dedup_keep{24 * 3600};  ///< URL `dedup_keep=<seconds>`: ids are remembered at least so long
  std::uint64_t min_free_bytes = 1ULL << 30;   ///< URL `min_free=<bytes>`: below it (or below 5 % when that is less)
                                               ///< appends answer store_full; 0 switches the floor off

  /// From the environment, strongest first: MILLRACE_STORE_URL; else EVENT_STORE_BACKEND (sqlite | redis | memory) with
  /// EVENT_STORE_PATH (sqlite) or REDIS_URL (redis); else EVENT_STORE_PATH alone; else the default file,
  /// `${XDG_DATA_HOME:-~/.local/share}/millrace/events.db`. \throws Error{invalid_argument} naming the variable.
  static StoreOptions from_env();
};

/// What a backend promises; the same table is docs/stores.md.
struct Capabilities {
  std::string name = {};  ///< "memory", "sqlite"
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
  [[nodiscard]] virtual std::vector<Figure> figures() const = 0;
};

/// Opens (and by default creates) a store. A new store has the streams `events` and `logs`.
/// \throws Error{invalid_argument | not_found | busy | permission_denied | read_only | corrupt | unsupported_version |
/// unavailable}; nothing is left half-created.
std::unique_ptr<Store> open_store(const StoreOptions& options);
std::unique_ptr<Store> open_store(std::string_view url);

}  // namespace millrace
