// SPDX-License-Identifier: Apache-2.0
#include "store/redis/house.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/log.hpp"
#include "base/uuid.hpp"
#include "store/redis/foundation.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

constexpr std::chrono::seconds kStep{1};
constexpr std::chrono::seconds kStreamsEvery{5};
constexpr std::chrono::seconds kCleanEvery{5};
constexpr std::chrono::seconds kWeighEvery{60};
/// Of several processes one takes expired keys out of the index; when it ends, another does after so long.
constexpr Milliseconds kLease{30'000};

const std::string& self() {
  static const std::string name = new_uuid_v7();
  return name;
}

/// "used_memory:1234" among the lines of INFO.
double info_number(const std::string& info, std::string_view name) {
  const std::size_t at = info.find("\n" + std::string(name) + ":");
  if (at == std::string::npos) return 0;
  const char* const begin = info.data() + at + name.size() + 2;
  std::uint64_t value = 0;
  std::from_chars(begin, info.data() + info.size(), value);
  return static_cast<double>(value);
}

}  // namespace

void House::start() {
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void House::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void House::look() {
  {
    const std::lock_guard lock(mutex_);
    look_ = true;
  }
  wake_.notify_all();
}

void House::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    try {
      step();
      troubled_ = false;
    } catch (const Error& error) {
      // While the server is away every call says so; here once is enough.
      if (!std::exchange(troubled_, true) && error.code() != Errc::stopped) log::write(log::Level::warn, error);
    }
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, kStep, [this] { return look_; });
    if (std::exchange(look_, false)) streams_at_ = {};
  }
}

void House::step() {
  look_at_store();
  if (parts_.owner) look_at_groups();
  const auto now = Clock::now();
  if (now - streams_at_ >= kStreamsEvery) {
    look_at_streams();
    streams_at_ = now;
  }
  if (parts_.owner && now - cleaned_at_ >= kCleanEvery) {
    clean_keys();
    cleaned_at_ = now;
  }
  if (now - weighed_at_ >= kWeighEvery) {
    weigh();
    weighed_at_ = now;
  }
}

void House::look_at_store() {
  const auto found = look_at_foundation(parts_.client, parts_.keys, parts_.owner);
  if (found && found->made_at == parts_.made_at) return;
  if (!parts_.owner) return;
  ++emptied_;
  log::error("store_emptied", parts_.client.url().describe(),
             "the server came back empty: its data was deleted (FLUSHALL, FLUSHDB), or it was restarted without it. A "
             "new store is made, with " +
                 std::to_string(groups_.size()) + " groups that begin anew; events from before are gone");
  make_again();
  parts_.made_at = found->made_at;
}

void House::make_again() {
  std::vector<StreamName> streams = streams_;
  streams.emplace_back(kDefaultStream);
  streams.emplace_back("logs");
  parts_.log.ensure_streams(streams);
  for (const GroupInfo& group : groups_) {
    if (!parts_.ledger.make_again(group)) continue;
    log::warn("group_made_again", group.name.str(), "it was lost with the store, and begins at its beginning");
  }
  streams_at_ = {};
}

void House::look_at_streams() {
  const Reply reply = parts_.client.call(Purpose::ledger, {"SMEMBERS", parts_.keys.streams()}, redis::Access::read);
  std::vector<StreamName> streams;
  for (const Reply& name : reply.as_array()) streams.emplace_back(name.as_text());
  std::sort(streams.begin(), streams.end());
  if (streams == streams_) return;
  streams_ = std::move(streams);
  parts_.follow(streams_);
}

void House::look_at_groups() {
  const Reply reply = parts_.client.call(Purpose::ledger, {"HKEYS", parts_.keys.groups()}, redis::Access::read);
  std::vector<std::string> names;
  for (const Reply& name : reply.as_array()) names.push_back(name.as_text());
  std::sort(names.begin(), names.end());
  if (names == group_names_) return;
  std::vector<GroupInfo> groups = parts_.ledger.groups();
  // The store may have gone since this step began: then what was known stays known.
  const auto found = look_at_foundation(parts_.client, parts_.keys, false);
  if (!found || found->made_at != parts_.made_at) return;
  groups_ = std::move(groups);
  group_names_ = std::move(names);
}

void House::clean_keys() {
  const Reply mine = parts_.client.run(Purpose::key_value, scripts::lease, {parts_.keys.house()},
                                       {self(), std::to_string(kLease.count())});
  if (mine.as_integer() != 1) return;
  cleaned_to_ = parts_.kv.clean(cleaned_to_);
}

void House::weigh() {
  std::vector<Command> commands{{"INFO", "memory"}};
  for (const StreamName& stream : streams_) {
    commands.push_back({"XLEN", parts_.keys.log(stream)});
    commands.push_back({"MEMORY", "USAGE", parts_.keys.log(stream)});
    commands.push_back({"MEMORY", "USAGE", parts_.keys.ids(stream)});
  }
  const std::vector<Reply> replies =
      parts_.client.pipeline(Purpose::key_value, std::move(commands), redis::Access::read);
  if (replies[0].kind == Reply::Kind::text) used_memory_ = info_number(replies[0].text, "used_memory");
  double events = 0;
  double bytes = 0;
  const auto number = [](const Reply& reply) {
    return reply.kind == Reply::Kind::integer ? static_cast<double>(reply.integer) : 0;
  };
  for (std::size_t i = 1; i + 2 < replies.size(); i += 3) {
    events += number(replies[i]);
    bytes += number(replies[i + 1]) + number(replies[i + 2]);
  }
  memory_per_event_ = events > 0 ? bytes / events : 0;
}

}  // namespace millrace::store::redis
