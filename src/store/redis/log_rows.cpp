// SPDX-License-Identifier: Apache-2.0
#include "store/redis/log_rows.hpp"

#include <charconv>

#include "base/utf8.hpp"
#include "millrace/error.hpp"
#include "store/records.hpp"
#include "store/redis/position.hpp"

namespace millrace::store::redis {
namespace {

[[noreturn]] void corrupt(std::string_view what, std::string_view text) {
  throw Error(Errc::corrupt, "read store", std::string(what), "this does not hold what Millrace writes there",
              printable(text.substr(0, 200)));
}

std::uint64_t number(std::string_view what, std::string_view text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc{} || stop != end) corrupt(what, text);
  return value;
}

Timestamp time(std::string_view what, std::string_view text) {
  return Timestamp{std::chrono::microseconds{static_cast<std::int64_t>(number(what, text))}};
}

}  // namespace

std::optional<StreamRow> decode_stream(const Reply& hash) {
  const auto& fields = hash.as_array();
  StreamRow row;
  bool created = false;
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string& name = fields[i].as_text();
    const std::string& value = fields[i + 1].as_text();
    if (name == "created_at") {
      row.created_at = time(name, value);
      created = true;
    } else if (name == "born") {
      row.born = position_of(value, name);
    } else if (name == "bytes") {
      // Another producer's entries do not count; when somebody removed ours, what is left may not cover the rest.
      row.bytes = value.starts_with('-') ? 0 : number(name, value);
    } else if (name == "last") {
      row.last = position_of(value, name);
    } else if (name == "trimmed_to") {
      row.trimmed_to = position_of(value, name);
    } else if (name == "trimmed_count") {
      row.trimmed_count = number(name, value);
    } else if (name == "days") {
      row.days = value;
    } else if (name == "retention") {
      row.retention = decode_retention(value);
    } else if (name == "last_trim_at") {
      row.last_trim_at = time(name, value);
    } else if (name == "last_trim") {
      row.last_trim = decode_trim(value);
    } else if (name == "aside_count") {
      row.aside = number(name, value);
    }
  }
  if (!created) return std::nullopt;
  return row;
}

NativeStream decode_native(const Reply& info) {
  NativeStream stream;
  if (info.is_error()) {
    if (info.text.find("no such key") != std::string::npos) return stream;
    throw Error(Errc::corrupt, "read stream", "", "the key of the stream holds something else", info.text);
  }
  const auto& fields = info.as_array();
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string& name = fields[i].as_text();
    const Reply& value = fields[i + 1];
    if (name == "length") {
      stream.length = static_cast<std::uint64_t>(value.as_integer());
    } else if (name == "entries-added") {
      stream.added = static_cast<std::uint64_t>(value.as_integer());
    } else if (name == "last-generated-id") {
      stream.last = position_of(value.as_text(), name);
    } else if (name == "first-entry" && !value.is_nil()) {
      stream.first = position_of(value.as_array().at(0).as_text(), name);
    }
  }
  return stream;
}

}  // namespace millrace::store::redis
