// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <thread>

#include "millrace/ledger.hpp"
#include "store/ledger/history.hpp"
#include "store/redis/ledger_group.hpp"
#include "store/redis/sessions.hpp"

namespace millrace::store::redis {

class AheadOfCursor;

struct LedgerOptions {
  std::chrono::seconds history{7 * 24 * 3600};
  ForeignMapping mapping = {};
  bool keeps_house = true;  ///< on a thread of its own
  /// What a foreign consumer holds is handed out again when it has not been touched for so long.
  Milliseconds foreign_idle{30'000};
  bool caches = true;  ///< false: a group is read anew for every call (for tests)
};

/// The groups of one Redis. Every process decides by ledger::GroupState over the same rows; what it decided is written
/// by one script, if nobody else wrote meanwhile (docs/adr/0010-redis-streams.md).
class RedisLedger final : public Ledger {
 public:
  RedisLedger(Client& client, LedgerOptions options);
  ~RedisLedger() override;

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

  /// Makes a group that was lost with the store, at the beginning of what is there now, whatever its start was. False
  /// when it is there already: its consumers were faster.
  bool make_again(const GroupInfo& info);

  /// Removes groups nobody has used for their `expires`, sessions that ended and history kept long enough, a bounded
  /// part of each; looks after what foreign consumers hold.
  void keep_house();

  struct Figures {
    std::uint64_t commits = 0;
    std::uint64_t lost_races = 0;       ///< commits that others were faster than, and that were decided anew
    std::uint64_t loads = 0;            ///< times a group's rows were read
    std::uint64_t vanished_groups = 0;  ///< groups that were there and are gone though we did not delete them
    std::uint64_t native_failures = 0;  ///< commands on native groups that failed: what they show may be behind
    std::uint64_t foreign_taken = 0;    ///< events seen to be read by foreign consumers
    std::uint64_t set_aside = 0;        ///< entries that are no events, passed over
    std::uint64_t lost_events = 0;      ///< removed by others before a group got them; for each such group
  };
  [[nodiscard]] Figures figures() const;

 private:
  struct StreamFacts {
    bool exists = false;  ///< it was created
    Ordinal trimmed_to = 0;
    Ordinal last = 0;  ///< newest entry that ever was
  };
  /// How much of a stream stands after a position.
  struct Ahead {
    std::uint64_t events = 0;
    std::uint64_t added = 0;             ///< entries ever added to the stream
    std::optional<Position> first = {};  ///< the first of them
    std::string group_version = {};      ///< as of then
    std::uint64_t dead = 0;              ///< dead letters as of then
    Ordinal read_to = 0;                 ///< up to where the native group was read
  };
  using Events = std::map<Ordinal, std::optional<Entry>>;

  // ledger_turn.cpp: one call on one group
  template <class Decision>
  auto decide(const GroupName& name, std::string_view operation, Decision decision);
  template <class Decision>
  auto look(const GroupName& name, std::string_view operation, Decision decision);
  std::shared_ptr<Slot> slot_of(const GroupName& name);
  Turn begin(Slot& slot, const GroupName& name, std::string_view operation, const Attempt& attempt);
  Commit::Answer write(Turn& turn, bool decided);
  bool finish(Turn& turn, std::string_view operation);  ///< false: decide again
  void look_at_ends(Turn& turn);
  [[nodiscard]] ledger::SessionEnd session_end() const;
  void make_current(Turn& turn);
  [[noreturn]] void vanished(Slot& slot, const GroupName& name, std::string_view operation);

  // ledger_load.cpp, ledger_save.cpp: between rows and state
  void load(Slot& slot, const GroupName& name, std::string_view operation);
  void recall_open_events(Slot& slot, const Group& group, const ledger::Snapshot& snapshot);
  void save(Turn& turn, ledger::Changes& changes);
  void save_fields(Turn& turn);
  void save_rows(Turn& turn, const ledger::Changes& changes);
  void show_natively(Turn& turn, const ledger::Changes& changes);
  std::uint64_t take_id(Slot& slot, const Group& group);

  // ledger_stream.cpp: the stream beside the group
  StreamFacts stream_facts(const StreamName& stream);
  Ordinal cursor_of(const StreamFacts& facts, const Start& start);
  bool name_is_free(const GroupName& name, const StreamName& stream);
  Ahead ahead_of(const Group& group, Ordinal cursor);
  GroupInfo describe(const Group& group, const Ahead& ahead, Timestamp now);
  /// The events at these positions of the group, open or dead; nullopt where there is none any more.
  Events load_events(const Group& group, const std::set<Ordinal>& ordinals, const std::set<Ordinal>& copied);

