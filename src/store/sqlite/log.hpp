// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "millrace/event_log.hpp"
#include "store/sqlite/readers.hpp"
#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {

/// The streams of one file: appends and trims through the writer, reads beside it.
class SqliteLog final : public EventLog {
 public:
  SqliteLog(Writer& writer, Readers& readers) : writer_(writer), readers_(readers) {}

  void create_stream(const StreamName& name) override;
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
  StreamInfo set_retention(const StreamName& stream, const Retention& retention) override;
  std::optional<Position> erase(const StreamName& stream, std::string_view source, std::string_view id) override;
  std::unique_ptr<Watch> watch(std::function<void()> changed) override;

 private:
  Writer& writer_;
  Readers& readers_;
};

/// The last position of a stream's table whose event was stored before `time`; positions are searched by halves,
/// because stored_at never decreases. \param from, to the positions between which events stand.
ledger::Ordinal last_before(Connection& connection, std::int64_t stream_id, ledger::Ordinal from, ledger::Ordinal to,
                            Timestamp time);

}  // namespace millrace::store::sqlite
