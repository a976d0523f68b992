// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Positions on Redis: outside the entry's id (milliseconds, sequence number), inside the core one number of 64 bits in
/// the same order: 41 bits of milliseconds (until 2039), 22 of sequence number. All functions are pure.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "millrace/types.hpp"
#include "store/ledger/range_set.hpp"

namespace millrace::store::redis {

using ledger::Ordinal;

inline constexpr unsigned kSequenceBits = 22;
/// The first of each that does not fit.
inline constexpr std::uint64_t kSequenceEnd = 1ULL << kSequenceBits;
inline constexpr std::uint64_t kMillisecondsEnd = 1ULL << 41;
/// The last position that fits.
inline constexpr Position kLastPosition{kMillisecondsEnd - 1, kSequenceEnd - 1};

/// Whether `pack` takes it. An entry beyond that is another producer's, and set aside.
constexpr bool fits(Position position) {
  return position.high < kMillisecondsEnd && position.low < kSequenceEnd;
}

/// \throws Error{invalid_argument} for a position that does not fit: it is none of Millrace's
Ordinal pack(Position position, std::string_view operation = "position");

constexpr Position unpack(Ordinal ordinal) {
  return {ordinal >> kSequenceBits, ordinal & (kSequenceEnd - 1)};
}

/// As Redis writes it, "ms-seq", also when `ms` is 0.
std::string id_of(Position position);
/// Only what `id_of` writes; nullopt otherwise.
std::optional<Position> parse_id(std::string_view text);
/// \throws Error{corrupt}: `what` should have held one
Position position_of(std::string_view text, std::string_view what);

/// The next position in Redis' own order (which goes beyond what fits).
constexpr Position after(Position position) {
  return position.low == UINT64_MAX ? Position{position.high + 1, 0} : Position{position.high, position.low + 1};
}

/// The last that fits up to `position`, which may not.
constexpr Ordinal last_up_to(Position position) {
  if (position.high >= kMillisecondsEnd) position = kLastPosition;
  return position.high << kSequenceBits | (position.low < kSequenceEnd ? position.low : kSequenceEnd - 1);
}
/// After which, in Redis' own order, nothing of this millisecond stands that fits.
constexpr Position behind(Ordinal ordinal) {
  const Position position = unpack(ordinal);
  return position.low == kSequenceEnd - 1 ? Position{position.high, UINT64_MAX} : position;
}
/// The one before it in Redis' own order.
constexpr Position before(Ordinal ordinal) {
  const Position position = unpack(ordinal);
  return position.low > 0 ? Position{position.high, position.low - 1} : Position{position.high - 1, UINT64_MAX};
}

/// When the entry was stored: the milliseconds of its id.
constexpr Timestamp time_of(Position position) {
  constexpr std::uint64_t kMost = 1ULL << 52;  // beyond any date; only a foreign id can be
  return Timestamp{std::chrono::milliseconds{static_cast<std::int64_t>(position.high < kMost ? position.high : kMost)}};
}

/// The last position (existing or not) that was stored before `time`.
Position last_before(Timestamp time);

}  // namespace millrace::store::redis
