// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace millrace::store::redis {

/// Which fields of a foreign entry mean what: for each, names in order of preference. The fields that are not used
/// become the event's data: a JSON object of strings.
struct ForeignMapping {
  /// Required. Logs often say `type` = "log" and what they are in `log_type`: the kind goes before the class.
  std::vector<std::string> type{"event_type", "log_type", "type"};
  std::vector<std::string> id{"id"};  ///< else the entry's id
  std::vector<std::string> source{};  ///< else "redis:<key of the stream>"
  std::vector<std::string> subject{};
  std::vector<std::string> time{"timestamp"};     ///< milliseconds since 1970, or RFC 3339
  std::vector<std::string> trace_id{"trace_id"};  ///< `traceparent` when it is one, else the extension `traceid`

  /// \throws Error{invalid_argument}: an empty name, no name for `type`, or one name for two things
  void validate() const;
};

}  // namespace millrace::store::redis
