// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "millrace/event_log.hpp"
#include "store/ledger/range_set.hpp"

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
  [[nodiscard]] SharedEvent find(std::string_view source, std::string_view id) const;
  /// The last ordinal stored before `time`; the one before the oldest kept when there is none.
  [[nodiscard]] Ordinal before(Timestamp time) const;
  [[nodiscard]] StreamInfo info() const;

  /// The last ordinal `request` asks to remove.
  [[nodiscard]] Ordinal trim_target(const TrimRequest& request, Timestamp now) const;
  std::uint64_t trim(Ordinal up_to, Timestamp now, std::chrono::seconds dedup_keep);

 private:
  struct Known {
    Ordinal ordinal;
    std::uint64_t fingerprint;  ///< of type and data: what is left to compare once the event is trimmed
  };
  struct Forget {
    Timestamp at;
    std::string key;
  };
  void forget_old_ids(Timestamp now);

  StreamName name_;
  Timestamp created_at_;
  Timestamp last_stored_{};
  Ordinal trimmed_to_ = 0;
  std::deque<SharedEvent> events_;  ///< events_[i] stands at trimmed_to_ + 1 + i
  std::uint64_t bytes_ = 0;
  std::unordered_map<std::string, Known> known_;
  std::deque<Forget> forget_;  ///< ids of trimmed events, oldest first
};

}  // namespace millrace::store::memory
