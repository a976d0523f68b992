// SPDX-License-Identifier: Apache-2.0

// What nobody asks for and must happen: groups that nobody uses, sessions that ended, history kept long enough.

#include "base/log.hpp"
#include "store/redis/ledger.hpp"

namespace millrace::store::redis {
namespace {

constexpr std::chrono::milliseconds kHouseEvery{1'000};

}  // namespace

void RedisLedger::run_house() {
  std::string trouble;
  std::unique_lock lock(house_mutex_);
  while (!house_ends_.wait_for(lock, kHouseEvery, [this] { return ending_; })) {
    lock.unlock();
    try {
      keep_house();
      trouble.clear();
    } catch (const Error& error) {
      // While the server is away the calls say so themselves; once is enough here.
      if (error.code() != Errc::stopped && trouble != error.message()) log::write(log::Level::warn, error);
      trouble = error.message();
    }
    lock.lock();
  }
}

std::map<std::string, std::string> RedisLedger::group_streams() {
  const Reply reply = client_.call(Purpose::ledger, {"HGETALL", keys_.groups()}, Access::read);
  const auto& items = reply.as_array();
  std::map<std::string, std::string> groups;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) groups.emplace(items[i].as_text(), items[i + 1].as_text());
  return groups;
}

void RedisLedger::keep_house() {
  end_sessions();
  for (const auto& [text, stream] : group_streams()) {
    const GroupName name(text);
    try {
      if (drop_if_unused(name, StreamName(stream))) continue;
      forget_history(name);
      forget_trimmed(name, StreamName(stream));
      const std::shared_ptr<Slot> slot = slot_of(name);
      bool watched = false;
      {
        const std::lock_guard lock(slot->mutex);
        slot->forget_read_ahead(client_.now());
        watched = slot->group && !slot->group->foreign.empty();
      }
      if (!watched) continue;
      decide(name, "keep house", [&](Turn& turn) {
        turn.group.state.expire(turn.now, session_end());
        turn.current = true;
        return 0;
      });
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;  // gone meanwhile
    }
  }
}

void RedisLedger::remove_group(Commit& commit, const GroupName& name, const StreamName& stream) const {
  commit.command({"UNLINK", keys_.group(name), keys_.claims(name), keys_.items(name), keys_.events(name),
                  keys_.dead(name), keys_.dead_order(name), keys_.history(name), keys_.history(name) + ":age"});
  commit.command({"HDEL", keys_.groups(), name.str()});
  commit.native({"XGROUP", "DESTROY", keys_.log(stream), name.str()});
}

/// A group that nobody has used for as long as it was to be kept goes, if nobody uses it in this very moment.
bool RedisLedger::drop_if_unused(const GroupName& name, const StreamName& stream) {
  const Reply reply = client_.call(Purpose::ledger,
                                   {"HMGET", keys_.group(name), std::string(group_field::kVersion),
                                    std::string(group_field::kLastSeen), std::string(group_field::kExpires)},
                                   Access::read);
  const auto& fields = reply.as_array();
  if (fields.at(0).is_nil() || fields.at(1).is_nil() || fields.at(2).is_nil() || fields[2].as_text().empty()) {
    return false;
  }
  const auto expires = std::chrono::seconds{decode_number(fields[2].as_text(), "expires")};
  const Timestamp last_seen = decode_time(fields[1].as_text());
  if (last_seen + expires > client_.now()) return false;
  Commit commit(keys_, name);
  commit.require_field_is(group_field::kLastSeen, fields[1].as_text());
  commit.require_not_before(last_seen + expires);
  remove_group(commit, name, stream);
  if (commit.run(client_, fields[0].as_text()).kind != Commit::Answer::Kind::done) return false;
  log::info("group_expired", name.str(), "nobody has used this group for as long as it was to be kept: deleted");
  const std::shared_ptr<Slot> slot = slot_of(name);
  const std::lock_guard lock(slot->mutex);
  slot->drop();
  slot->known.clear();
  slot->ever_loaded = false;
  return true;
}

/// Their claims end wherever somebody looks; those that nobody looks at, here.
void RedisLedger::end_sessions() {
  const Timestamp now = client_.now();
  std::vector<SessionId> ended;
  std::set<GroupName> used;
  for (const auto& [id, session] : sessions_.all()) {
    if (session.until > now) continue;
    ended.push_back(id);
    for (const GroupName& name : sessions_.groups_of(id)) used.insert(name);
  }
  if (ended.empty()) return;
  for (const GroupName& name : used) {
    try {
      decide(name, "end sessions", [&](Turn& turn) {
        make_current(turn);
        if (!turn.stale) turn.group.state.expire(turn.now, session_end());
        return 0;
      });
    } catch (const Error& error) {
      if (error.code() != Errc::unknown_group) throw;
    }
  }
  sessions_.drop_ended(ended);
}

}  // namespace millrace::store::redis
