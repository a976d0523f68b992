// SPDX-License-Identifier: Apache-2.0

// CloudEvents in both formats, and the declared changes of schema versions.

#include <vector>

#include "event/schema_change.hpp"
#include "fuzz.hpp"
#include "millrace/codec.hpp"
#include "millrace/schema.hpp"

namespace millrace::fuzz {
namespace {

/// What HTTP can carry of an event: every extension is a string, and a content type is that of a body, be it empty.
Event as_http_carries_it(Event event) {
  if (!event.data && !event.datacontenttype.empty()) event.data = "";
  for (Extension& extension : event.extensions) extension.value = to_string(extension.value);
  return event;
}

/// What was decoded is valid, and comes back from either format as it is.
void check_event(const Event& event) {
  validate(event);
  const std::string json = encode_json(event);
  require(json.find('\n') == std::string::npos, "an encoded event is one line");
  const Event again = decode_json(json);
  // JSON data that stands in several lines is put into one.
  const bool lines = event.data && event.data->find_first_of("\r\n") != std::string::npos;
  require(lines || again == event, "JSON gives back the event: " + json);
  require(encode_json(again) == json, "encoding is stable: " + json);
  const HttpMessage message = encode_http_binary(event);
  const auto binary = as_http_carries_it(decode_http_binary(message.headers, message.body));
  require(encode_json(binary) == encode_json(as_http_carries_it(event)), "HTTP gives back the event: " + json);
}

}  // namespace

void json_event(std::string_view input) {
  const auto strict = value_or_refusal([&] { return decode_json(input); });
  if (strict) check_event(*strict);
  const auto lenient = value_or_refusal([&] { return decode_json_lenient(input); });
  require(!strict || (lenient && *lenient == *strict), "whoever needs less reads the same");
  if (!lenient || strict) return;
  Event filled = *lenient;
  if (filled.id.empty()) filled.id = "i";
  if (filled.source.empty()) filled.source = "/s";
  if (value_or_refusal([&] { return validate(filled), true; })) check_event(filled);
}

void json_batch(std::string_view input) {
  const auto batch = value_or_refusal([&] { return decode_json_batch(input); });
  const auto split = value_or_refusal([&] { return split_json_array(input); });
  require(!batch || (split && split->size() == batch->size()), "a batch can be split into its events");
  if (split) {
    bool all = true;
    for (std::size_t i = 0; i < split->size(); ++i) {
      const auto one = value_or_refusal([&] { return decode_json((*split)[i]); });
      all = all && one.has_value();
      require(!batch || (one && *one == (*batch)[i]), "an element alone is the same event");
    }
    require(all == batch.has_value(), "a batch is as good as all its elements");
  }
  if (batch) require(decode_json_batch(encode_json_batch(*batch)) == *batch, "a batch comes back");
}

void http_binary(std::string_view input) {
  Bytes bytes(input);
  std::vector<HttpHeader> headers;
  while (!bytes.empty()) {
    const std::string_view line = bytes.line();
    if (line.empty()) break;
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    headers.emplace_back(line.substr(0, colon), line.substr(colon + 1));
  }
  const std::string_view body = bytes.rest();
  const auto event = value_or_refusal([&] { return decode_http_binary(headers, body); });
  if (event) check_event(*event);
  const auto without = value_or_refusal([&] { return decode_http_binary(headers, body, false); });
  require(!event || (without && *without == *event), "whoever needs no id reads the same");
}

void schema_changes(std::string_view input) {
  Bytes bytes(input);
  std::vector<SchemaChange> changes;
  for (std::size_t n = bytes.below(5); n > 0; --n) {
    const auto kind = bytes.below(4);
    const std::string path(bytes.line());
    const std::string other = kind == 2 ? std::string() : std::string(bytes.line());
    SchemaChange change = kind == 0   ? SchemaChange::rename(path, other)
                          : kind == 1 ? SchemaChange::add(path, other)
                          : kind == 2 ? SchemaChange::remove(path)
                                      : SchemaChange::move(path, other);
    if (value_or_refusal([&] { return change.validate(), true; })) changes.push_back(std::move(change));
  }
  const std::string json(bytes.rest());
  const auto changed = value_or_refusal([&] { return apply_changes(json, changes); });
  if (!changed) return;
  require(apply_changes(*changed, {}) == apply_changes(apply_changes(*changed, {}), {}), "no changes change nothing");
  // Adding what is there and removing what is not are no changes; but in a list what follows moves up.
  for (const SchemaChange& change : changes) {
    if (&change != &changes.back()) continue;
    if (change.kind != SchemaChange::Kind::add && change.kind != SchemaChange::Kind::remove) continue;
    if (change.path.find_last_not_of("0123456789-") == change.path.rfind('/')) continue;
    const std::vector<SchemaChange> last{change};
    require(apply_changes(*changed, last) == *changed, "the last change twice is the change once: " + *changed);
  }
}

}  // namespace millrace::fuzz
