// SPDX-License-Identifier: Apache-2.0
#include "store/redis/entry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

#include "base/utf8.hpp"
#include "store/redis/errors.hpp"
#include "store/redis/foreign.hpp"

namespace millrace::store::redis {
namespace {

constexpr std::string_view kExtension = "ce_";
constexpr std::string_view kInt = ":int";
constexpr std::string_view kBool = ":bool";

std::string* core_attribute(Event& event, std::string_view name) {
  if (name == "id") return &event.id;
  if (name == "source") return &event.source;
  if (name == "type") return &event.type;
  if (name == "subject") return &event.subject;
  if (name == "time") return &event.time;
  if (name == "datacontenttype") return &event.datacontenttype;
  if (name == "dataschema") return &event.dataschema;
  return nullptr;
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc{} || stop != end) return std::nullopt;
  return value;
}

/// False when the field does not stand in entries of ours.
bool take_extension(Event& event, std::string_view name, std::string& value) {
  if (!name.starts_with(kExtension)) return false;
  name.remove_prefix(kExtension.size());
  if (name.ends_with(kInt)) {
    const auto number = parse_number<std::int32_t>(value);
    if (!number) return false;
    event.extensions.push_back({std::string(name.substr(0, name.size() - kInt.size())), *number});
  } else if (name.ends_with(kBool)) {
    if (value != "true" && value != "false") return false;
    event.extensions.push_back({std::string(name.substr(0, name.size() - kBool.size())), value == "true"});
  } else {
    event.extensions.push_back({std::string(name), std::move(value)});
  }
  return true;
}

bool is_ours(const std::vector<Reply>& fields) {
  bool id = false, source = false, type = false;
  Event scratch;
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string& name = fields[i].as_text();
    id |= name == "id";
    source |= name == "source";
    type |= name == "type";
    if (name != "n" && name != "data" && !name.starts_with(kExtension) && !core_attribute(scratch, name)) return false;
  }
  return id && source && type;
}

/// An entry with fields of ours only. Who left out `n` is another producer who knows the format: it is checked.
void decode_ours(Entry& entry, std::vector<Reply>& fields) {
  Event& event = entry.event.emplace();
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string& name = fields[i].as_text();
    std::string value = std::move(fields[i + 1].text);
    if (name == "n") {
      entry.n = parse_number<std::uint64_t>(value);
    } else if (name == "data") {
      event.data = std::move(value);
    } else if (std::string* attribute = core_attribute(event, name)) {
      *attribute = std::move(value);
    } else if (!take_extension(event, name, value)) {
      entry.aside = "field " + printable(name) + " has a value that is not of its type";
    }
  }
  if (!entry.n && entry.aside.empty()) entry.aside = fault_of(event);
  if (!entry.aside.empty()) entry.event.reset();
}

[[noreturn]] void no_entry(std::string_view text) {
  throw Error(Errc::corrupt, "read stream", "", "this is not an entry of a stream", printable(text.substr(0, 100)));
}

}  // namespace

void for_each_field(const Event& event, const std::function<void(std::string_view, std::string_view)>& take) {
  const auto attribute = [&take](std::string_view name, const std::string& value) {
    if (!value.empty()) take(name, value);
  };
  attribute("id", event.id);
  attribute("source", event.source);
  attribute("type", event.type);
  attribute("subject", event.subject);
  attribute("time", event.time);
  attribute("datacontenttype", event.datacontenttype);
  attribute("dataschema", event.dataschema);
  for (const Extension& extension : event.extensions) {
    std::string name = std::string(kExtension) + extension.name;
    if (std::holds_alternative<std::int32_t>(extension.value)) name += kInt;
    if (std::holds_alternative<bool>(extension.value)) name += kBool;
    take(name, millrace::to_string(extension.value));
  }
  if (event.data) take("data", *event.data);
}

void encode_fields(const Event& event, std::vector<std::string>& args) {
  for_each_field(event, [&args](std::string_view name, std::string_view value) {
    args.emplace_back(name);
    args.emplace_back(value);
  });
}

