// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What every store decides in the same way, so that none decides it alone. All functions are pure and thread-safe.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/event_log.hpp"
#include "millrace/ledger.hpp"
#include "millrace/pattern.hpp"
#include "millrace/types.hpp"
#include "store/ledger/range_set.hpp"

namespace millrace::store {

/// What an event weighs against limits and in `StreamInfo::bytes`: its attributes and its data, in bytes.
std::size_t event_bytes(const Event& event);

/// Stable over versions and machines: stands in files. Tells "the same again" from "another event under this id".
std::uint64_t content_fingerprint(std::string_view type, std::optional<std::string_view> data);

/// What `content_fingerprint` would be for an erased event: whatever is appended under its id is the same again.
inline constexpr std::uint64_t kErasedFingerprint = 0;

/// Takes the data away and says since when (`erasedtime`).
void mark_erased(Event& event, Timestamp now);
bool is_erased(const Event& event);

/// Its `expirytime`; nullopt when absent or not a time.
std::optional<Timestamp> expires_at(const Event& event);

/// The part of a position an embedded store counts. \throws Error{invalid_argument} for one of another kind of store.
ledger::Ordinal ordinal_of(Position position, std::string_view operation);

/// What a group is, as recorded at its creation.
struct GroupIdentity {
  StreamName stream;
  Start start;
  std::vector<std::string> types;
  OrderRule order;
  GroupSettings settings;
};

/// \throws Error{unknown_group} when `spec` names no stream or no start; {invalid_argument} for a bad pattern or
/// setting.
GroupIdentity new_group(const GroupName& group, const GroupSpec& spec);

/// \throws Error{group_mismatch}, object = "stream", "start", "types" or "order", when `spec` names another one.
/// Settings may differ: they are replaced. {invalid_argument} when they are bad.
void check_group(const GroupName& group, const GroupSpec& spec, const GroupIdentity& recorded);

/// In which order the settlements of one call are taken: by position, those of one position as they were given.
std::vector<std::size_t> settling_order(std::span<const Settlement> settlements);

/// \throws Error{invalid_argument}
void check_types(const std::vector<std::string>& patterns);
void check_claim(const ClaimRequest& request);
void check_consumer(const std::string& consumer, Milliseconds lease);
void check_key(std::string_view key, std::string_view operation);
void check_ttl(std::optional<Milliseconds> ttl, std::string_view operation);

/// The first text after all that begin with `prefix`, in the order of bytes; empty when there is none.
std::string after_prefix(std::string_view prefix);

/// EventLog::find answers no more.
inline constexpr std::size_t kMostFound = 100;

/// Which events a read wants, by what they are.
class ReadFilter {
 public:
  explicit ReadFilter(const ReadQuery& query);
  [[nodiscard]] bool wants_all() const { return all_; }
  [[nodiscard]] bool matches(const Event& event) const;
  /// Before the event is decoded; `order_key` is asked for only when it matters, empty = none.
  [[nodiscard]] bool matches(std::string_view type, std::string_view source,
                             const std::function<std::string()>& order_key) const;

 private:
  bool all_;
  PatternList types_;
  PatternList sources_;
  std::set<std::string> keys_;
};

Error unknown_stream(std::string_view operation, const StreamName& stream);
Error stream_exists(const StreamName& stream);
Error unknown_group(std::string_view operation, const GroupName& group);

}  // namespace millrace::store