  bool create(const GroupName& name, const GroupIdentity& identity, Ordinal cursor, bool paused);
  void apply(Turn& turn, const GroupChange& change);
  void change_settings(Turn& turn, const GroupSettings& settings);

  // claim.cpp
  void read_ahead(const GroupName& name, const StreamName& stream, Ordinal from, std::size_t count);
  ClaimAnswer hand_out(Turn& turn, const ClaimRequest& request, AheadOfCursor& ahead);

  PendingEvent pending_event(const Turn& turn, Ordinal ordinal, const ledger::Item& item,
                             const std::optional<Entry>& entry) const;

  // dead_letters.cpp
  struct Dead {
    Ordinal ordinal = 0;
    DeadRow row = {};
    StoredEvent stored = {};
  };
  void for_each_dead(const GroupName& name, const StreamName& stream, const DeadLetterQuery& query,
                     const std::function<bool(Dead&&)>& take);
  std::optional<Dead> dead_letter(const Group& group, Ordinal ordinal);

  // history.cpp
  void record_settled(Turn& turn, const std::vector<ledger::Changes::Settled>& settled);
  ledger::SettledBy settled_by(const Turn& turn, Ordinal ordinal, Ordinal trimmed_to);
  void forget_history(const GroupName& name);

  ReplayStatus replay_one(Turn& turn, std::string_view replayid, Ordinal ordinal, const std::optional<Entry>& entry);

  // ledger_house.cpp
  void run_house();
  std::map<std::string, std::string> group_streams();
  bool drop_if_unused(const GroupName& name, const StreamName& stream);
  void remove_group(Commit& commit, const GroupName& name, const StreamName& stream) const;
  void end_sessions();
  void forget_trimmed(const GroupName& name, const StreamName& stream);

  // ledger_foreign.cpp
  void look_at_foreigners(Slot& slot, std::string_view operation);
  bool take_in_foreigners(Slot& slot, bool impatient);
  [[nodiscard]] bool foreigners_due(const Slot& slot, Timestamp now) const;

  Client& client_;
  const LedgerOptions options_;
  const Keys keys_;
  Sessions sessions_;

  std::mutex slots_mutex_;
  std::map<GroupName, std::shared_ptr<Slot>> slots_;

  struct Counts {
    std::atomic<std::uint64_t> commits{0}, lost_races{0}, loads{0}, vanished_groups{0}, native_failures{0},
        foreign_taken{0}, set_aside{0}, lost_events{0};
  };
  mutable Counts counts_;

  std::mutex house_mutex_;
  std::condition_variable house_ends_;
  bool ending_ = false;
  std::thread house_;
};

/// How often a group's last_seen is written while nothing else of it changes.
Timestamp::duration seen_every(const GroupSettings& settings);

/// Calls `decision(turn)` until what it decided is written, or was seen to change nothing. The answer is of the last.
template <class Decision>
auto RedisLedger::decide(const GroupName& name, std::string_view operation, Decision decision) {
  const std::shared_ptr<Slot> slot = slot_of(name);
  const std::lock_guard lock(slot->mutex);
  for (Attempt attempt;;) {
    const std::optional<Error> doubt = attempt.doubt;
    try {
      Turn turn = begin(*slot, name, operation, attempt);
      auto answer = decision(turn);
      if (finish(turn, operation)) return answer;
      if (doubt) throw Error(*doubt);  // what was not there to be seen may have come late
      attempt = std::move(turn.attempt);
    } catch (...) {
      slot->drop();  // what was decided and not written did not happen
      if (doubt) throw Error(*doubt);
      throw;
    }
    slot->drop();
  }
}

/// The same of a question. What it notes on the way (leases that ran out) is nothing that who asks has to know of.
template <class Decision>
auto RedisLedger::look(const GroupName& name, std::string_view operation, Decision decision) {
  try {
    return decide(name, operation, decision);
  } catch (const Error& error) {
    if (error.code() != Errc::outcome_unknown) throw;
    throw Error(Errc::unavailable, error.operation(), error.object(), "no answer came; retry", error.native());
  }
}

}  // namespace millrace::store::redis
