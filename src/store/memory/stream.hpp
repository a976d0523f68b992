// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/event_log.hpp"
#include "store/ledger/range_set.hpp"
#include "store/retention.hpp"

namespace millrace::store::memory {

using ledger::Ordinal;
using SharedEvent = std::shared_ptr<const StoredEvent>;

/// One stream: events at consecutive ordinals, and the ids it remembers. Not thread-safe. Events are shared and
/// constant, so that readers copy them after they let go of the store's lock.
class Stream {
 public:
  Stream(StreamName name, Timestamp created_at) : name_(std::move(name)), created_at_(created_at) {}

  AppendResult append(Event event, Timestamp now);

  [[nodiscard]] const StreamName& name() const { return name_; }
  [[nodiscard]] Ordinal last() const { return trimmed_to_ + events_.size(); }
  [[nodiscard]] Ordinal trimmed_to() const { return trimmed_to_; }
  [[nodiscard]] SharedEvent at(Ordinal ordinal) const;  ///< nullptr when it is not (or no longer) there
  /// A FoundEvent before its bytes are copied: the event, or what is left of one that was trimmed.
  struct Found {
    SharedEvent event;  ///< nullptr: trimmed
    Ordinal ordinal = 0;
    std::string source;
    std::optional<Timestamp> trimmed_at;
  };
  /// By position, at most `limit`.
  std::vector<Found> find(std::string_view id, std::optional<std::string_view> source, Timestamp now,
                          std::size_t limit);
  /// The last ordinal stored before `time`; the one before the oldest kept when there is none.
  [[nodiscard]] Ordinal before(Timestamp time) const;
  [[nodiscard]] StreamInfo info() const;

  /// Where the event stands, without its data from now on; nullopt when it is not (or no longer) there.
  std::optional<Ordinal> erase(std::string_view source, std::string_view id, Timestamp now);

  /// A copy elsewhere was erased: whatever is appended under this id, for as long as it is known, is the same again.
  void note_erased(std::string_view source, std::string_view id);

  void set_retention(const Retention& retention);
  [[nodiscard]] const RetentionRecord& retention() const { return retention_; }
  /// A trim is through; `applied`: the retention it was made by, if it was.
  void note_trim(const TrimResult& result, Timestamp now, const Retention* applied);

  /// The last ordinal `request` asks to remove.
  [[nodiscard]] Ordinal trim_target(const TrimRequest& request, Timestamp now) const;
  /// Removes up to there. How many it were.
  std::uint64_t trim(Ordinal up_to, Timestamp now, std::chrono::seconds dedup_keep);

 private:
  using Identity = std::pair<std::string, std::string>;  ///< id, source: all of one id stand together
  struct Known {
    Ordinal ordinal;
    std::uint64_t fingerprint;  ///< of type and data: what is left to compare once the event is trimmed
    std::optional<Timestamp> trimmed_at = {};
  };
  struct Forget {
    Timestamp at;
    Identity identity;
  };
  void forget_old_ids(Timestamp now);

  StreamName name_;
  Timestamp created_at_;
  Timestamp last_stored_{};
  Ordinal trimmed_to_ = 0;
  std::deque<SharedEvent> events_;  ///< events_[i] stands at trimmed_to_ + 1 + i
  std::uint64_t bytes_ = 0;
  std::map<Identity, Known> known_;
  std::deque<Forget> forget_;  ///< ids of trimmed events, oldest first
  RetentionRecord retention_;
  std::optional<Timestamp> last_trim_at_;
  TrimResult last_trim_;
};

}  // namespace millrace::store::memory
