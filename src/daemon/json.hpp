// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Answers as JSON text. Events go in as the codec writes them, never through a document: their bytes stay as they are.

#include <span>
#include <string>
#include <string_view>

#include "base/utf8.hpp"
#include "millrace/ledger.hpp"
#include "millrace/store.hpp"

namespace millrace::daemon {

/// Writes one JSON object (or array) member by member.
class JsonWriter {
 public:
  explicit JsonWriter(char open = '{') : close_(open == '{' ? '}' : ']') { out_ += open; }
  JsonWriter& text(std::string_view name, std::string_view value);
  JsonWriter& text_or_null(std::string_view name, std::string_view value);  ///< empty = null
  JsonWriter& number(std::string_view name, std::uint64_t value);
  JsonWriter& real(std::string_view name, double value);
  JsonWriter& boolean(std::string_view name, bool value);
  JsonWriter& raw(std::string_view name, std::string_view json);
  JsonWriter& texts(std::string_view name, std::span<const std::string> values);
  JsonWriter& element(std::string_view json);  ///< of an array
  std::string finish();                        ///< closes it

 private:
  void name(std::string_view name);
  std::string out_;
  char close_;
  bool first_ = true;
};

std::string stream_json(const StreamInfo& stream);
/// Adds the members of a trim's answer: `removed`, `trimmed_to`, `kept`.
void add_trim(JsonWriter& json, const TrimResult& result);
std::string lag_json(const Lag& lag);
std::string group_json(const GroupInfo& group);
std::string pending_json(const PendingEvent& event);
std::string dead_letter_json(const DeadLetter& letter);
std::string deliveries_json(std::span<const Delivery> deliveries);
/// `{"position","stored_at","event"}`
void append_stored_event(const StoredEvent& stored, std::string& out);
std::string page_json(const Position& after, const Page& page);

}  // namespace millrace::daemon
