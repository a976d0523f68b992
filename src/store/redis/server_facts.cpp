// SPDX-License-Identifier: Apache-2.0
#include "store/redis/server_facts.hpp"

#include <charconv>
#include <string_view>
#include <utility>

namespace millrace::store::redis {
namespace {

constexpr int kOldestMajor = 7;
constexpr std::string_view kOldest = "7.0";

/// The value of `name:` in what INFO answers.
std::string info_value(std::string_view info, std::string_view name) {
  while (!info.empty()) {
    std::string_view line = info.substr(0, info.find('\n'));
    info.remove_prefix(std::min(info.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with(name) && line.substr(name.size()).starts_with(':')) {
      return std::string(line.substr(name.size() + 1));
    }
  }
  return {};
}

/// The value of `name` in an array of names and values.
std::string pair_value(const Reply& pairs, std::string_view name) {
  for (std::size_t i = 0; pairs.kind == Reply::Kind::array && i + 1 < pairs.items.size(); i += 2) {
    if (pairs.items[i].text == name) return pairs.items[i + 1].text;
  }
  return {};
}

std::int64_t number_of(std::string_view text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Error unfit(Errc code, const RedisUrl& url, std::string message) {
  return {code, "open store", url.describe(), std::move(message)};
}

std::string why_weaker(const ServerFacts& facts) {
  if (facts.appendonly == "no") return "appendonly is no: a restart loses what was not in a snapshot; set it to yes";
  if (facts.appendfsync != "always") {
    return "appendfsync is " + facts.appendfsync + ": a crash of its machine loses the latest writes; set it to always";
  }
  return "no-appendfsync-on-rewrite is yes: while it rewrites its file nothing is synced; set it to no";
}

std::optional<Error> why_too_weak(const ServerFacts& facts, const RedisUrl& url) {
  const Level asked = url.durability.value_or(Level::durable);
  const Level given = facts.level();
  if (given == Level::unknown) {
    if (url.durability) return std::nullopt;  // the URL's word is taken
    return unfit(
        Errc::invalid_argument, url,
        "whether its writes are durable cannot be read: the ACL forbids CONFIG GET (+config|get allows it); or "
        "say what the server does by durability=durable, relaxed or memory in the URL, or accept not to know "
        "by durability=unknown");
  }
  if (given >= asked) return std::nullopt;
  return unfit(Errc::invalid_argument, url,
               "its writes are " + std::string(to_string(given)) + " and the URL asks for " +
                   std::string(to_string(asked)) + ": " + why_weaker(facts) +
                   ", or accept less by durability=" + std::string(to_string(given)) + " in the URL");
}

}  // namespace

Level ServerFacts::level() const noexcept {
  if (appendonly == "no") return Level::memory;
  if (appendonly.empty() || appendfsync.empty() || no_fsync_on_rewrite.empty()) return Level::unknown;
  return appendfsync == "always" && no_fsync_on_rewrite == "no" ? Level::durable : Level::relaxed;
}

std::vector<std::string> config_question() {
  return {"CONFIG",          "GET", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "aof-load-truncated",
          "maxmemory-policy"};
}

ServerFacts read_facts(const Reply* hello, const Reply& info, const Reply& config) {
  ServerFacts facts;
  if (hello != nullptr) {
    facts.version = pair_value(*hello, "version");
    facts.mode = pair_value(*hello, "mode");
    facts.role = pair_value(*hello, "role");
    if (facts.role == "replica") facts.role = "slave";
  }
  if (info.kind == Reply::Kind::text) {
    const std::string& text = info.text;
    facts.version = info_value(text, "redis_version");
    facts.mode = info_value(text, "redis_mode");
    if (info_value(text, "cluster_enabled") == "1") facts.mode = "cluster";
    if (const std::string role = info_value(text, "role"); !role.empty()) facts.role = role;
    facts.loading = info_value(text, "loading") == "1";
    facts.replicas = number_of(info_value(text, "connected_slaves"));
    facts.maxmemory_policy = info_value(text, "maxmemory_policy");
    if (info_value(text, "aof_enabled") == "0") facts.appendonly = "no";  // known without CONFIG
  }
  if (config.kind == Reply::Kind::array) {
    facts.appendonly = pair_value(config, "appendonly");
    facts.appendfsync = pair_value(config, "appendfsync");
    facts.no_fsync_on_rewrite = pair_value(config, "no-appendfsync-on-rewrite");
    facts.load_truncated = pair_value(config, "aof-load-truncated");
    facts.maxmemory_policy = pair_value(config, "maxmemory-policy");
  }
  return facts;
}

Level level_of(const ServerFacts& facts, const RedisUrl& url) noexcept {
  const Level given = facts.level();
  return given == Level::unknown ? url.durability.value_or(Level::unknown) : given;
}

std::optional<Error> why_unfit(const ServerFacts& facts, const RedisUrl& url) {
  if (facts.mode == "sentinel") {
    return unfit(Errc::invalid_argument, url,
                 "this is a Redis Sentinel, which this store does not support; name the server itself");
  }
  if (facts.mode == "cluster") {
    return unfit(
        Errc::invalid_argument, url,
        "this server is part of a Redis Cluster (cluster-enabled yes), which this store does not support; name "
        "a server of its own");
  }
  if (number_of(facts.version) < kOldestMajor) {
    return unfit(Errc::unsupported_version, url,
                 facts.version.empty()
                     ? "which version it is cannot be read; " + std::string(kOldest) + " is needed"
                     : "this is Redis " + facts.version + "; " + std::string(kOldest) + " or newer is needed");
  }
  if (facts.loading) return unfit(Errc::unavailable, url, "the server is still loading its data");
  if (facts.role == "slave") {
    return unfit(Errc::unavailable, url, "this server is a replica, which takes no writes; name the master");
  }
  if (!facts.maxmemory_policy.empty() && facts.maxmemory_policy != "noeviction") {
    return unfit(Errc::invalid_argument, url,
                 "maxmemory-policy is " + facts.maxmemory_policy +
                     ": short of memory it would throw away events and groups; set maxmemory-policy to noeviction");
  }
  if (std::optional<Error> weak = why_too_weak(facts, url)) return weak;
  if (facts.replicas < static_cast<std::int64_t>(url.replicas)) {
    return unfit(Errc::unavailable, url,
                 "it has " + std::to_string(facts.replicas) +
                     " connected replicas and the URL asks for replicas=" + std::to_string(url.replicas));
  }
  return std::nullopt;
}

std::optional<Store::Doubt> why_doubtful(const ServerFacts& facts) {
  if (facts.appendonly != "yes" || facts.load_truncated != "yes") return std::nullopt;
  return Store::Doubt{"aof-load-truncated is yes",
                      "when the server is killed while it writes, its second start after that may bring back a part of "
                      "what nobody was answered, such as events that were published again meanwhile",
                      "set it to no, and run redis-check-aof --fix before a start (docs/stores.md)"};
}

}  // namespace millrace::store::redis
