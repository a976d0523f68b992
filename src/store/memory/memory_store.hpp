// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The store that keeps nothing beyond the process: for tests, and for programs that want groups and order but no disk.

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/time.hpp"
#include "millrace/pattern.hpp"
#include "millrace/store.hpp"
#include "store/common.hpp"
#include "store/ledger/group_state.hpp"
#include "store/ledger_calls.hpp"
#include "store/memory/history.hpp"
#include "store/memory/notifier.hpp"
#include "store/memory/stream.hpp"
#include "store/retention.hpp"

namespace millrace::store::memory {

struct DeadRow {
  DeadLetter letter;
  ledger::KeyHash key = 0;
  bool open_again = false;  ///< redriven and not settled: kept for its bytes, not shown
};

struct Group {
  Group(GroupIdentity recorded, Timestamp now)
      : identity(std::move(recorded)),
        filter(identity.types),
        state(identity.settings),
        created_at(now),
        last_seen(now) {}

  GroupIdentity identity;
  PatternList filter;
  ledger::GroupState state;
  bool paused = false;
  Timestamp created_at;
  Timestamp last_seen;
  std::map<Ordinal, DeadRow> dead;
  History history;
  Timestamp types_changed{};
  Timestamp unrecorded_to = created_at;  ///< made, moved or altered: events were passed over that the history has not

  [[nodiscard]] bool live(Timestamp now) const { return is_live(identity.settings, last_seen, now); }
};

struct Session {
  std::string consumer;
  Milliseconds lease{0};
  Timestamp until{};
  std::set<GroupName> groups;  ///< it has claimed from
};

/// All data under one mutex: every call is short, copies of events are made outside it, and a store without a disk has
/// nothing to overlap. Notifier has a lock of its own, always taken last.
struct Shared {
  explicit Shared(StoreOptions store_options);

  std::mutex mutex;
  const StoreOptions options;
  const StoreClock clock;
  std::map<StreamName, Stream> streams;
  std::map<GroupName, Group> groups;
  std::unordered_map<SessionId, Session> sessions;
  std::uint64_t last_claim = 0;
  std::uint64_t last_session = 0;
  std::uint64_t stored_total = 0;
  std::uint64_t delivered_total = 0;
  std::uint64_t settled_total = 0;
  Notifier notifier{65'536};

  Stream& stream_at(std::string_view operation, const StreamName& name);
  Group& group_at(std::string_view operation, const GroupName& name);
  /// Forgets the groups nobody has used for as long as they were to be kept: there is no housekeeping thread here, so
  /// every call that makes, lists or trims for groups looks first.
  void drop_expired_groups(Timestamp now);
  /// Keeps what the group's state says has changed; after every call that may have changed it.
  void apply(Group& group, Timestamp now);
  /// Its part for the history.
  void record(Group& group, const std::vector<ledger::Changes::Settled>& settled, Timestamp now);
};

class MemoryLog : public EventLog, private RetentionHost {
 public:
  explicit MemoryLog(Shared& shared);
  [[nodiscard]] RetentionSchedule::Figures retention_figures() const { return schedule_.figures(); }
  using EventLog::create_stream;
  void create_stream(const StreamName& name, const Retention& retention) override;
  std::vector<StreamInfo> streams() override;
  StreamInfo stream(const StreamName& name) override;
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events,
                                   Durability durability) override;
  void append_async(const StreamName& stream, std::vector<Event> events, Durability durability,
                    AppendCompletion done) override;
  Page read(const StreamName& stream, const ReadQuery& query) override;
  std::vector<FoundEvent> find(const StreamName& stream, std::string_view id,
                               std::optional<std::string_view> source) override;
  Position position_before(const StreamName& stream, Timestamp time) override;
  TrimResult trim(const StreamName& stream, const TrimRequest& request) override;
  StreamInfo change_retention(const StreamName& stream, const RetentionChange& change) override;
  std::optional<Position> erase(const StreamName& stream, std::string_view source, std::string_view id) override;
  std::unique_ptr<Watch> watch(std::function<void()> changed) override;

