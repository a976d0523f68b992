// SPDX-License-Identifier: Apache-2.0

// Erasing: an event is replaced by its shell, in the log and in every group's copies. (What Redis keeps of the bytes:
// log.hpp.)

#include <algorithm>

#include "base/log.hpp"
#include "store/common.hpp"
#include "store/redis/find.hpp"
#include "store/redis/group_rows.hpp"
#include "store/redis/log.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {

std::vector<GroupName> RedisLog::groups_of(const StreamName& name) {
  const Reply all = client_.call(Purpose::ledger, {"HGETALL", keys_.groups()}, Access::read);
  std::vector<GroupName> groups;
  for (std::size_t i = 0; i + 1 < all.as_array().size(); i += 2) {
    if (all.items[i + 1].as_text() == name.str()) groups.emplace_back(all.items[i].as_text());
  }
  return groups;
}

/// A dead letter may be all that is left of an event whose id is forgotten.
std::optional<Position> RedisLog::position_of_copy(const StreamName& name, std::string_view source,
                                                   std::string_view id) {
  for (const GroupName& group : groups_of(name)) {
    std::string cursor = "0";
    do {
      const Reply page =
          client_.call(Purpose::ledger, {"HSCAN", keys_.events(group), cursor, "COUNT", "500"}, Access::read);
      cursor = page.as_array().at(0).as_text();
      const auto& rows = page.items.at(1).as_array();
      for (std::size_t i = 0; i + 1 < rows.size(); i += 2) {
        const Entry copy = decode_copy(rows[i + 1].as_text(), keys_.log(name), options_.mapping);
        if (copy.event && copy.event->id == id && copy.event->source == source) return copy.position;
      }
    } while (cursor != "0");
  }
  return std::nullopt;
}

std::optional<Entry> RedisLog::copy_at(const StreamName& name, Position position) {
  for (const GroupName& group : groups_of(name)) {
    const Reply copy = client_.call(Purpose::ledger, {"HGET", keys_.events(group), id_of(position)}, Access::read);
    if (!copy.is_nil()) return decode_copy(copy.as_text(), keys_.log(name), options_.mapping);
  }
  return std::nullopt;
}

std::optional<Position> RedisLog::erase(const StreamName& name, std::string_view source, std::string_view id) {
  const StreamRow row = row_of(name, "erase");
  const auto known = find_ids(client_, keys_, name, row.days, id, source, client_.now() - options_.dedup_keep);
  const auto in_log = std::find_if(known.begin(), known.end(), [](const KnownId& one) { return !one.trimmed_at; });
  std::optional<Position> position;
  if (in_log != known.end()) {
    position = in_log->position;
  } else if (!known.empty()) {
    position = known.back().position;
  } else {
    position = position_of_copy(name, source, id);
  }
  if (!position) return std::nullopt;

  auto entry = read_entries_at(client_, name, std::span(&*position, 1), Purpose::ledger, options_.mapping)[0];
  if (!entry || !entry->event) entry = copy_at(name, *position);
  if (!entry || !entry->event || entry->event->id != id || entry->event->source != source) return std::nullopt;
  Event& event = *entry->event;
  const std::size_t weight = event_bytes(event);
  if (!is_erased(event)) mark_erased(event, client_.now());
  const Reply done = client_.run(
      Purpose::ledger, scripts::erase,
      {keys_.log(name), keys_.stream(name), keys_.ids(name), keys_.trimmed(name), keys_.erased(name), keys_.groups()},
      {keys_.prefix() + "millrace:group:", name.str(), id_of(*position), std::string(id), std::string(source),
       encode_shell(*position, entry->n, event), shell_prefix(*position), std::to_string(weight),
       std::to_string(event_bytes(event))});
  if (done.as_integer() == 0) return std::nullopt;
  log::info("erased", name.str(),
            "event " + id_of(*position) +
                " has no data any more; its bytes stay in the server's memory until the events around it are trimmed, "
                "and in its files until they are rewritten after that (BGREWRITEAOF, BGSAVE)");
  return position;
}

}  // namespace millrace::store::redis
