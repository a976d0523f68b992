// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "millrace/ledger.hpp"
#include "store/redis/client.hpp"
#include "store/redis/group_rows.hpp"
#include "store/redis/keys.hpp"

namespace millrace::store::redis {

/// The sessions of all processes, and what this one last saw of them. Thread-safe.
class Sessions {
 public:
  Sessions(Client& client, const Keys& keys) : client_(client), keys_(keys) {}

  SessionId open(const std::string& consumer, Milliseconds lease);
  bool renew(SessionId id);

  /// As last seen; nullopt when it was gone then, or nobody looked. Does not block.
  [[nodiscard]] std::optional<SessionRow> seen(SessionId id) const;
  /// Looks again.
  void look(std::span<const SessionId> ids);
  /// Looked at, unless it was seen to live on; nullopt when it is gone.
  std::optional<SessionRow> find(SessionId id, Timestamp now);
  void forget(SessionId id);

  /// Deletes the row, and what is known of the session.
  void close(SessionId id);
  /// Deletes the rows of those of `ids` that have ended, as of the server's clock.
  void drop_ended(std::span<const SessionId> ids);
  /// All there are.
  std::map<SessionId, SessionRow> all();

  /// Notes that the session claims from the group.
  void note_use(SessionId id, const GroupName& group);
  [[nodiscard]] std::set<GroupName> used(SessionId id) const;  ///< as far as this process knows
  /// Consumers whose sessions have claimed from the group, as far as this process has seen.
  [[nodiscard]] std::set<std::string> users_of(const GroupName& group, Timestamp now) const;
  /// What to write with the first claim, so that every process can tell.
  [[nodiscard]] Command use_command(SessionId id, const GroupName& group) const;
  /// As every process knows.
  std::set<GroupName> groups_of(SessionId id);

 private:
  [[nodiscard]] std::string groups_key(SessionId id) const;

  Client& client_;
  const Keys& keys_;
  mutable std::mutex mutex_;
  std::map<SessionId, SessionRow> seen_;
  std::map<SessionId, std::set<GroupName>> used_;
};

}  // namespace millrace::store::redis
