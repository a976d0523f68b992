// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a process knows of one group, and one call's decision upon it.

#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "millrace/pattern.hpp"
#include "store/common.hpp"
#include "store/ledger/group_state.hpp"
#include "store/ledger_calls.hpp"
#include "store/redis/commit.hpp"
#include "store/redis/group_rows.hpp"

namespace millrace::store::redis {

/// A group as of one version of it.
struct Group {
  GroupName name;
  std::string version;
  GroupIdentity identity;
  PatternList types;
  bool paused = false;
  Timestamp created_at = {}, last_seen = {};
  Timestamp saved_last_seen = {};
  Timestamp types_changed = {};
  Timestamp unrecorded_to = {};  ///< up to here events may have been passed over that the history has not
  ledger::GroupState state;
  std::uint64_t last_claim = 0;                    ///< the greatest number given in this group
  std::optional<std::uint64_t> entries_read = {};  ///< as the native group shows it
  Ordinal native_cursor = 0;                       ///< where the native group stands
  std::set<std::uint64_t> foreign = {};            ///< claims that stand for what foreign consumers hold
  bool forgets = false;                            ///< a forced trim was taken in, and is to be noted so
  /// What the native group shows each claim to hold.
  struct Shown {
    std::string consumer;
    ledger::RangeSet open;
  };
  std::map<std::uint64_t, Shown> shown = {};

  [[nodiscard]] bool live(Timestamp now) const { return is_live(identity.settings, last_seen, now); }
};

/// The log after a position, asked for before it was needed: while handlers had what came before it.
struct ReadAhead {
  StreamName stream;
  Ordinal from = 0;
  std::size_t count = 0;
  Timestamp asked = {};
  std::future<std::vector<Reply>> replies;  ///< XINFO STREAM, then those of entry_commands
};

/// One group in this process: taken in turn, its rows read when needed and forgotten when they may have changed.
struct Slot {
  std::mutex mutex;
  std::unique_ptr<Group> group;  ///< null: to be read

  // What stays true whatever others commit.
  std::unordered_map<Ordinal, ledger::GroupState::OpenEvent> known = {};  ///< of events that were open
  std::string known_order = {};                                           ///< the order rule of their keys
  std::uint64_t next_id = 1, last_id = 0;                                 ///< ids that were taken and not used
  std::size_t bytes_per_event = 1024;                                     ///< about, of those read last
  Timestamp foreign_looked_at = {};
  bool read_on = false;  ///< a foreign consumer was seen to have read on
  bool ever_loaded = false;
  bool vanished = false;  ///< it was there, and is gone though this process did not delete it
  std::optional<ReadAhead> ahead = {};
  /// Claims of ours of which nobody could tell whether they were written: given back when they were.
  std::set<std::uint64_t> in_doubt = {};
  std::uint64_t greetings = 0;  ///< `Client::greetings` before the rows were read

  /// Others may have changed the group.
  void drop();
  /// What was read ahead and nobody came for in time is let go: it is a page of events.
  void forget_read_ahead(Timestamp now);
};

/// What an attempt at a call knows from those before.
struct Attempt {
  std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();  ///< the call
  std::optional<Error> doubt = {};           ///< it had no answer, and was not written as far as could be seen
  std::chrono::microseconds clock_ahead{0};  ///< of ours, before the server's
};

/// One attempt at a call: decides on the group's state, then is committed as a whole.
struct Turn {
  Slot& slot;
  Group& group;
  Timestamp now;
  Commit commit;
  bool current = false;  ///< the group's state was read, or seen to be the newest, during this call
  bool stale = false;    ///< it was seen not to be
  bool seen = false;     ///< a consumer came by
  bool rewrite = false;  ///< more than the group's progress has changed
  bool wake = false;
  bool removed = false;     ///< the group is to be deleted: there is no progress to write
  SessionId used_by = 0;    ///< a session that claims from the group for the first time
  std::uint64_t claim = 0;  ///< that it makes
  Attempt attempt = {};     ///< for the next one, should it fail
};

/// Up to where the native group was read, in an answer of `XINFO GROUPS`; 0 when it is not there.
Ordinal read_to_of(const Reply& groups, const GroupName& name);
/// Whether it has one of this name, whoever made it.
bool has_native_group(const Reply& groups, const GroupName& name);

}  // namespace millrace::store::redis
