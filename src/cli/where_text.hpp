// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where an event is, in words for a person at three in the morning. Pure.

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "millrace/types.hpp"

namespace millrace::cli {

/// "13:02:11Z" of the day of `now`, else with its date; what is no time comes back as it is.
std::string short_time(std::string_view rfc3339, Timestamp now);

/// What one entry of `groups` says, e.g. "claimed by worker-1 until 13:02:11Z (in 4.0s), attempt 2".
/// \param match the answer of `GET /v1/events` it stands in
std::string describe_group(const boost::json::value& group, const boost::json::value& match, Timestamp now);

/// One block: the event, then a line per group. Without a line break at the end.
std::string describe_match(const boost::json::value& match, Timestamp now);

}  // namespace millrace::cli