Entry decode(Reply pair, const std::string& log_key, const ForeignMapping& mapping) {
  if (pair.kind != Reply::Kind::array || pair.items.size() != 2) no_entry("");
  Entry entry{.position = position_of(pair.items[0].as_text(), "entry id")};
  if (!fits(entry.position)) {
    entry.aside = "its id does not fit: milliseconds from 2^41 or a sequence number from 2^22 on";
    return entry;
  }
  if (pair.items[1].is_nil()) {
    entry.aside = "it was deleted";
    return entry;
  }
  std::vector<Reply>& fields = pair.items[1].items;
  if (fields.size() % 2 != 0) no_entry(pair.items[0].text);
  if (is_ours(fields)) {
    decode_ours(entry, fields);
  } else {
    map_foreign(entry, fields, log_key, mapping);
  }
  return entry;
}

StoredEvent decode_entry(const Reply& pair) {
  Entry entry = decode(pair, "");
  if (entry.event) return std::move(entry).stored();
  throw Error(Errc::corrupt, "read stream", id_of(entry.position), "this entry is no event: " + entry.aside);
}

std::string shell_prefix(Position position) {
  return fmt::format("{:013}-{:07} ", position.high, position.low);
}

std::string encode_shell(Position position, std::optional<std::uint64_t> n, const Event& event) {
  std::vector<std::string> fields;
  encode_fields(event, fields);
  if (n) {
    fields.emplace_back("n");
    fields.push_back(std::to_string(*n));
  }
  return shell_prefix(position) + boost::json::serialize(boost::json::value_from(fields));
}

Entry decode_shell(std::string_view member) {
  const auto space = member.find(' ');
  const auto dash = member.find('-');
  if (space == std::string_view::npos || dash > space) no_entry(member);
  const auto high = parse_number<std::uint64_t>(member.substr(0, dash));
  const auto low = parse_number<std::uint64_t>(member.substr(dash + 1, space - dash - 1));
  if (!high || !low) no_entry(member);
  Entry entry{.position = Position{*high, *low}};
  member.remove_prefix(space + 1);
  boost::json::error_code error;
  const auto value = boost::json::parse(boost::json::string_view(member.data(), member.size()), error);
  const auto* array = error ? nullptr : value.if_array();
  if (!array || array->size() % 2 != 0) no_entry(member);
  std::vector<Reply> fields;
  for (const auto& item : *array) {
    const auto* text = item.if_string();
    if (!text) no_entry(member);
    fields.push_back({.kind = Reply::Kind::text, .text = std::string(*text)});
  }
  decode_ours(entry, fields);
  return entry;
}

namespace {

/// Entries and shells of one stretch, in order. What was erased between the two reads stands in both: the shell counts.
std::vector<Entry> merged(std::vector<Entry> entries, const std::vector<Reply>& shells) {
  if (shells.empty()) return entries;
  std::vector<Entry> all;
  all.reserve(entries.size() + shells.size());
  auto next = entries.begin();
  for (const Reply& member : shells) {
    Entry shell = decode_shell(member.as_text());
    while (next != entries.end() && next->position < shell.position) all.push_back(std::move(*next++));
    if (next != entries.end() && next->position == shell.position) ++next;
    all.push_back(std::move(shell));
  }
  std::move(next, entries.end(), std::back_inserter(all));
  return all;
}

std::vector<Entry> decode_all(Reply& reply, const std::string& key, const ForeignMapping& mapping) {
  (void)checked(reply, "read stream", key);
  std::vector<Entry> entries;
  entries.reserve(reply.items.size());
  for (Reply& pair : reply.items) entries.push_back(decode(std::move(pair), key, mapping));
  return entries;
}

}  // namespace

const Reply& checked(const Reply& reply, std::string_view operation, const std::string& object) {
  if (!reply.is_error()) return reply;
  throw to_error(reply.text, std::string(operation), object);
}

// The stream is read before the erased ones: an event on its way from there to here is seen at least once.

