// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "millrace/ledger.hpp"
#include "store/ledger/history.hpp"
#include "store/sqlite/log_scan.hpp"
#include "store/sqlite/readers.hpp"
#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {

/// The groups of one file. What is decided is decided by ledger::GroupState in the writer.
class SqliteLedger final : public Ledger {
 public:
  SqliteLedger(Writer& writer, Readers& readers) : writer_(writer), readers_(readers), ahead_(readers) {}

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
  Writer& writer_;
  Readers& readers_;
  ReadAheads ahead_;
};

/// What a claim hands out, in the writer's transaction. Uses up `ahead`, and notes for the next one where the group
/// stands.
ClaimAnswer hand_out(State& state, const GroupName& name, const ClaimRequest& request, ReadAhead& ahead,
                     ReadAheads& standings);

/// The group as others see it.
GroupInfo describe(State& state, Group& group);

/// One open event of it as others see it.
PendingEvent pending_event(State& state, Group& group, Ordinal ordinal, const ledger::Item& item);

/// How many events of the log stand after one position and up to another.
std::uint64_t events_between(const StreamState& stream, Ordinal after, Ordinal to);

/// Writes the history of what was settled.
void record_settled(State& state, Group& group, const std::vector<ledger::Changes::Settled>& settled);
/// What it says of one settled event.
ledger::SettledBy settled_by(State& state, const Group& group, Ordinal ordinal);
/// Deletes what is older than it is to be kept, a bounded number of rows.
void forget_history(State& state);

/// Where a group that starts so has its cursor.
Ordinal cursor_of(State& state, const StreamState& stream, const Start& start);

/// Removes groups nobody has used for their `expires`, sessions and keys that ended, and ids and history kept long
/// enough.
void keep_house(State& state, bool owner);

}  // namespace millrace::store::sqlite
