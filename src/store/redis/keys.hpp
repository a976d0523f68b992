// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The names of everything Millrace keeps in Redis, in one place; docs/redis-format.md says what stands under them.

#include <cstdint>
#include <string>
#include <string_view>

#include "millrace/types.hpp"

namespace millrace::store::redis {

class Keys {
 public:
  /// \param prefix stands before every key; empty by default
  explicit Keys(std::string prefix = {}) : prefix_(std::move(prefix)) {}

  /// The Redis stream itself: "events:all:stream".
  [[nodiscard]] std::string log(const StreamName& stream) const { return prefix_ + stream.str() + ":all:stream"; }

  [[nodiscard]] std::string meta() const { return prefix_ + "millrace:meta"; }
  [[nodiscard]] std::string streams() const { return prefix_ + "millrace:streams"; }
  [[nodiscard]] std::string stream(const StreamName& stream) const { return of_stream(stream, {}); }
  [[nodiscard]] std::string ids(const StreamName& stream) const { return of_stream(stream, ":ids"); }
  [[nodiscard]] std::string trimmed(const StreamName& stream) const { return of_stream(stream, ":trimmed"); }
  [[nodiscard]] std::string erased(const StreamName& stream) const { return of_stream(stream, ":erased"); }
  [[nodiscard]] std::string aside(const StreamName& stream) const { return of_stream(stream, ":aside"); }

  /// Who trims it by its retention now.
  [[nodiscard]] std::string trimmer(const StreamName& stream) const { return of_stream(stream, ":trimmer"); }

  [[nodiscard]] std::string groups() const { return prefix_ + "millrace:groups"; }
  [[nodiscard]] std::string group(const GroupName& group) const { return of_group(group, {}); }
  [[nodiscard]] std::string claims(const GroupName& group) const { return of_group(group, ":claims"); }
  [[nodiscard]] std::string items(const GroupName& group) const { return of_group(group, ":items"); }
  [[nodiscard]] std::string events(const GroupName& group) const { return of_group(group, ":events"); }
  [[nodiscard]] std::string dead(const GroupName& group) const { return of_group(group, ":dead"); }
  [[nodiscard]] std::string dead_order(const GroupName& group) const { return of_group(group, ":dead:order"); }
  [[nodiscard]] std::string history(const GroupName& group) const { return of_group(group, ":history"); }
  /// Of several processes, the one whose commit is let go first now.
  [[nodiscard]] std::string turn(const GroupName& group) const { return of_group(group, ":turn"); }
  [[nodiscard]] std::string sessions() const { return prefix_ + "millrace:sessions"; }

  [[nodiscard]] std::string kv(std::string_view key) const { return prefix_ + "millrace:kv:" + std::string(key); }
  /// All of those keys, in byte order. (No key is empty.)
  [[nodiscard]] std::string kv_index() const { return prefix_ + "millrace:kv"; }

  /// A lease of the process that cleans up.
  [[nodiscard]] std::string house() const { return prefix_ + "millrace:house"; }

  [[nodiscard]] const std::string& prefix() const { return prefix_; }

 private:
  [[nodiscard]] std::string of_stream(const StreamName& stream, std::string_view what) const;
  [[nodiscard]] std::string of_group(const GroupName& group, std::string_view what) const;

  std::string prefix_;
};

/// Fields of the hash `stream`. All are text; positions as "ms-seq".
namespace stream_field {
inline constexpr std::string_view kCreatedAt = "created_at";  ///< microseconds
inline constexpr std::string_view kBorn = "born";             ///< positions up to here are of an earlier life
inline constexpr std::string_view kBytes = "bytes";           ///< of our own entries
inline constexpr std::string_view kLast = "last";             ///< newest we ever stored
inline constexpr std::string_view kTrimmedTo = "trimmed_to";
inline constexpr std::string_view kTrimmedCount = "trimmed_count";  ///< entries-added as of `trimmed_to`
inline constexpr std::string_view kDays = "days";                   ///< of which a hash of trimmed ids exists
inline constexpr std::string_view kRetention = "retention";
inline constexpr std::string_view kLastTrimAt = "last_trim_at";
inline constexpr std::string_view kLastTrim = "last_trim";
inline constexpr std::string_view kAsideCount = "aside_count";  ///< entries that are no events, ever
}  // namespace stream_field

/// Fields of the hash `group` that trimming reads and the group's commit script keeps.
namespace group_field {
inline constexpr std::string_view kStream = "stream";
inline constexpr std::string_view kVersion = "version";
inline constexpr std::string_view kCursor = "cursor";           ///< position
inline constexpr std::string_view kOldestOpen = "oldest_open";  ///< position; absent or "0-0" when nothing is open
inline constexpr std::string_view kLastSeen = "last_seen";      ///< microseconds
inline constexpr std::string_view kExpires = "expires";         ///< seconds; absent or empty = never
/// Written by a forced trim together with a new `version`: everything up to here is gone, whatever was open.
inline constexpr std::string_view kForgetUpTo = "forget_up_to";
}  // namespace group_field

}  // namespace millrace::store::redis
