// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the writer knows of the database: streams, groups and sessions, read when first needed, changed by operations,
/// written once per commit, and forgotten when another process has committed or a commit failed. In the writer's
/// turn only.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/time.hpp"
#include "millrace/pattern.hpp"
#include "store/common.hpp"
#include "store/ledger/group_state.hpp"
#include "store/ledger_calls.hpp"
#include "store/sqlite/database.hpp"

namespace millrace::store::sqlite {

using ledger::Ordinal;

/// Positions that were reserved, maybe lost, and are never used.
using SkippedRanges = std::vector<std::pair<Ordinal, Ordinal>>;

/// How many positions in (after, to] hold or held events.
std::uint64_t positions_between(const SkippedRanges& skipped, Ordinal after, Ordinal to);

struct StreamState {
  std::int64_t id = 0;
  StreamName name = kDefaultStream;
  Ordinal next_position = 1;
  Ordinal reserved_to = 0;
  Ordinal trimmed_to = 0;
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  Timestamp last_stored_at{};
  bool has_trimmed_ids = false;
  bool dirty = false;
  SkippedRanges skipped;

  Statement insert;       ///< position, event columns, stored_at
  Statement by_id;        ///< id, source → position, event columns, stored_at
  Statement by_position;  ///< position → event columns, stored_at
  Statement after;        ///< position → position, event columns, in order
  Statement trimmed_id;   ///< id, source → position, fingerprint, trimmed_at

  [[nodiscard]] Ordinal head() const { return next_position - 1; }
};

/// What decides whether an event is for a group, and after which others. Replaced as a whole when a group is altered.
struct Judgement {
  PatternList types;
  OrderRule order;
};

/// Parked events that a claim has read already, so that they are not read again when their key is free: at most
/// `kMostBytes` of them. Events do not change, so an entry is never wrong, only unneeded.
class SetAside {
 public:
  void put(Ordinal ordinal, Event event, std::size_t bytes, const ledger::GroupState& state);
  std::optional<Event> take(Ordinal ordinal);  ///< also to forget it

 private:
  static constexpr std::size_t kMostBytes = 4 << 20;
  struct Entry {
    Event event;
    std::size_t bytes;
  };
  std::unordered_map<Ordinal, Entry> events_;
  std::size_t bytes_ = 0;
};

struct Group {
  std::int64_t id = 0;
  GroupName name;
  GroupIdentity identity;
  std::shared_ptr<const Judgement> judgement;
  bool paused = false;
  Timestamp created_at;
  Timestamp last_seen;
  Timestamp saved_last_seen;
  ledger::GroupState state;
  SetAside set_aside;
  std::uint64_t dead = 0;  ///< dead letters that are shown
  Timestamp types_changed{};
  Timestamp unrecorded_to{};  ///< up to here events may have been passed over that the history has not; 0 = unknown

  [[nodiscard]] bool live(Timestamp now) const { return is_live(identity.settings, last_seen, now); }
};

struct Session {
  std::string consumer;
  Milliseconds lease;
  Timestamp until;
};

class State {
 public:
  /// \param last_id the counter of the ids given so far under this incarnation.
  State(Connection& connection, const StoreClock& clock, std::uint32_t incarnation, std::uint32_t last_id,
        std::chrono::seconds history);

  /// At the start of each transaction: forgets what another process may have changed.
  void begin();
  /// Before the commit: writes what has changed.
  void flush();
  /// After a commit that failed: nothing that is remembered is certain.
  void forget();

  [[nodiscard]] Connection& connection() { return connection_; }
  /// The store's clock, the same throughout one transaction.
  [[nodiscard]] Timestamp now() const { return now_; }
  /// Unique in the store's life: the incarnation and a counter.
  std::uint64_t new_id();
  [[nodiscard]] std::uint32_t last_id() const { return last_id_; }

  StreamState* find_stream(const StreamName& name);
  StreamState& stream(const StreamName& name, std::string_view operation);  ///< \throws Error{unknown_stream}
  StreamState& stream_by_id(std::int64_t id);
  void add_stream(const StreamName& name);
  std::map<std::string, std::unique_ptr<StreamState>>& streams();
  /// Where each stream (by its id) ends.
  std::vector<std::pair<std::int64_t, Ordinal>> heads();

  Group* find_group(const GroupName& name);
  Group& group(const GroupName& name, std::string_view operation);  ///< \throws Error{unknown_group}
  Group& add_group(const GroupName& name, const GroupIdentity& identity, Ordinal cursor);
  void delete_group(Group& group);
  void set_dead(Group& group, std::uint64_t count);
  std::vector<Group*> all_groups();
  /// Marks for writing; `seen` = a consumer came by.
  void touch(Group& group, bool seen);

  /// How long it is remembered who settled what; 0 = not at all.
  [[nodiscard]] std::chrono::seconds history() const { return history_; }

  std::map<SessionId, Session>& sessions();
  /// A session has claimed from a group: while it is renewed, the group is in use. Of this process, so it outlives what
  /// forget() forgets.
  void note_use(SessionId session, const GroupName& group) { used_[session].insert(group); }
  void note_renewed(SessionId session);
  void note_ended(SessionId session) { used_.erase(session); }
  /// Consumers whose sessions have claimed from it, as far as this process has seen.
  std::set<std::string> users_of(const GroupName& group);
  ledger::SessionEnd session_end();

  /// Something became claimable in this transaction.
  [[nodiscard]] bool woke() const { return woke_; }
  void wake() { woke_ = true; }
  /// The transaction must be committed, though no row has changed.
  [[nodiscard]] bool written() const { return written_; }
  void mark_written() { written_ = true; }
  /// Another process committed since the last transaction.
  [[nodiscard]] bool others_committed() const { return others_committed_; }
  [[nodiscard]] std::uint64_t events_appended() const { return events_appended_; }
  /// How many events were erased in the file's life: what was read before the last of them may hold their bytes.
  std::uint64_t erasures();
  void count_erasure();
  void count_appended(std::uint64_t events) { events_appended_ += events; }

 private:
  void load_streams();
  std::unique_ptr<Group> load_group(Statement::Rows& row);
  void load_progress(Group& group, Statement::Rows& row);
  void save_group(Group& group);
  void save_dead(Group& group, const ledger::Changes::Dead& dead);
  void wipe_deleted(bool on);

  Connection& connection_;
  const StoreClock& clock_;
  std::uint32_t incarnation_;
  std::uint32_t last_id_;
  std::chrono::seconds history_;
  std::int64_t data_version_ = -1;
  Timestamp now_;
  bool woke_ = false;
  bool others_committed_ = true;
  std::uint64_t events_appended_ = 0;
  bool written_ = false;
  std::optional<bool> wipes_;  ///< PRAGMA secure_delete of the connection, if it is known
  bool streams_loaded_ = false;
  std::map<std::string, std::unique_ptr<StreamState>> streams_;
  std::unordered_map<std::int64_t, StreamState*> streams_by_id_;
  std::map<std::string, std::unique_ptr<Group>> groups_;
  std::set<Group*> dirty_groups_;
  std::optional<std::uint64_t> erasures_;
  bool sessions_loaded_ = false;
  std::map<SessionId, Session> sessions_;
  std::map<SessionId, std::set<GroupName>> used_;
};

/// `State::erasures` as of the connection's transaction.
std::uint64_t load_erasures(Connection& connection);

/// Reads the skipped ranges of a stream.
SkippedRanges load_skipped(Connection& connection, std::int64_t stream_id);

}  // namespace millrace::store::sqlite
