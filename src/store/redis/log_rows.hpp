// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How a stream's record stands in its hash (`Keys::stream`), as text. All functions are pure and throw Error{corrupt}.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "millrace/event_log.hpp"
#include "store/redis/reply.hpp"
#include "store/retention.hpp"

namespace millrace::store::redis {

/// The hash itself.
struct StreamRow {
  Timestamp created_at = {};
  Position born = {};  ///< positions up to here are of an earlier life of the stream
  std::uint64_t bytes = 0;
  Position last = {};  ///< newest that we ever stored
  Position trimmed_to = {};
  std::uint64_t trimmed_count = 0;  ///< `entries-added` as of `trimmed_to`
  std::string days = {};            ///< of which there are hashes of trimmed ids
  RetentionRecord retention = {};
  std::optional<Timestamp> last_trim_at = {};
  TrimResult last_trim = {};
  std::uint64_t aside = 0;
};
/// \param hash HGETALL's answer; nullopt when it is empty: there is no such stream
std::optional<StreamRow> decode_stream(const Reply& hash);

/// Of `XINFO STREAM`; a missing key is an empty stream.
struct NativeStream {
  std::uint64_t length = 0;
  std::uint64_t added = 0;
  Position last = {};  ///< last-generated-id
  Position first = {};
};
NativeStream decode_native(const Reply& info);

}  // namespace millrace::store::redis
