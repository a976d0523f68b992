// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The log after a group's cursor, as the group's decisions want to see it: filtered, with order keys.
///
/// Reading and decoding rows is most of what a claim costs, and in the writer's turn it costs everybody. So the
/// caller reads ahead on its own thread, by a reader connection, from where the group stood last time; the writer uses
/// what still fits and reads only the rest.

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "millrace/ledger.hpp"
#include "store/ledger/group_state.hpp"
#include "store/sqlite/database.hpp"
#include "store/sqlite/readers.hpp"
#include "store/sqlite/state.hpp"

namespace millrace::store::sqlite {

/// An event that passes the filter, and what is decided by.
struct ScannedEvent {
  Ordinal ordinal = 0;
  ledger::KeyHash key = 0;
  std::size_t bytes = 0;
  std::optional<Timestamp> expires_at;
  Event event;
};

/// Reads rows `position, <event columns>` until one passes. Counts all of them in `scanned`, up to `budget`, and moves
/// `scanned_to` over them. nullopt at the end of the rows or the budget; which of the two tells `scanned < budget`.
std::optional<ScannedEvent> next_match(Statement::Rows& rows, const Judgement& judgement, std::size_t budget,
                                       std::size_t& scanned, Ordinal& scanned_to);

/// What was read ahead for one claim.
struct ReadAhead {
  std::shared_ptr<const Judgement> judgement;  ///< by which it was filtered
  Ordinal from = 0;                            ///< read after this position
  Ordinal scanned_to = 0;                      ///< up to and with this one
  std::size_t scanned = 0;
  std::deque<ScannedEvent> events;
  std::uint64_t erasures = 0;  ///< State::erasures then
};

/// Where the groups stood when they were last claimed from. Thread-safe.
class ReadAheads {
 public:
  explicit ReadAheads(Readers& readers) : readers_(readers) {}
  /// Nothing when the group was not claimed from yet.
  ReadAhead read(const GroupName& group, const ClaimRequest& request);
  /// In the writer's turn, after a claim.
  void note(const Group& group, std::int64_t stream_id);

 private:
  struct Standing {
    std::shared_ptr<const Judgement> judgement;
    std::int64_t stream_id = 0;
    Ordinal cursor = 0;
  };
  Readers& readers_;
  std::mutex mutex_;
  std::map<std::string, Standing> groups_;
};

/// The scan of one claim, in the writer's turn. Keeps the events it showed, because most of them are handed out.
class LogScan final : public ledger::FreshEvents {
 public:
  LogScan(State& state, const Group& group, std::size_t max_bytes, ReadAhead& ahead);

  std::optional<ledger::Candidate> next() override;
  [[nodiscard]] Ordinal scanned_to() const override { return scanned_to_; }
  [[nodiscard]] bool at_end() const { return at_end_; }

  /// The event shown as `ordinal`; asked for in ascending order. Those before it that nobody asked for are set aside.
  Event take(Ordinal ordinal, Group& group);
  /// Sets aside what is left.
  void finish(Group& group);

 private:
  ledger::Candidate show(ScannedEvent event);
  std::optional<ledger::Candidate> end();
  void set_aside_front(Group& group);

  StreamState& stream_;
  std::shared_ptr<const Judgement> judgement_;
  ReadAhead& ahead_;
  Timestamp now_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  std::size_t scanned_ = 0;
  Ordinal scanned_to_;
  bool at_end_ = false;
  std::optional<Statement::Rows> rows_;
  std::deque<ScannedEvent> shown_;
};

}  // namespace millrace::store::sqlite
