// SPDX-License-Identifier: Apache-2.0
#include "subject.hpp"

#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

namespace millrace::conformance {
namespace {

std::uint64_t chosen_seed() {
  if (const char* text = std::getenv("MILLRACE_TEST_SEED")) return std::strtoull(text, nullptr, 10);
  return std::random_device{}();
}

#ifdef MILLRACE_HAS_REDIS
/// The rights that docs/operations.md says are enough, for a user `millrace` with the password "pw" and keys that match
/// `pattern` only.
std::string documented_rights(const std::string& pattern) {
  std::ifstream file(MILLRACE_CHECKOUT "/docs/operations.md");
  std::string rights = "millrace on >pw ~" + pattern + " &" + pattern + " -@all";
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    inside = (inside && !line.empty()) || line.find("ACL SETUSER millrace ") != std::string::npos;
    std::istringstream words(inside ? line : "");
    for (std::string word; words >> word;) {
      if (word.starts_with('+')) rights += " " + word;
    }
  }
  return rights;
}
#endif

std::filesystem::path fresh_directory() {
  std::string path = (std::filesystem::temp_directory_path() / "millrace-conformance-XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot make a directory like " + path);
  return path;
}

}  // namespace

// A new store is one more line here.
const std::vector<StoreCase>& store_cases() {
  static const std::vector<StoreCase> cases{
      {.name = "memory", .url = "memory:"},
      {.name = "sqlite", .url = "sqlite:{dir}/events.db", .persistent = true},
      {.name = "sqlite_relaxed", .url = "sqlite:{dir}/events.db", .persistent = true, .level = Durability::relaxed},
#ifdef MILLRACE_HAS_REDIS
      {.name = "redis",
       .url = "redis+unix:{redis}",
       .persistent = true,
       .redis = {{"appendonly", "yes"}, {"appendfsync", "always"}}},
      {.name = "redis_relaxed",
       .url = "redis+unix:{redis}?durability=relaxed",
       .persistent = true,
       .level = Durability::relaxed,
       .redis = {{"appendonly", "yes"}, {"appendfsync", "everysec"}}},
      {.name = "redis_prefix",
       .url = "redis+unix://millrace:pw@{redis}?db=3&prefix=some%5B*%5D-prefix:&durability=memory",
       .persistent = true,
       .redis = {{"appendonly", "no"}, {"user", documented_rights(R"(some\[\*\]-prefix:*)")}}},
      {.name = "redis_neighbour",
       .url = "redis+unix:{redis}?durability=memory",
       .persistent = true,
       .hostile_neighbour = true,
       .redis = {{"appendonly", "no"}}},
#endif
  };
  return cases;
}

void require_error(Errc code, const std::string& what, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    require(error.code() == code, what + ": answered " + std::string(to_string(error.code())) + " instead of " +
                                      std::string(to_string(code)) + " (" + error.what() + ")");
    return;
  }
  throw Violation(what + ": did not fail with " + std::string(to_string(code)));
}

Subject::Subject(StoreCase store_case, Wrap wrap)
    : case_(std::move(store_case)), wrap_(std::move(wrap)), dir_(fresh_directory()), seed_(chosen_seed()) {
  if (!case_.redis.empty())
    redis_ = std::make_unique<test::RedisServer>(test::RedisServer::Options{.settings = case_.redis});
  if (case_.hostile_neighbour) neighbour_ = std::make_unique<Neighbour>(redis_->socket());
  reopen();
}

Subject::~Subject() {
  store_.reset();
  neighbour_.reset();
  redis_.reset();
  std::error_code ignored;  // a directory left in the temporary folder fails no promise
  std::filesystem::remove_all(dir_, ignored);
}

std::string Subject::denied() const {
  return redis_ ? redis_->cli({"ACL", "LOG"}) : std::string();
}

std::string Subject::url() const {
  std::string url = case_.url;
  if (!url_options_.empty()) url += (url.find('?') == std::string::npos ? "?" : "&") + url_options_;
  if (const auto at = url.find("{dir}"); at != std::string::npos) url.replace(at, 5, dir_.string());
  if (const auto at = url.find("{redis}"); at != std::string::npos) url.replace(at, 7, redis_->socket());
  return url;
}

void Subject::reopen_with(const std::string& url_options) {
  url_options_ = url_options;
  reopen();
}

void Subject::reopen() {
  store_.reset();
  StoreOptions options;
  options.url = url();
  options.min_free_bytes = 0;
  store_ = open_store(options);
  if (wrap_) store_ = wrap_(std::move(store_));
}

std::vector<AppendResult> Subject::append(const std::vector<Event>& events, const StreamName& stream) {
  return log().append(stream, events, case_.level);
}

std::size_t scaled(std::size_t count) {
  const char* text = std::getenv("MILLRACE_TEST_SCALE");
  const double factor = text ? std::strtod(text, nullptr) : 1.0;
  return std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(count) * (factor > 0 ? factor : 1.0)));
}

Event make_event(const std::string& id, const std::string& type, const std::string& key, const std::string& data) {
  Event event;
  event.id = id;
  event.source = "/conformance";
  event.type = type;
  event.subject = key;
  event.datacontenttype = "application/json";
  event.data = data;
  return event;
}

GroupSpec from_beginning(OrderRule order, std::vector<std::string> types, GroupSettings settings) {
  return {.stream = StreamName(kDefaultStream),
          .start = Start::beginning(),
          .types = std::move(types),
          .order = std::move(order),
          .settings = settings};
}

ClaimRequest claim_by(const std::string& consumer, std::size_t max, Milliseconds lease) {
  ClaimRequest request;
  request.consumer = consumer;
  request.max = max;
  request.hold = lease;
  return request;
}

std::size_t settle_all(Subject& subject, const GroupName& group, const std::vector<Delivery>& deliveries,
                       const Outcome& outcome) {
  std::vector<Settlement> settlements;
  for (const Delivery& delivery : deliveries) settlements.push_back({delivery.lease, outcome});
  return subject.ledger().settle(group, settlements).size();
}

const std::vector<Check>& checks() {
  static const std::vector<Check> all{
      {"append_and_read", check_append_and_read},
      {"payloads", check_payloads},
      {"idempotency", check_idempotency},
      {"async_appends", check_async_appends},
      {"read_queries", check_read_queries},
      {"group_identity", check_group_identity},
      {"starts", check_starts},
      {"order_between_consumers", check_order_between_consumers},
      {"innocent_neighbours", check_innocent_neighbours},
      {"poison", check_poison},
      {"stale_leases", check_stale_leases},
      {"sessions", check_sessions},
      {"extend", check_extend},
      {"trim", check_trim},
      {"find", check_find},
      {"dry_run", check_dry_run},
      {"retention", check_retention},
      {"erase", check_erase},
      {"group_expiry", check_group_expiry},
      {"ids_forgotten", check_ids_forgotten},
      {"lag", check_lag},
      {"dead_letters", check_dead_letters},
      {"where", check_where},
      {"replay", check_replay},
      {"history", check_history},
      {"history_ends", check_history_ends},
      {"dead_letter_queries", check_dead_letter_queries},
      {"max_parked", check_max_parked},
      {"expirytime", check_expirytime},
      {"expired_dead_letter", check_expired_dead_letter},
      {"next_try", check_next_try},
      {"watch", check_watch},
      {"key_value", check_key_value},
      {"capabilities", check_capabilities},
      {"random_operations", check_random_operations},
      {"reopen", check_reopen},
      {"concurrent_use", check_concurrent_use},
      {"several_processes", check_several_processes},
  };
  return all;
}

}  // namespace millrace::conformance
