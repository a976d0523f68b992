// SPDX-License-Identifier: Apache-2.0
#include "daemon/params.hpp"

#include <algorithm>
#include <charconv>

#include "base/time.hpp"
#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

Error bad(std::string_view name, std::string message) {
  return {Errc::invalid_argument, "read request", std::string(name), std::move(message)};
}

std::string joined(std::span<const std::string_view> known) {
  std::string out;
  for (const std::string_view name : known) out += (out.empty() ? "" : ", ") + std::string(name);
  return out.empty() ? "none" : out;
}

std::string range_text(Range range) {
  return "a whole number from " + std::to_string(range.min) + " to " + std::to_string(range.max);
}

}  // namespace

std::vector<std::string> split_list(std::string_view text, std::string_view name) {
  std::vector<std::string> out;
  std::string piece;
  int depth = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      if (piece.empty()) throw bad(name, "an empty element in the list '" + std::string(text) + "'");
      out.push_back(std::move(piece));
      piece.clear();
      continue;
    }
    const char c = text[i];
    piece += c;
    if (c == '\\' && i + 1 < text.size()) {
      piece += text[++i];
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return out;
}

Timestamp parse_time(std::string_view text, std::string_view name) {
  const auto time = parse_rfc3339(text);
  if (!time) throw bad(name, "'" + std::string(text) + "' is not an RFC 3339 time, e.g. 2026-11-20T21:33:59Z");
  return *time;
}

Query::Query(const std::vector<std::pair<std::string, std::string>>& pairs, std::span<const std::string_view> known)
    : pairs_(pairs) {
  for (const auto& [name, value] : pairs) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw bad(name, "unknown parameter '" + name + "'; known here: " + joined(known));
    }
  }
}

std::optional<std::string> Query::text(std::string_view name) const {
  std::optional<std::string> out;
  for (const auto& [key, value] : pairs_) {
    if (key != name) continue;
    if (out) throw bad(name, "given twice");
    out = value;
  }
  return out;
}

std::string Query::required(std::string_view name) const {
  auto value = text(name);
  if (!value || value->empty()) throw bad(name, "the parameter '" + std::string(name) + "' is required");
  return std::move(*value);
}

std::vector<std::string> Query::list(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : pairs_) {
    if (key != name) continue;
    for (std::string& piece : split_list(value, name)) out.push_back(std::move(piece));
  }
  return out;
}

std::vector<std::string> Query::texts(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : pairs_) {
    if (key == name) out.push_back(value);
  }
  return out;
}

std::vector<Position> Query::positions(std::string_view name) const {
  std::vector<Position> out;
  for (const std::string& text : list(name)) out.push_back(Position::parse(text));
  return out;
}

std::optional<Timestamp> Query::time(std::string_view name) const {
  const auto value = text(name);
  if (!value) return std::nullopt;
  return parse_time(*value, name);
}

bool Query::boolean(std::string_view name) const {
  const auto value = text(name);
  if (!value || value == "false") return false;
  if (value != "true") throw bad(name, "'" + *value + "' is neither true nor false");
  return true;
}

std::uint64_t Query::number(std::string_view name, std::uint64_t otherwise, Range range) const {
  const auto value = text(name);
  if (!value) return otherwise;
  std::uint64_t number = 0;
  const char* end = value->data() + value->size();
  const auto [stopped_at, error] = std::from_chars(value->data(), end, number);
  if (error != std::errc{} || stopped_at != end || number < range.min || number > range.max) {
    throw bad(name, "'" + *value + "' is not " + range_text(range));
  }
  return number;
}

Members::Members(std::string_view body, std::initializer_list<std::string_view> known) {
  if (body.find_first_not_of(" \t\r\n") != std::string_view::npos) {
    boost::system::error_code error;
    boost::json::value value = boost::json::parse(boost::json::string_view(body.data(), body.size()), error);
    if (error) throw bad("body", "the body is not valid JSON: " + error.message());
    if (!value.is_object()) throw bad("body", "the body must be a JSON object");
    object_ = std::move(value.get_object());
  }
  for (const auto& member : object_) {
    const std::string_view name(member.key().data(), member.key().size());
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw bad(name,
                "unknown member '" + std::string(name) + "'; known here: " + joined({known.begin(), known.size()}));
    }
  }
}

const boost::json::value* Members::find(std::string_view name) const {
  const boost::json::value* value = object_.if_contains(boost::json::string_view(name.data(), name.size()));
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool Members::names(std::string_view name) const {
  return object_.contains(boost::json::string_view(name.data(), name.size()));
}

std::optional<std::string> Members::text(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw bad(name, "must be a string");
  return std::string(value->get_string());
}

std::string Members::required(std::string_view name) const {
  auto value = text(name);
  if (!value || value->empty()) throw bad(name, "the member '" + std::string(name) + "' is required");
  return std::move(*value);
}

std::optional<std::vector<std::string>> Members::texts(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) throw bad(name, "must be an array of strings");
  std::vector<std::string> out;
  for (const boost::json::value& element : value->get_array()) {
    if (!element.is_string()) throw bad(name, "must be an array of strings");
    out.emplace_back(element.get_string());
  }
  return out;
}

std::optional<Timestamp> Members::time(std::string_view name) const {
  const auto value = text(name);
  if (!value) return std::nullopt;
  return parse_time(*value, name);
}

std::optional<std::uint64_t> Members::number(std::string_view name, Range range) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  boost::system::error_code error;
  const auto number = value->is_number() ? value->to_number<std::uint64_t>(error) : 0;
  if (!value->is_number() || error || number < range.min || number > range.max) {
    throw bad(name, "must be " + range_text(range));
  }
  return number;
}

std::optional<bool> Members::boolean(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) throw bad(name, "must be true or false");
  return value->get_bool();
}

std::optional<std::int32_t> max_dataversion_of(const Members& body) {
  const auto version = body.number("max_dataversion", {1, INT32_MAX});
  return version ? std::optional(static_cast<std::int32_t>(*version)) : std::nullopt;
}

}  // namespace millrace::daemon
