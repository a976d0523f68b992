// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// An event as an entry of a Redis stream, there and back, and reading entries.
///
/// An entry of ours has the CloudEvents attributes by name, extensions as `ce_<name>` (`ce_<name>:int`,
/// `ce_<name>:bool` when they are no strings), `data` as bytes, and `n`, the stream's `entries-added` with it. Any
/// other entry is another producer's: it is mapped by a declared mapping, or set aside with a reason.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/event_log.hpp"
#include "store/redis/client.hpp"
#include "store/redis/foreign_mapping.hpp"
#include "store/redis/keys.hpp"
#include "store/redis/position.hpp"
#include "store/redis/reply.hpp"

namespace millrace::store::redis {

/// One entry, as found.
struct Entry {
  Position position = {};
  std::optional<std::uint64_t> n = {};  ///< entries ever added, with this one; absent when another producer wrote it
  std::optional<Event> event = {};      ///< absent: it is set aside
  std::string aside = {};               ///< why

  /// \pre event
  [[nodiscard]] StoredEvent stored() && { return {position, time_of(position), std::move(*event)}; }
};

/// Calls `take(name, value)` for each field, in the order of the entry: `id` and `source` first. `n` is the script's to
/// add.
void for_each_field(const Event& event, const std::function<void(std::string_view, std::string_view)>& take);
/// Appends field, value, field, value … to `args`.
void encode_fields(const Event& event, std::vector<std::string>& args);

/// \param pair an item of XRANGE's answer: id and fields. \param log_key the stream's key, for `source` of a foreign
/// one \throws Error{corrupt} when it is no entry at all
Entry decode(Reply pair, const std::string& log_key, const ForeignMapping& mapping = {});
/// An entry that must be an event. \throws Error{corrupt} when it is none
StoredEvent decode_entry(const Reply& pair);

/// What is left of an erased event (its entry is deleted): a member of the sorted set `Keys::erased`.
std::string encode_shell(Position position, std::optional<std::uint64_t> n, const Event& event);
/// \throws Error{corrupt}
Entry decode_shell(std::string_view member);
/// With which members of position `position` begin, in the order of positions.
std::string shell_prefix(Position position);

/// The reply, unless it is an error, which is thrown.
const Reply& checked(const Reply& reply, std::string_view operation, const std::string& object);

struct Entries {
  std::vector<Entry> entries = {};  ///< in order, erased ones in their place
  bool at_end = false;              ///< there was none behind them
};
/// Up to `count` entries after a position, in one round trip. An unknown stream has none.
Entries read_entries(Client& client, const StreamName& stream, Position after, std::size_t count,
                     Purpose purpose = Purpose::ledger, const ForeignMapping& mapping = {});
/// The same in two halves, to be sent along with other commands. `entry_commands` appends two.
void entry_commands(std::vector<Command>& commands, const Keys& keys, const StreamName& stream, Position after,
                    std::size_t count);
/// \param replies of these two. \throws Error{corrupt} when the keys hold something else
Entries take_entries(std::span<Reply> replies, const Keys& keys, const StreamName& stream, std::size_t count,
                     const ForeignMapping& mapping);
/// And for the newest entry at or before a position.
void newest_commands(std::vector<Command>& commands, const Keys& keys, const StreamName& stream, Position up_to);
std::optional<Entry> take_newest(std::span<Reply> replies, const Keys& keys, const StreamName& stream,
                                 const ForeignMapping& mapping);

/// The entries at these positions, in one round trip; nullopt where there is none.
std::vector<std::optional<Entry>> read_entries_at(Client& client, const StreamName& stream,
                                                  std::span<const Position> positions,
                                                  Purpose purpose = Purpose::ledger,
                                                  const ForeignMapping& mapping = {});
/// The event at a position; nullopt when it is not in the log (any more), or set aside.
std::optional<StoredEvent> read_event(Client& client, const StreamName& stream, Position position,
                                      Purpose purpose = Purpose::ledger, const ForeignMapping& mapping = {});

}  // namespace millrace::store::redis
