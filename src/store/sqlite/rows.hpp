// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Events as they stand in columns. (Settings and extensions: store/records.hpp.)

#include <string>
#include <vector>

#include "millrace/event.hpp"
#include "store/sqlite/database.hpp"

namespace millrace::store::sqlite {

/// The columns of an event, in the order every statement names them.
inline constexpr char kEventColumns[] =
    "id, source, type, subject, time, datacontenttype, dataschema, extensions, data";
inline constexpr int kEventColumnCount = 9;
// Of those, counted from the first:
inline constexpr int kSourceColumn = 1;
inline constexpr int kTypeColumn = 2;
inline constexpr int kSubjectColumn = 3;
inline constexpr int kExtensionsColumn = 7;
inline constexpr int kDataColumn = 8;

/// The order key (`partitionkey`, else `subject`; empty = none) of the event whose columns begin at `first`.
std::string order_key(const Statement::Rows& row, int first);
/// Whether the event whose columns begin at `first` was erased.
bool row_is_erased(const Statement::Rows& row, int first);

/// The event whose columns begin at `first`.
Event decode_event(const Statement::Rows& row, int first);

}  // namespace millrace::store::sqlite
