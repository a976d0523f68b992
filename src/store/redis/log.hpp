// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The streams of a Redis server: what docs/redis-format.md says stands there, and how it is read and written.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "millrace/event_log.hpp"
#include "store/redis/append.hpp"
#include "store/redis/client.hpp"
#include "store/redis/entry.hpp"
#include "store/redis/keys.hpp"
#include "store/redis/log_rows.hpp"
#include "store/retention.hpp"

namespace millrace::store::redis {

/// Thread-safe. Several processes may work on the same streams.
///
/// Neighbours on the same server are expected: what they add is mapped or set aside, what they delete is told as a gap,
/// and a stream that this process knew and that is gone is made again and logged.
///
/// **Erasing.** Redis' entries cannot be changed: an erased event's entry is deleted and its attributes stand beside
/// the stream, where reading puts them in their place. No command shows the data any more. But Redis frees an entry's
/// bytes only with the node of some hundred entries it stands in, so they stay in its memory, and in snapshots and
/// append-only files written from it, until the events around are trimmed too; and in older files until those are
/// rewritten
/// (`BGREWRITEAOF`, `BGSAVE`). Nothing is started for that: it costs all of the server, and is its owner's to decide.
class RedisLog final : public EventLog, private RetentionHost {
 public:
  struct Options {
    std::chrono::seconds dedup_keep{24 * 3600};
    ForeignMapping mapping = {};
    /// Who wakes watchers.
    std::function<std::unique_ptr<Watch>(std::function<void()>)> watch = {};
  };
  /// \throws Error{invalid_argument} for a mapping that means nothing
  RedisLog(Client& client, Options options);
  ~RedisLog() override;  ///< stop()

  /// From now on streams are trimmed by their retention; of several processes that do, one at a time per stream.
  void start_retention() { schedule_.start(); }
  [[nodiscard]] RetentionSchedule::Figures retention_figures() const { return schedule_.figures(); }
  /// Ends the schedule, then the appends. Idempotent.
  void stop();

  /// Makes those that are not there. For a new store, and for a server that came back empty.
  void ensure_streams(std::span<const StreamName> names);
  [[nodiscard]] const ForeignMapping& mapping() const { return options_.mapping; }

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
  /// See above for what Redis keeps of the bytes. One id takes a few round trips; a dead letter whose id is forgotten
  /// is searched for.
  std::optional<Position> erase(const StreamName& stream, std::string_view source, std::string_view id) override;
  std::unique_ptr<Watch> watch(std::function<void()> changed) override;

  /// Entries of a stream that were no events, ever, as far as somebody read them.
  std::uint64_t set_aside(const StreamName& stream);

 private:
  struct TrimJob;

  // All throw Error{unknown_stream} with the operation's name, after a lost stream was made again.
  StreamRow row_of(const StreamName& name, std::string_view operation);
  std::vector<Reply> with_row(const StreamName& name, std::string_view operation, std::vector<Command> commands,
                              StreamRow& row);
  bool make_again(const StreamName& name);

  std::vector<StreamInfo> infos(const std::vector<StreamName>& names);
  Entries entries_after(const StreamName& name, Position after, std::size_t count);
  void note_asides(const StreamName& name, const std::vector<Entry>& entries);
  /// The newest entry at or before a position.
  std::optional<Entry> newest_up_to(const StreamName& name, Position position);
  std::optional<Position> gap_after(const StreamName& name, const StreamRow& row, Position after,
                                    const std::optional<Entry>& before, const Entry* first);
  std::vector<Retained> retained() override;
  TrimResult apply_retention(const StreamName& stream, const std::stop_token& stop) override;
  TrimResult run_trim(TrimJob& job, const std::stop_token& stop);
  void dry_run(TrimJob& job, const StreamRow& row);
  bool trim_slice(TrimJob& job);
  [[nodiscard]] Reply trim_script(const TrimJob& job, const char* mode, std::vector<std::string> events);
  void tell_kept(TrimJob& job, const Reply& answer);
  [[nodiscard]] Position wanted_end(const TrimJob& job, const StreamRow& row, const std::stop_token& stop);
  [[nodiscard]] Position end_of_oldest(const StreamName& name, const StreamRow& row, std::uint64_t count,
                                       const std::stop_token& stop);
  [[nodiscard]] Position end_of_bytes(const StreamName& name, const StreamRow& row, std::uint64_t excess,
                                      const std::stop_token& stop);
  /// How many events stand in the log up to a position.
  [[nodiscard]] std::uint64_t count_up_to(const StreamName& name, Position position);

  [[nodiscard]] std::optional<Position> position_of_copy(const StreamName& name, std::string_view source,
                                                         std::string_view id);
  [[nodiscard]] std::optional<Entry> copy_at(const StreamName& name, Position position);
  [[nodiscard]] std::vector<GroupName> groups_of(const StreamName& name);

  Client& client_;
  const Options options_;
  const Keys keys_;
  const std::string self_;  ///< tells this process from others
  Appender appender_;
  RetentionSchedule schedule_;
};

}  // namespace millrace::store::redis
