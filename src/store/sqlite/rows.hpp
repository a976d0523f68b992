// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Events and settings as they stand in columns.

#include <string>
#include <vector>

#include "millrace/event_log.hpp"
#include "millrace/ledger.hpp"
#include "store/retention.hpp"
#include "store/sqlite/database.hpp"

namespace millrace::store::sqlite {

/// The columns of an event, in the order every statement names them.
inline constexpr char kEventColumns[] =
    "id, source, type, subject, time, datacontenttype, dataschema, extensions, data";
inline constexpr int kEventColumnCount = 9;
// Of those, counted from the first:
inline constexpr int kTypeColumn = 2;
inline constexpr int kSubjectColumn = 3;
inline constexpr int kExtensionsColumn = 7;
inline constexpr int kDataColumn = 8;

/// `{"name":"text","flag":true,"number":5}`; empty when there are none.
std::string encode_extensions(const std::vector<Extension>& extensions);
/// \throws Error{corrupt}
std::vector<Extension> decode_extensions(std::string_view json);

/// The order key (`partitionkey`, else `subject`; empty = none) of the event whose columns begin at `first`.
std::string order_key(const Statement::Rows& row, int first);
/// Whether the event whose columns begin at `first` was erased.
bool row_is_erased(const Statement::Rows& row, int first);

/// The event whose columns begin at `first`.
Event decode_event(const Statement::Rows& row, int first);

std::string encode_settings(const GroupSettings& settings);
GroupSettings decode_settings(std::string_view json);  ///< \throws Error{corrupt}
/// Empty: keeps everything.
std::string encode_retention(const RetentionRecord& record);
RetentionRecord decode_retention(std::string_view json);  ///< \throws Error{corrupt}
std::string encode_trim(const TrimResult& result);
TrimResult decode_trim(std::string_view json);  ///< \throws Error{corrupt}

std::string encode_types(const std::vector<std::string>& types);
std::vector<std::string> decode_types(std::string_view json);  ///< \throws Error{corrupt}

}  // namespace millrace::store::sqlite
