// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Reading what a caller sent: query parameters and JSON members. Whatever is unknown, given twice or of the wrong type
/// is Error{invalid_argument} that names it: an option that is ignored is a lie.

#include <boost/json.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/message.hpp"
#include "millrace/ledger.hpp"

namespace millrace::daemon {

/// Splits at commas that stand outside `{}` and `[]`, where they belong to a pattern. Empty pieces are an error.
std::vector<std::string> split_list(std::string_view text, std::string_view name);

/// A range for numbers.
struct Range {
  std::uint64_t min = 0;
  std::uint64_t max = UINT64_MAX;
};

/// An RFC 3339 time. \throws Error{invalid_argument} naming `name`
Timestamp parse_time(std::string_view text, std::string_view name);

class Query {
 public:
  /// \throws for a parameter that is not among `known`
  Query(const std::vector<std::pair<std::string, std::string>>& pairs, std::span<const std::string_view> known);
  [[nodiscard]] std::optional<std::string> text(std::string_view name) const;
  [[nodiscard]] std::string required(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> list(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> texts(std::string_view name) const;  ///< each as it is, commas too
  [[nodiscard]] std::vector<Position> positions(std::string_view name) const;
  [[nodiscard]] std::optional<Timestamp> time(std::string_view name) const;
  [[nodiscard]] std::uint64_t number(std::string_view name, std::uint64_t otherwise, Range range) const;
  [[nodiscard]] bool boolean(std::string_view name) const;  ///< absent = false

 private:
  const std::vector<std::pair<std::string, std::string>>& pairs_;
};

class Members;
/// The member `max_dataversion`: a version, or nullopt when it is absent or null.
std::optional<std::int32_t> max_dataversion_of(const Members& body);

class Members {
 public:
  /// Parses a JSON object; no body at all is an empty one. \throws for a member that is not among `known`
  Members(std::string_view body, std::initializer_list<std::string_view> known);
  /// Whether it stands there, be it as null. All others read null as absent.
  [[nodiscard]] bool names(std::string_view name) const;
  [[nodiscard]] std::optional<std::string> text(std::string_view name) const;
  [[nodiscard]] std::string required(std::string_view name) const;
  [[nodiscard]] std::optional<std::vector<std::string>> texts(std::string_view name) const;
  [[nodiscard]] std::optional<std::uint64_t> number(std::string_view name, Range range) const;
  [[nodiscard]] std::optional<bool> boolean(std::string_view name) const;
  [[nodiscard]] std::optional<Timestamp> time(std::string_view name) const;

 private:
  [[nodiscard]] const boost::json::value* find(std::string_view name) const;  ///< nullptr when absent or null
  boost::json::object object_;
};

}  // namespace millrace::daemon
