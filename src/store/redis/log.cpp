// SPDX-License-Identifier: Apache-2.0
#include "store/redis/log.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "base/uuid.hpp"
#include "store/common.hpp"
#include "store/records.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

/// Entries asked for at a time.
constexpr std::size_t kFirstChunk = 128;
constexpr std::size_t kMostChunk = 1'000;

}  // namespace

RedisLog::RedisLog(Client& client, Options options)
    : client_(client),
      options_(std::move(options)),
      keys_(client.key("")),
      self_(new_uuid_v7()),
      appender_(client, options_.dedup_keep),
      schedule_(*this, [this] { return client_.now(); }) {
  options_.mapping.validate();
}

RedisLog::~RedisLog() {
  stop();
}

void RedisLog::stop() {
  schedule_.stop();
  appender_.stop();
}

// ---- Streams ----

void RedisLog::create_stream(const StreamName& name, const Retention& retention) {
  retention.validate();
  (void)client_.run(Purpose::ledger, scripts::create_stream, {keys_.log(name), keys_.stream(name), keys_.streams()},
                    {name.str(), id_of(appender_.known(name).value_or(Position{})),
                     retention == Retention{} ? std::string{} : encode_retention({retention, std::nullopt})});
  appender_.note_known(name);
  schedule_.wake();
}

void RedisLog::ensure_streams(std::span<const StreamName> names) {
  for (const StreamName& name : names) {
    try {
      create_stream(name, {});
    } catch (const Error& error) {
      if (error.code() != Errc::already_exists) throw;
      appender_.note_known(name);
    }
  }
}

bool RedisLog::make_again(const StreamName& name) {
  if (!appender_.known(name)) return false;
  log::error("stream_lost", name.str(),
             "the stream was deleted from Redis by somebody else (FLUSHALL?) with everything in it; it was made again");
  ensure_streams(std::span(&name, 1));
  return true;
}

std::vector<Reply> RedisLog::with_row(const StreamName& name, std::string_view operation, std::vector<Command> commands,
                                      StreamRow& row) {
  commands.insert(commands.begin(), {"HGETALL", keys_.stream(name)});
  auto replies = client_.pipeline(Purpose::ledger, commands, Access::read);
  auto found = decode_stream(checked(replies.at(0), "read stream", name.str()));
  if (!found && make_again(name)) {
    replies = client_.pipeline(Purpose::ledger, std::move(commands), Access::read);
    found = decode_stream(checked(replies.at(0), "read stream", name.str()));
  }
  if (!found) throw unknown_stream(operation, name);
  row = *std::move(found);
  replies.erase(replies.begin());
  return replies;
}

StreamRow RedisLog::row_of(const StreamName& name, std::string_view operation) {
  StreamRow row;
  (void)with_row(name, operation, {}, row);
  return row;
}

std::vector<StreamInfo> RedisLog::infos(const std::vector<StreamName>& names) {
  constexpr std::size_t kCommands = 4;
  std::vector<Command> commands;
  for (const StreamName& name : names) {
    commands.push_back({"HGETALL", keys_.stream(name)});
    commands.push_back({"XINFO", "STREAM", keys_.log(name)});
    commands.push_back({"ZCARD", keys_.erased(name)});
    commands.push_back({"ZRANGE", keys_.erased(name), "0", "0"});
  }
  const auto replies = client_.pipeline(Purpose::ledger, std::move(commands), Access::read);
  const bool durable = client_.level() == Level::durable;
  std::vector<StreamInfo> all;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Reply* of_stream = &replies.at(kCommands * i);
    for (std::size_t k = 0; k < kCommands; ++k) {
      if (k != 1) (void)checked(of_stream[k], "read stream", names[i].str());
    }
    const auto row = decode_stream(of_stream[0]);
    if (!row) continue;
    const NativeStream native = decode_native(of_stream[1]);
    const auto erased = static_cast<std::uint64_t>(of_stream[2].as_integer());
    StreamInfo info{.name = names[i],
                    .created_at = row->created_at,
                    .events = native.length + erased,
                    .first = native.first,
                    .last = std::max(row->last, native.last),
                    .trimmed_to = row->trimmed_to,
                    .retention = row->retention.retention,
                    .last_trim_at = row->last_trim_at,
                    .last_trim = row->last_trim};
    if (info.events != 0) info.bytes = row->bytes;
    if (!of_stream[3].as_array().empty()) {
      const Position shell = decode_shell(of_stream[3].items[0].as_text()).position;
      if (info.first == Position{} || shell < info.first) info.first = shell;
    }
    if (info.first != Position{}) info.oldest = time_of(info.first);
    if (durable) info.durable_to = info.last;
    all.push_back(std::move(info));
  }
  return all;
}

std::vector<StreamInfo> RedisLog::streams() {
  std::vector<StreamName> names;
  const Reply members = client_.call(Purpose::ledger, {"SMEMBERS", keys_.streams()}, Access::read);
  for (const Reply& member : members.as_array()) names.emplace_back(member.as_text());
  std::sort(names.begin(), names.end());
  return infos(names);
}

StreamInfo RedisLog::stream(const StreamName& name) {
  auto found = infos({name});
  if (found.empty() && make_again(name)) found = infos({name});
  if (found.empty()) throw unknown_stream("read stream", name);
  appender_.note_known(name);
  return std::move(found.front());
}

std::uint64_t RedisLog::set_aside(const StreamName& stream) {
  return row_of(stream, "read stream").aside;
}

// ---- Appending ----

