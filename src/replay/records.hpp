// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the store keeps of a replay: its record as JSON, and how a record is written so that only one process goes on
/// with a replay.

#include <string>
#include <string_view>

#include "millrace/replay.hpp"

namespace millrace::replay {

/// The largest record that is taken: a query's lists are its only parts without a bound of their own.
inline constexpr std::size_t kMostRecordBytes = 64 << 10;

/// JSON, with the version.
std::string encode_record(const ReplayRecord& record);
/// The inverse; an absent version is 0. \throws Error{invalid_argument} naming the member: whatever is unknown, missing
/// or of the wrong shape
ReplayRecord decode_record(std::string_view json);

/// Writes the record if nobody else did since it was read, and answers its new version. Version 0 writes a new one.
/// \throws Error{already_exists}: the id is taken; {busy}: somebody else runs this replay now, or it was forgotten
std::uint64_t save_record(KeyValue& kv, const ReplayRecord& record);

}  // namespace millrace::replay
