// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Small values as every store that keeps them records them: JSON text in a column or a field. The form is part of each
/// store's format, so it changes only by members that may be missing. All functions are pure; those that decode throw
/// Error{corrupt}.

#include <string>
#include <string_view>
#include <vector>

#include "millrace/event_log.hpp"
#include "millrace/ledger.hpp"
#include "store/retention.hpp"

namespace millrace::store {

/// An event's extensions, where they have no fields of their own: {"name":"text","flag":true,"number":5}; empty when
/// there are none.
std::string encode_extensions(const std::vector<Extension>& extensions);
std::vector<Extension> decode_extensions(std::string_view json);

/// A group's filter: ["order.*","b"]
std::string encode_types(const std::vector<std::string>& types);
std::vector<std::string> decode_types(std::string_view json);

/// A group's settings: {"transient_backoff":{"first_ms":1,"max_ms":2},"max_age_s":…,…}, `expires_s` and
/// `max_dataversion` only when there are any.
std::string encode_settings(const GroupSettings& settings);
GroupSettings decode_settings(std::string_view json);

/// A stream's retention: {"interval_s":86400,"max_events":1000,…,"applied_at":microseconds}
std::string encode_retention(const RetentionRecord& record);
RetentionRecord decode_retention(std::string_view json);  ///< empty: keeps everything

/// How a store writes its positions: 42, or "1526919030474-55" where they have two parts.
enum class PositionForm { number, pair };

/// What a stream's last trim answered: {"removed":5,"trimmed_to":42,"kept":[{"group":"g","events":7}]}
std::string encode_trim(const TrimResult& result, PositionForm form);
TrimResult decode_trim(std::string_view json);  ///< in either form; empty: there was none

}  // namespace millrace::store