std::vector<AppendResult> RedisLog::append(const StreamName& stream, std::span<const Event> events, Durability) {
  return appender_.append(stream, events);
}

void RedisLog::append_async(const StreamName& stream, std::vector<Event> events, Durability, AppendCompletion done) {
  appender_.append_async(stream, std::move(events), std::move(done));
}

std::unique_ptr<Watch> RedisLog::watch(std::function<void()> changed) {
  return options_.watch(std::move(changed));
}

// ---- Reading ----

void RedisLog::note_asides(const StreamName& name, const std::vector<Entry>& entries) {
  std::vector<std::string> args;
  for (const Entry& entry : entries) {
    if (entry.event) continue;
    args.push_back(id_of(entry.position));
    args.push_back(entry.aside);
  }
  if (args.empty()) return;
  client_.run_async(Purpose::ledger, scripts::aside, {keys_.stream(name), keys_.aside(name)}, std::move(args),
                    [name](const Client::Outcome& outcome) {
                      const Error* error = std::get_if<Error>(&outcome);
                      if (error) log::write(log::Level::warn, *error);
                    });
}

Entries RedisLog::entries_after(const StreamName& name, Position after, std::size_t count) {
  Entries found = read_entries(client_, name, after, count, Purpose::ledger, options_.mapping);
  note_asides(name, found.entries);
  return found;
}

std::optional<Entry> RedisLog::newest_up_to(const StreamName& name, Position position) {
  std::vector<Command> commands;
  newest_commands(commands, keys_, name, position);
  auto replies = client_.pipeline(Purpose::ledger, std::move(commands), Access::read);
  return take_newest(replies, keys_, name, options_.mapping);
}

/// Our own horizon tells what we trimmed. What others removed shows in the count that our entries carry: it goes on by
/// one from each to the next.
std::optional<Position> RedisLog::gap_after(const StreamName& name, const StreamRow& row, Position after,
                                            const std::optional<Entry>& before, const Entry* first) {
  if (after < row.trimmed_to || after < row.born) {
    if (first) return first->position;
    const Entries rest = entries_after(name, after, 1);
    return rest.entries.empty() ? redis::after(std::max(row.trimmed_to, row.born)) : rest.entries[0].position;
  }
  if (!first || !first->n || (before && !before->n)) return std::nullopt;
  const std::uint64_t count = before ? *before->n : row.trimmed_count;
  const bool exact = after == (before ? before->position : row.trimmed_to);
  // The event at `after` itself may be what was removed; it was read.
  return *first->n > count + (exact ? 1 : 2) ? std::optional(first->position) : std::nullopt;
}

Page RedisLog::read(const StreamName& name, const ReadQuery& query) {
  const ReadFilter wanted(query);
  (void)pack(query.after, "read");
  const Position since = query.since ? last_before(*query.since) : Position{};
  const Position until = query.until ? last_before(*query.until) : Position{UINT64_MAX, UINT64_MAX};
  const Position from = std::max(query.after, since);
  // One more than wanted, to know whether there is more.
  std::size_t chunk = std::min({query.limit, query.max_scan, kFirstChunk}) + 1;

  std::vector<Command> commands;
  entry_commands(commands, keys_, name, from, chunk);
  if (query.after != Position{}) newest_commands(commands, keys_, name, query.after);
  StreamRow row;
  auto replies = with_row(name, "read", std::move(commands), row);
  const std::span all(replies);
  Entries found = take_entries(all.first(2), keys_, name, chunk, options_.mapping);
  note_asides(name, found.entries);
  Page page;
  if (query.after != Position{}) {
    const auto before = take_newest(all.subspan(2), keys_, name, options_.mapping);
    const Entry* first = found.entries.empty() || since > query.after ? nullptr : &found.entries[0];
    page.gap = gap_after(name, row, query.after, before, first);
  }

  Position position = std::max({from, row.trimmed_to, row.born});
  std::size_t scanned = 0;
  std::size_t bytes = 0;
  auto next = found.entries.begin();
  while (page.events.size() < query.limit && scanned < query.max_scan &&
         (page.events.empty() || bytes < query.max_bytes)) {
    if (next == found.entries.end() && !found.at_end) {
      const std::size_t room = query.limit - page.events.size();
      const std::size_t size = page.events.empty() ? 0 : bytes / page.events.size();
      const std::size_t fitting = size == 0 ? kMostChunk : (query.max_bytes - bytes) / size + 1;
      chunk = std::min({wanted.wants_all() ? room : kMostChunk, fitting, query.max_scan - scanned, kMostChunk}) + 1;
      found = entries_after(name, position, chunk);
      next = found.entries.begin();
    }
    if (next == found.entries.end() || next->position > until) {
      page.at_end = true;
      break;
    }
    Entry& entry = *next++;
    ++scanned;
    position = std::max(position, entry.position);
    if (!entry.event || !wanted.matches(*entry.event)) continue;
    page.events.push_back(std::move(entry).stored());
    bytes += event_bytes(page.events.back().event);
  }
  if (next == found.entries.end() ? found.at_end : next->position > until) page.at_end = true;
  page.next = position;
  return page;
}

Position RedisLog::position_before(const StreamName& name, Timestamp time) {
  std::vector<Command> commands;
  newest_commands(commands, keys_, name, last_before(time));
  StreamRow row;
  auto replies = with_row(name, "find position", std::move(commands), row);
  const auto newest = take_newest(replies, keys_, name, options_.mapping);
  return newest ? std::max(newest->position, row.trimmed_to) : row.trimmed_to;
}

}  // namespace millrace::store::redis
