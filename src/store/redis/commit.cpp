// SPDX-License-Identifier: Apache-2.0
#include "store/redis/commit.hpp"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <thread>

#include "base/random.hpp"
#include "base/uuid.hpp"
#include "store/redis/entry.hpp"
#include "store/redis/group_rows.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

/// Words of one command: a script can hand on some 8,000.
constexpr std::size_t kMostWords = 2'000;
/// Redis takes about a million words per command, and hangs up on more.
constexpr std::size_t kMostOfAll = 1'000'000;

std::string new_name() {
  static const std::string process = new_uuid_v7();
  static std::atomic<std::uint64_t> count{0};
  return process + "-" + std::to_string(++count);
}

/// On which watchers are told that something became claimable.
std::string wake_channel(const Keys& keys) {
  return keys.prefix() + "millrace:wake";
}

void add(std::vector<std::string>& to, Command words, bool native = false) {
  to.push_back((native ? "?" : "") + std::to_string(words.size()));
  std::move(words.begin(), words.end(), std::back_inserter(to));
}

}  // namespace

Commit::Commit(const Keys& keys, const GroupName& group) : keys_(keys), group_(group), name_(new_name()) {}

void Commit::require_session_is(SessionId session, const std::string& row) {
  add(preconditions_, {"session_is", std::to_string(session), row});
}

void Commit::require_session_lives(SessionId session) {
  add(preconditions_, {"session_lives", std::to_string(session)});
}

void Commit::require_not_before(Timestamp time) {
  add(preconditions_, {"not_before", std::to_string(time.time_since_epoch().count())});
}

void Commit::require_native_at(const StreamName& stream, Ordinal cursor) {
  add(preconditions_, {"native_at", keys_.log(stream), group_.str(), id_of(behind(cursor))});
}

void Commit::require_removed_is(const StreamName& stream, std::uint64_t removed) {
  add(preconditions_, {"removed_is", keys_.log(stream), std::to_string(removed)});
}

void Commit::require_field_is(std::string_view field, std::string value) {
  add(preconditions_, {"field_is", std::string(field), std::move(value)});
}

void Commit::command(Command command) {
  add(commands_, std::move(command));
}

void Commit::native(Command command) {
  add(commands_, std::move(command), true);
}

void Commit::each(const Command& head, const std::vector<std::string>& words, const Command& tail, bool native) {
  for (std::size_t from = 0; from < words.size(); from += kMostWords) {
    const std::size_t to = std::min(words.size(), from + kMostWords);
    Command command = head;
    command.insert(command.end(), words.begin() + static_cast<std::ptrdiff_t>(from),
                   words.begin() + static_cast<std::ptrdiff_t>(to));
    command.insert(command.end(), tail.begin(), tail.end());
    add(commands_, std::move(command), native);
  }
}

void Commit::keep_copy(const StreamName& stream, Ordinal ordinal) {
  const Position position = unpack(ordinal);
  const std::string id = id_of(position);
  command(
      {"millrace.copy", keys_.log(stream), id, keys_.erased(stream), shell_prefix(position), keys_.events(group_), id});
}

void Commit::drop_copy(Ordinal ordinal) {
  command({"millrace.drop", keys_.events(group_), id_of(unpack(ordinal)), keys_.dead(group_)});
}

void Commit::wake() {
  if (wakes_) return;
  wakes_ = true;
  native({"PUBLISH", wake_channel(keys_), group_.str()});  // an ACL may forbid it: others look from time to time anyway
}

Commit::Answer Commit::run(Client& client, const std::string& expected, bool count_up, bool impatient) {
  std::vector<std::string> args;
  args.reserve(preconditions_.size() + commands_.size() + 5);
  args.push_back(expected);
  args.emplace_back(count_up ? "1" : "0");
  args.push_back(name_);
  args.emplace_back(impatient ? "1" : "0");
  std::move(preconditions_.begin(), preconditions_.end(), std::back_inserter(args));
  args.emplace_back("0");
  std::move(commands_.begin(), commands_.end(), std::back_inserter(args));
  if (args.size() > kMostOfAll) {
    throw Error(Errc::too_large, "commit", group_.str(),
                "this changes more at once than Redis takes in one command; nothing was changed");
  }
  const Reply reply = client.run(Purpose::ledger, scripts::commit,
                                 {keys_.group(group_), keys_.sessions(), keys_.turn(group_)}, std::move(args));
  const auto& items = reply.as_array();
  using Kind = Answer::Kind;
  if (items.at(0).as_integer() == 1) {
    return {Kind::done, items.at(1).is_nil() ? std::string{} : items.at(1).as_text(), items.at(3).as_text(), {}};
  }
  const std::string& reason = items.at(1).as_text();
  if (reason == "moved") return {.kind = Kind::moved};
  if (reason == "wait") {  // for some moments another process goes first: asked at once, the answer would be the same
    std::this_thread::sleep_for(std::chrono::microseconds{static_cast<int>(250 + 1'000 * random_unit())});
    return {.kind = Kind::moved};
  }
  if (reason == "unknown") return {.kind = Kind::unknown};
  if (reason == "session_moved" || reason == "session_ended") {
    return {.kind = reason == "session_moved" ? Kind::session_moved : Kind::session_ended,
            .session = decode_number(items.at(2).as_text(), "session")};
  }
  if (reason == "removed") return {.kind = Kind::removed};
  if (reason == "read_on") return {.kind = Kind::read_on};
  if (reason != "early") throw Error(Errc::internal, "commit", group_.str(), "the script refused with " + reason);
  return {.kind = Kind::early, .server_time = decode_time(items.at(2).as_text())};
}

std::optional<std::string> Commit::look_up(Client& client, const std::string& expected) const {
  const Reply reply = client.call(
      Purpose::ledger, {"HMGET", keys_.group(group_), std::string(group_field::kVersion), "commit"}, Access::read);
  const Reply& version = reply.as_array().at(0);
  const Reply& commit = reply.as_array().at(1);
  if (!version.is_nil() && !commit.is_nil() && commit.as_text() == name_) return version.as_text();
  if (!version.is_nil() && version.as_text() == expected) return std::string{};
  return std::nullopt;
}

}  // namespace millrace::store::redis
