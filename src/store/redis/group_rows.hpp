// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the parts of a group stand in Redis, as text that people can read: `name=value` separated by spaces, with free
/// text at the end of a row. Positions are "ms-seq". All functions are pure. Filters and settings are JSON
/// (store/records.hpp). Of a group `g` there are
///
///     millrace:group:g              hash: what it is, how far it has come, what it has counted; `version`, and the
///                                    name of the `commit` that made it
///     millrace:group:g:claims       hash: number of the claim → encode_claim
///     millrace:group:g:items        hash: position → encode_item, of what is neither new nor just claimed or released
///     millrace:group:g:events       hash: position → copy of the event, of what waits for a retry, is replayed or dead
///     millrace:group:g:dead         hash: position → encode_dead; those that are shown stand in …:dead:order
///     millrace:group:g:history      sorted set of encode_history; …:age lists when each was written
///     millrace:sessions             hash: session → decode_session's row; …:<id>:groups names the groups it used

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/common.hpp"
#include "store/ledger/group_state.hpp"
#include "store/ledger/history.hpp"
#include "store/redis/entry.hpp"
#include "store/redis/position.hpp"

namespace millrace::store::redis {

/// Positions in order: "ms-seq" or "ms-first..last", and of the milliseconds after the first only how much later than
/// the one before: "1526919030474-0..54,+1-3".
std::string encode_ranges(const ledger::RangeSet& ranges);
ledger::RangeSet decode_ranges(std::string_view text);  ///< \throws Error{corrupt}, as all of these

std::string encode_claim(const ledger::Claim& claim);
ledger::Claim decode_claim(std::string_view row);

std::string encode_item(const ledger::Item& item);
ledger::Item decode_item(std::string_view row);

/// What a dead letter's row says; its event is among the copies.
struct DeadRow {
  Timestamp died_at = {};
  bool redriven = false;  ///< it is open again and not shown
  std::uint32_t attempts = 0, failures = 0, crashes = 0;
  std::string reason = {};
};
std::string encode_dead(const DeadRow& row);
DeadRow decode_dead(std::string_view row);

struct SessionRow {
  std::string text = {};  ///< as it stands there
  Timestamp until = {};
  Milliseconds lease{0};
  std::string consumer = {};
};
SessionRow decode_session(std::string_view row);

/// A member of the set of dead letters, which is in order of their bytes: "0001526919030474-0000055".
std::string encode_order(Ordinal ordinal);
Ordinal decode_order(std::string_view text);

/// The history is a sorted set whose members begin with what they are found by:
///
///     fresh <pass> <first> <claim> last=…    the range a claim took from the cursor
///     again <first> <claim> last=…           what was handed out again, of one block
///
/// with numbers of fixed width, so that the order of bytes is theirs.
struct HistoryMember {
  bool fresh = false;
  std::uint64_t pass = 0;  ///< of fresh
  Ordinal first = 0, last = 0;
  ledger::HistoryRow row = {};
};
std::string encode_history(const HistoryMember& member);
HistoryMember decode_history(std::string_view text);
/// What members of a pass begin with that start at or before `first` end before.
std::string fresh_prefix(std::uint64_t pass, Ordinal first);
std::string again_prefix(Ordinal first);
/// What it is found by, without the rest.
std::string_view history_key(std::string_view member);

/// A copy of an event, as the commit script makes them (netstrings of the entry's id, field, value …) or erasing
/// leaves them (its shell).
Entry decode_copy(std::string_view text, const std::string& log_key, const ForeignMapping& mapping);

/// Microseconds, as text.
std::string encode_time(Timestamp time);
Timestamp decode_time(std::string_view text);
std::uint64_t decode_number(std::string_view text, std::string_view what);

}  // namespace millrace::store::redis
