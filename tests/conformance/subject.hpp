// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A store under test: how it is opened, opened again, and what a broken promise looks like.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "millrace/store.hpp"
#include "neighbour.hpp"
#include "support/redis_server.hpp"

namespace millrace::conformance {

/// A promise the store did not keep. Checks throw it instead of using test macros, so that the suite can be run against
/// stores that are meant to fail.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void require(bool kept, const std::string& promise) {
  if (!kept) throw Violation(promise);
}
template <class A, class B>
void require_equal(const A& actual, const B& expected, const std::string& what) {
  if (actual == expected) return;
  if constexpr (requires { std::to_string(actual) + std::to_string(expected); }) {
    throw Violation(what + ": is " + std::to_string(actual) + ", not " + std::to_string(expected));
  } else {
    throw Violation(what + ": not as expected");
  }
}
/// \throws Violation unless `call` throws Error{code}
void require_error(Errc code, const std::string& what, const std::function<void()>& call);

/// One line of the table: a store with its options.
struct StoreCase {
  std::string name;
  std::string url;                         ///< `{dir}` stands for an empty directory of its own
  bool persistent = false;                 ///< opened again, it is all there; other processes may open it as tools
  bool hostile_neighbour = false;          ///< somebody else is at the native groups all the time
  Durability level = Durability::durable;  ///< what appends ask for
  /// Settings of a redis-server of its own; `{redis}` stands for its socket.
  std::vector<std::pair<std::string, std::string>> redis = {};
};
const std::vector<StoreCase>& store_cases();

using Wrap = std::function<std::unique_ptr<Store>(std::unique_ptr<Store>)>;

class Subject {
 public:
  explicit Subject(StoreCase store_case, Wrap wrap = {});
  ~Subject();
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  [[nodiscard]] const StoreCase& about() const { return case_; }
  [[nodiscard]] std::string url() const;
  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  [[nodiscard]] const Wrap& wrap() const { return wrap_; }
  Store& store() { return *store_; }
  EventLog& log() { return store_->log(); }
  Ledger& ledger() { return store_->ledger(); }
  KeyValue& kv() { return store_->kv(); }
  /// What the server's ACL refused; empty when nothing.
  [[nodiscard]] std::string denied() const;
  /// Null when there is none.
  [[nodiscard]] const Neighbour* neighbour() const { return neighbour_.get(); }
  void reopen();
  /// Opened again with options of its own, e.g. "dedup_keep=1". A store that keeps nothing is a new one then.
  void reopen_with(const std::string& url_options);

  std::vector<AppendResult> append(const std::vector<Event>& events, const StreamName& stream = kDefaultStream);
  Position append(const Event& event) { return append(std::vector<Event>{event}).at(0).position.value(); }

 private:
  StoreCase case_;
  Wrap wrap_;
  std::string url_options_;
  std::filesystem::path dir_;
  std::unique_ptr<test::RedisServer> redis_;
  std::uint64_t seed_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Neighbour> neighbour_;
};

/// `count` scaled by MILLRACE_TEST_SCALE (default 1), at least 1.
std::size_t scaled(std::size_t count);

/// A small event of its own.
Event make_event(const std::string& id, const std::string& type = "order.placed", const std::string& key = {},
                 const std::string& data = "{}");
/// A group from the beginning of the default stream.
GroupSpec from_beginning(OrderRule order = {}, std::vector<std::string> types = {}, GroupSettings settings = {});
ClaimRequest claim_by(const std::string& consumer, std::size_t max = 100, Milliseconds lease = Milliseconds{600'000});
std::size_t settle_all(Subject& subject, const GroupName& group, const std::vector<Delivery>& deliveries,
                       const Outcome& outcome);  ///< how many were stale

/// One promise, checked on a fresh store. Throws Violation.
struct Check {
  const char* name;
  void (*run)(Subject&);
};
const std::vector<Check>& checks();

void check_random_operations(Subject&);
void check_concurrent_use(Subject&);
void check_several_processes(Subject&);
void check_reopen(Subject&);
void check_order_between_consumers(Subject&);
void check_innocent_neighbours(Subject&);
void check_poison(Subject&);
void check_stale_leases(Subject&);
void check_sessions(Subject&);
void check_extend(Subject&);
void check_append_and_read(Subject&);
void check_payloads(Subject&);
void check_idempotency(Subject&);
void check_async_appends(Subject&);
void check_read_queries(Subject&);
void check_group_identity(Subject&);
void check_starts(Subject&);
void check_trim(Subject&);
void check_find(Subject&);
void check_dry_run(Subject&);
void check_retention(Subject&);
void check_erase(Subject&);
void check_group_expiry(Subject&);
void check_ids_forgotten(Subject&);
void check_lag(Subject&);
void check_dead_letters(Subject&);
void check_where(Subject&);
void check_replay(Subject&);
void check_history(Subject&);
void check_history_ends(Subject&);
void check_dead_letter_queries(Subject&);
void check_max_parked(Subject&);
void check_expirytime(Subject&);
void check_expired_dead_letter(Subject&);
void check_next_try(Subject&);
void check_watch(Subject&);
void check_key_value(Subject&);
void check_capabilities(Subject&);

}  // namespace millrace::conformance
