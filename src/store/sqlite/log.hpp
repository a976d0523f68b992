// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "millrace/event_log.hpp"
#include "store/retention.hpp"
#include "store/sqlite/readers.hpp"
#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {

/// The streams of one file: appends and trims through the writer, reads beside it.
class SqliteLog final : public EventLog, private RetentionHost {
 public:
  SqliteLog(Writer& writer, Readers& readers, LockFile& lock, const StoreClock& clock, std::string path);
  /// For the owner of the store: from now on streams are trimmed by their retention.
  void start_retention() { schedule_.start(); }
  void stop_retention() { schedule_.stop(); }
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
  struct TrimJob;

  std::vector<StreamInfo> infos(Connection& connection, const StreamName* only) const;
  [[nodiscard]] Durability level_of(std::int64_t stream_id, ledger::Ordinal position) const;
  std::vector<Retained> retained() override;
  TrimResult apply_retention(const StreamName& stream, const std::stop_token& stop) override;
  TrimResult run_trim(TrimJob& job, const std::stop_token& stop);
  bool trim_step(State& state, TrimJob& job);
  ledger::Ordinal end_of_bytes(const StreamName& stream, std::uint64_t most, const std::stop_token& stop);
  void empty_write_ahead_log();

  Writer& writer_;
  Readers& readers_;
  LockFile& lock_;
  const StoreClock& clock_;
  std::string path_;
  std::mutex erasing_;
  RetentionSchedule schedule_;
};

/// What a reader needs to know of a stream.
struct StreamRow {
  std::int64_t id = 0;
  ledger::Ordinal head = 0;
  ledger::Ordinal trimmed_to = 0;
  std::uint64_t bytes = 0;
};
/// \throws Error{unknown_stream}
StreamRow stream_row(Connection& connection, const StreamName& name, std::string_view operation);

/// The last position of a stream's table whose event was stored before `time`; positions are searched by halves,
/// because stored_at never decreases. \param from, to the positions between which events stand.
ledger::Ordinal last_before(Connection& connection, std::int64_t stream_id, ledger::Ordinal from, ledger::Ordinal to,
                            Timestamp time);

}  // namespace millrace::store::sqlite