 private:
  /// With the lock held.
  std::vector<AppendResult> append_locked(const StreamName& stream, std::vector<Event> events);
  std::vector<Retained> retained() override;
  TrimResult apply_retention(const StreamName& stream, const std::stop_token& stop) override;
  TrimResult trim(const StreamName& stream, const TrimRequest& request, const Retention* applied,
                  const std::stop_token& stop);
  /// What may go, with the lock held: up to where, and what is kept for whom.
  Ordinal horizon_of(const StreamName& name, const Stream& stream, Ordinal target, bool force, TrimResult& result);

  Shared& shared_;
  RetentionSchedule schedule_;
};

class MemoryLedger : public Ledger {
 public:
  explicit MemoryLedger(Shared& shared) : shared_(shared) {}
  GroupInfo ensure_group(const GroupName& group, const GroupSpec& spec) override;
  std::vector<GroupInfo> groups() override;
  GroupInfo group(const GroupName& group) override;
  GroupInfo alter_group(const GroupName& group, const GroupChange& change) override;
  void delete_group(const GroupName& group) override;
  SessionId open_session(const std::string& consumer, Milliseconds lease) override;
  bool renew_session(SessionId session) override;
  void close_session(SessionId session) override;
  ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) override;
  std::vector<std::size_t> settle(const GroupName& group, std::span<const Settlement> settlements) override;
  std::vector<std::size_t> extend(const GroupName& group, std::span<const Lease> leases, Milliseconds lease) override;
  std::vector<PendingEvent> pending(const GroupName& group, Position after, std::size_t limit) override;
  std::vector<DeadLetter> dead_letters(const GroupName& group, const DeadLetterQuery& query) override;
  std::uint64_t redrive(const GroupName& group, const DeadLetterQuery& query) override;
  std::uint64_t purge(const GroupName& group, const DeadLetterQuery& query) override;
  std::vector<ReplayStatus> replay(const GroupName& group, std::string_view replayid,
                                   std::span<const Position> positions) override;
  Whereabouts where(const GroupName& group, Position position) override;

 private:
  // All with the lock held.
  [[nodiscard]] ledger::SessionEnd session_end() const;
  [[nodiscard]] SharedEvent event_of(const Group& group, Ordinal ordinal, bool redriven) const;
  [[nodiscard]] Ordinal resolve(const Stream& stream, const Start& start) const;
  [[nodiscard]] PendingEvent pending_event(const Group& group, Ordinal ordinal, const ledger::Item& item) const;
  ReplayStatus replay_one(Group& group, const Stream& stream, std::string_view replayid, Ordinal ordinal);
  /// Looks at leases first, so that what is told is true now.
  GroupInfo info(const GroupName& name, Group& group);
  Shared& shared_;
};

class MemoryKeyValue : public KeyValue {
 public:
  explicit MemoryKeyValue(Shared& shared) : shared_(shared) {}
  std::optional<KeyValueEntry> get(std::string_view key) override;
  std::uint64_t set(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) override;
  std::optional<std::uint64_t> set_if_absent(std::string_view key, std::string_view value,
                                             std::optional<Milliseconds> ttl) override;
  std::optional<std::uint64_t> compare_and_swap(std::string_view key, std::uint64_t expected, std::string_view value,
                                                std::optional<Milliseconds> ttl) override;
  bool erase(std::string_view key, std::optional<std::uint64_t> expected) override;
  std::vector<KeyValueEntry> scan(std::string_view prefix, std::string_view after, std::size_t limit) override;

 private:
  using Entries = std::map<std::string, KeyValueEntry, std::less<>>;
  // All with the lock held.
  void drop_expired();
  void drop(Entries::iterator it);
  std::uint64_t put(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl);

  Shared& shared_;
  Entries entries_;
  std::set<std::pair<Timestamp, std::string>> expiries_;
  std::uint64_t version_ = 0;
};

class MemoryStore : public Store {
 public:
  explicit MemoryStore(StoreOptions options) : shared_(std::move(options)) {}
  EventLog& log() override { return log_; }
  Ledger& ledger() override { return ledger_; }
  KeyValue& kv() override { return kv_; }
  [[nodiscard]] Capabilities capabilities() const override;
  [[nodiscard]] std::string describe() const override { return "memory:"; }
  [[nodiscard]] std::vector<Figure> figures() const override;
  void backup(const std::string& to) override;

 private:
  mutable Shared shared_;
  MemoryLog log_{shared_};
  MemoryLedger ledger_{shared_};
  MemoryKeyValue kv_{shared_};
};

}  // namespace millrace::store::memory