void entry_commands(std::vector<Command>& commands, const Keys& keys, const StreamName& stream, Position from,
                    std::size_t count) {
  const std::string most = std::to_string(count);
  commands.push_back({"XRANGE", keys.log(stream), from == Position{} ? "-" : "(" + id_of(from), "+", "COUNT", most});
  commands.push_back(
      {"ZRANGE", keys.erased(stream), "[" + shell_prefix(after(from)), "+", "BYLEX", "LIMIT", "0", most});
}

Entries take_entries(std::span<Reply> replies, const Keys& keys, const StreamName& stream, std::size_t count,
                     const ForeignMapping& mapping) {
  std::vector<Entry> entries = decode_all(replies[0], keys.log(stream), mapping);
  (void)checked(replies[1], "read stream", keys.erased(stream));
  const std::vector<Reply>& shells = replies[1].as_array();
  Entries result{.at_end = entries.size() < count && shells.size() < count};
  result.entries = merged(std::move(entries), shells);
  if (result.entries.size() > count) {
    result.entries.resize(count);
    result.at_end = false;
  }
  return result;
}

void newest_commands(std::vector<Command>& commands, const Keys& keys, const StreamName& stream, Position up_to) {
  commands.push_back({"XREVRANGE", keys.log(stream), id_of(up_to), "-", "COUNT", "1"});
  commands.push_back(
      {"ZRANGE", keys.erased(stream), "(" + shell_prefix(after(up_to)), "-", "BYLEX", "REV", "LIMIT", "0", "1"});
}

std::optional<Entry> take_newest(std::span<Reply> replies, const Keys& keys, const StreamName& stream,
                                 const ForeignMapping& mapping) {
  std::vector<Entry> entries = decode_all(replies[0], keys.log(stream), mapping);
  (void)checked(replies[1], "read stream", keys.erased(stream));
  for (const Reply& member : replies[1].as_array()) {
    Entry shell = decode_shell(member.as_text());
    if (entries.empty() || entries.back().position <= shell.position) return shell;
  }
  if (entries.empty()) return std::nullopt;
  return std::move(entries.back());
}

Entries read_entries(Client& client, const StreamName& stream, Position from, std::size_t count, Purpose purpose,
                     const ForeignMapping& mapping) {
  const Keys keys(client.key(""));
  std::vector<Command> commands;
  entry_commands(commands, keys, stream, from, count);
  auto replies = client.pipeline(purpose, std::move(commands), Access::read);
  return take_entries(replies, keys, stream, count, mapping);
}

std::vector<std::optional<Entry>> read_entries_at(Client& client, const StreamName& stream,
                                                  std::span<const Position> positions, Purpose purpose,
                                                  const ForeignMapping& mapping) {
  if (positions.empty()) return {};
  const Keys keys(client.key(""));
  const std::string log = keys.log(stream);
  std::vector<Command> commands;
  commands.reserve(2 * positions.size());
  for (const Position position : positions) {
    commands.push_back({"XRANGE", log, id_of(position), id_of(position)});
    const std::string first = shell_prefix(position);
    commands.push_back({"ZRANGE", keys.erased(stream), "[" + first, "(" + first + "\xFF", "BYLEX", "LIMIT", "0", "1"});
  }
  auto replies = client.pipeline(purpose, std::move(commands), Access::read);
  std::vector<std::optional<Entry>> found;
  found.reserve(positions.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    std::vector<Entry> entries = decode_all(replies.at(2 * i), log, mapping);
    (void)checked(replies.at(2 * i + 1), "read stream", keys.erased(stream));
    const std::vector<Reply>& shells = replies[2 * i + 1].as_array();
    if (!shells.empty()) {
      found.emplace_back(decode_shell(shells[0].as_text()));
    } else if (!entries.empty()) {
      found.emplace_back(std::move(entries[0]));
    } else {
      found.emplace_back();
    }
  }
  return found;
}

std::optional<StoredEvent> read_event(Client& client, const StreamName& stream, Position position, Purpose purpose,
                                      const ForeignMapping& mapping) {
  auto found = read_entries_at(client, stream, std::span(&position, 1), purpose, mapping);
  if (!found[0] || !found[0]->event) return std::nullopt;
  return std::move(*found[0]).stored();
}

}  // namespace millrace::store::redis
