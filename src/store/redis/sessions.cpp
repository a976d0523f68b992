// SPDX-License-Identifier: Apache-2.0
#include "store/redis/sessions.hpp"

#include "store/redis/scripts.hpp"

namespace millrace::store::redis {

SessionId Sessions::open(const std::string& consumer, Milliseconds lease) {
  const Reply reply = client_.run(Purpose::ledger, scripts::session, {keys_.sessions(), keys_.meta()},
                                  {"open", std::to_string(lease.count()), consumer});
  const auto& items = reply.as_array();
  const SessionId id = decode_number(items.at(0).as_text(), "session");
  const std::lock_guard lock(mutex_);
  seen_.insert_or_assign(id, decode_session(items.at(1).as_text()));
  return id;
}

bool Sessions::renew(SessionId id) {
  const Reply reply =
      client_.run(Purpose::ledger, scripts::session, {keys_.sessions(), keys_.meta()}, {"renew", std::to_string(id)});
  const auto& items = reply.as_array();
  const bool lives = items.at(0).as_integer() == 1;
  const std::lock_guard lock(mutex_);
  if (lives) {
    seen_.insert_or_assign(id, decode_session(items.at(1).as_text()));
  } else {
    seen_.erase(id);
  }
  return lives;
}

std::optional<SessionRow> Sessions::seen(SessionId id) const {
  const std::lock_guard lock(mutex_);
  const auto it = seen_.find(id);
  return it == seen_.end() ? std::nullopt : std::optional(it->second);
}

void Sessions::look(std::span<const SessionId> ids) {
  if (ids.empty()) return;
  Command command{"HMGET", keys_.sessions()};
  for (const SessionId id : ids) command.push_back(std::to_string(id));
  const Reply reply = client_.call(Purpose::ledger, std::move(command), Access::read);
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const Reply& row = reply.as_array().at(i);
    if (row.is_nil()) {
      seen_.erase(ids[i]);
      continue;
    }
    SessionRow session = decode_session(row.as_text());
    // An answer that was overtaken by our own renewal tells nothing new.
    const auto known = seen_.find(ids[i]);
    if (known == seen_.end() || known->second.until < session.until) seen_.insert_or_assign(ids[i], std::move(session));
  }
}

std::optional<SessionRow> Sessions::find(SessionId id, Timestamp now) {
  auto row = seen(id);
  if (row && row->until > now) return row;
  look(std::span(&id, 1));
  return seen(id);
}

void Sessions::forget(SessionId id) {
  const std::lock_guard lock(mutex_);
  seen_.erase(id);
}

void Sessions::close(SessionId id) {
  client_.pipeline(Purpose::ledger, {{"HDEL", keys_.sessions(), std::to_string(id)}, {"DEL", groups_key(id)}});
  const std::lock_guard lock(mutex_);
  seen_.erase(id);
  used_.erase(id);
}

void Sessions::drop_ended(std::span<const SessionId> ids) {
  if (ids.empty()) return;
  std::vector<std::string> args{"end"};
  std::vector<Command> sets;
  for (const SessionId id : ids) {
    args.push_back(std::to_string(id));
    sets.push_back({"DEL", groups_key(id)});
  }
  client_.run(Purpose::ledger, scripts::session, {keys_.sessions(), keys_.meta()}, std::move(args));
  client_.pipeline(Purpose::ledger, std::move(sets));
  const std::lock_guard lock(mutex_);
  for (const SessionId id : ids) {
    seen_.erase(id);
    used_.erase(id);
  }
}

std::map<SessionId, SessionRow> Sessions::all() {
  const Reply reply = client_.call(Purpose::ledger, {"HGETALL", keys_.sessions()}, Access::read);
  const auto& items = reply.as_array();
  std::map<SessionId, SessionRow> rows;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    rows.emplace(decode_number(items[i].as_text(), "session"), decode_session(items[i + 1].as_text()));
  }
  return rows;
}

void Sessions::note_use(SessionId id, const GroupName& group) {
  const std::lock_guard lock(mutex_);
  used_[id].insert(group);
}

std::set<std::string> Sessions::users_of(const GroupName& group, Timestamp now) const {
  const std::lock_guard lock(mutex_);
  std::set<std::string> users;
  for (const auto& [id, groups] : used_) {
    const auto session = seen_.find(id);
    if (session == seen_.end() || session->second.until <= now || !groups.contains(group)) continue;
    users.insert(session->second.consumer);
  }
  return users;
}

std::set<GroupName> Sessions::used(SessionId id) const {
  const std::lock_guard lock(mutex_);
  const auto it = used_.find(id);
  return it == used_.end() ? std::set<GroupName>{} : it->second;
}

std::string Sessions::groups_key(SessionId id) const {
  return keys_.sessions() + ":" + std::to_string(id) + ":groups";
}

Command Sessions::use_command(SessionId id, const GroupName& group) const {
  return {"SADD", groups_key(id), group.str()};
}

std::set<GroupName> Sessions::groups_of(SessionId id) {
  std::set<GroupName> groups = used(id);
  const Reply reply = client_.call(Purpose::ledger, {"SMEMBERS", groups_key(id)}, Access::read);
  for (const Reply& name : reply.as_array()) groups.emplace(name.as_text());
  return groups;
}

}  // namespace millrace::store::redis
