// SPDX-License-Identifier: Apache-2.0
#include "store/redis/find.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "store/common.hpp"
#include "store/redis/log.hpp"

namespace millrace::store::redis {
namespace {

constexpr const char* kShared = "*";

std::string_view next_word(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(std::min(text.size(), word.size() + 1));
  return word;
}

/// "<position> <fingerprint> [<trimmed at> ]<source>"; the source may be known from elsewhere.
KnownId decode_known(std::string_view record, bool trimmed, std::string_view source) {
  KnownId known;
  known.position = position_of(next_word(record), "ids");
  (void)next_word(record);
  if (trimmed) {
    const std::string_view when = next_word(record);
    std::int64_t microseconds = 0;
    std::from_chars(when.data(), when.data() + when.size(), microseconds);
    known.trimmed_at = Timestamp{std::chrono::microseconds{microseconds}};
  }
  known.source = source.empty() ? record : source;
  return known;
}

}  // namespace

std::vector<KnownId> find_ids(Client& client, const Keys& keys, const StreamName& stream, const std::string& days,
                              std::string_view id, std::optional<std::string_view> source, Timestamp not_before) {
  std::vector<std::string> hashes{keys.ids(stream)};
  std::istringstream all_days(days);
  for (std::string day; all_days >> day;) hashes.push_back(keys.trimmed(stream) + ":" + day);

  std::vector<Command> commands;
  commands.reserve(hashes.size());
  for (const std::string& hash : hashes) commands.push_back({"HGET", hash, std::string(id)});
  const auto records = client.pipeline(Purpose::ledger, std::move(commands), Access::read);

  std::vector<KnownId> known;
  std::vector<std::pair<std::size_t, Command>> shared;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const Reply& record = checked(records.at(i), "find", stream.str());
    if (record.is_nil()) continue;
    if (record.as_text() != kShared) {
      known.push_back(decode_known(record.as_text(), i != 0, {}));
      continue;
    }
    const std::string hash = hashes[i] + ":" + std::string(id);
    shared.emplace_back(i, source ? Command{"HMGET", hash, std::string(*source)}
                                  : Command{"HRANDFIELD", hash, std::to_string(kMostFound), "WITHVALUES"});
  }
  for (auto& [i, command] : shared) {
    const Reply found = client.call(Purpose::ledger, std::move(command), Access::read);
    const auto& items = found.as_array();
    if (source) {
      if (!items.at(0).is_nil()) known.push_back(decode_known(items[0].as_text(), i != 0, *source));
      continue;
    }
    for (std::size_t k = 0; k + 1 < items.size(); k += 2) {
      known.push_back(decode_known(items[k + 1].as_text(), i != 0, items[k].as_text()));
    }
  }
  std::erase_if(known, [&](const KnownId& one) {
    return (source && one.source != *source) || (one.trimmed_at && *one.trimmed_at < not_before);
  });
  std::sort(known.begin(), known.end(), [](const KnownId& a, const KnownId& b) { return a.position < b.position; });
  if (known.size() > kMostFound) known.resize(kMostFound);
  return known;
}

std::vector<FoundEvent> RedisLog::find(const StreamName& name, std::string_view id,
                                       std::optional<std::string_view> source) {
  const StreamRow row = row_of(name, "find");
  const auto known = find_ids(client_, keys_, name, row.days, id, source, client_.now() - options_.dedup_keep);
  std::vector<Position> positions;
  for (const KnownId& one : known) {
    if (!one.trimmed_at) positions.push_back(one.position);
  }
  auto entries = read_entries_at(client_, name, positions, Purpose::ledger, options_.mapping);
  const Durability level = durability_of(client_.level());
  std::vector<FoundEvent> found;
  auto entry = entries.begin();
  for (const KnownId& one : known) {
    FoundEvent event{.trimmed_at = one.trimmed_at, .durability = level};
    if (!one.trimmed_at) {
      if (*entry && (*entry)->event) {
        event.stored = std::move(**entry).stored();
      } else {
        event.trimmed_at = client_.now();  // somebody else removed it; since when, nobody knows
      }
      ++entry;
    }
    if (event.trimmed_at) {
      event.stored.position = one.position;
      event.stored.event.id = id;
      event.stored.event.source = one.source;
    }
    found.push_back(std::move(event));
  }
  return found;
}

}  // namespace millrace::store::redis
