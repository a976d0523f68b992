// SPDX-License-Identifier: Apache-2.0

// One Redis server (and prefix) as a store: opening, the order in which its parts start and stop, what it counts.

#include <algorithm>
#include <array>

#include "base/log.hpp"
#include "millrace/store.hpp"
#include "store/redis/foundation.hpp"
#include "store/redis/house.hpp"
#include "store/redis/key_value.hpp"
#include "store/redis/ledger.hpp"
#include "store/redis/log.hpp"
#include "store/redis/watch.hpp"
#include "store/url.hpp"

namespace millrace::store {
namespace redis {
namespace {

class RedisStore final : public Store {
 public:
  RedisStore(RedisUrl url, const StoreOptions& options)
      : owner_(options.access == StoreOptions::Access::owner),
        client_(std::move(url)),
        keys_(client_.key({})),
        watchers_(client_, keys_),
        log_(client_, {.dedup_keep = options.dedup_keep,
                       .mapping = client_.url().foreign,
                       .watch = [this](std::function<void()> changed) { return watchers_.watch(std::move(changed)); }}),
        ledger_(client_, {.history = options.history, .mapping = client_.url().foreign, .keeps_house = owner_}),
        kv_(client_, keys_) {}

  /// Separate from the constructor, so that a failure here is followed by an orderly end.
  void start(bool create) {
    const auto found = look_at_foundation(client_, keys_, create);
    if (!found) {
      throw Error(Errc::not_found, "open store", client_.url().describe(),
                  "there is no store on this server" +
                      (keys_.prefix().empty() ? std::string{} : " under the prefix '" + keys_.prefix() + "'") +
                      "; `millrace serve` makes one, and so does `millrace store init`");
    }
    if (create) log_.ensure_streams(std::array{StreamName(kDefaultStream), StreamName("logs")});
    house_ = std::make_unique<House>(
        House::Parts{client_, keys_, log_, ledger_, kv_, owner_, found->made_at,
                     [this](const std::vector<StreamName>& streams) { watchers_.follow(streams); }});
    house_->start();
    if (owner_) log_.start_retention();
  }

  ~RedisStore() override {
    if (house_) house_->stop();
    log_.stop();
    watchers_.stop();
  }

  EventLog& log() override { return log_; }
  Ledger& ledger() override { return ledger_; }
  KeyValue& kv() override { return kv_; }
  [[nodiscard]] Capabilities capabilities() const override {
    const Durability strongest = durability_of(client_.level());
    return {"redis", strongest, true, true, strongest == Durability::relaxed};
  }
  [[nodiscard]] std::string describe() const override {
    return client_.url().describe() + (owner_ ? " (shared, redis " : " (tool, redis ") + client_.facts().version + ")";
  }
  [[nodiscard]] std::vector<Figure> figures() const override;
  [[nodiscard]] std::vector<Pool> pools() const override;
  [[nodiscard]] std::vector<Doubt> doubts() const override {
    const std::optional<Doubt> doubt = why_doubtful(client_.facts());
    return doubt ? std::vector<Doubt>{*doubt} : std::vector<Doubt>{};
  }
  void backup(const std::string& to) override {
    throw Error(Errc::invalid_argument, "back up", to,
                "Redis makes its own backups: `redis-cli --rdb FILE` takes a snapshot while it serves, BGREWRITEAOF "
                "shortens the append-only file for copying; a server started on such files is the restored store");
  }

 private:
  bool owner_;
  Client client_;
  Keys keys_;
  Watchers watchers_;
  RedisLog log_;
  RedisLedger ledger_;
  RedisKeyValue kv_;
  std::unique_ptr<House> house_;
};

std::vector<Store::Figure> RedisStore::figures() const {
  std::vector<Figure> all;
  const auto figure = [&](std::string name, std::string help, auto value) {
    all.push_back({std::move(name), std::move(help), static_cast<double>(value)});
  };
  const auto seconds = [](std::chrono::microseconds time) { return std::chrono::duration<double>(time).count(); };
  const TurnMeter::Figures turns = client_.turns();
  figure("loop_turn_seconds",
         "Longest turn of the thread that talks to the server, of the last one to two minutes, by the clock.",
         seconds(turns.longest));
  figure("loop_turn_processor_seconds", "The same by the processor time it used.", seconds(turns.longest_processor));
  figure("loop_stalls_total", "Turns of that thread that used more than 5 ms of processor time.", turns.stalls);
  const RedisLedger::Figures ledger = ledger_.figures();
  figure("commits_total", "Decisions on groups that were written.", ledger.commits);
  figure("lost_races_total", "Those that another process was faster than; decided anew.", ledger.lost_races);
  figure("group_loads_total", "Times a group's rows were read.", ledger.loads);
  figure("vanished_groups_total", "Groups that were gone though nobody deleted them.", ledger.vanished_groups);
  figure("native_failures_total", "Commands on native groups that failed: what XINFO shows may be behind.",
         ledger.native_failures);
  figure("foreign_taken_total", "Events seen to be read by foreign consumers.", ledger.foreign_taken);
  figure("set_aside_total", "Entries of other producers that are no events, passed over.", ledger.set_aside);
  figure("lost_events_total", "Events that others removed from a stream before a group got them, for each group.",
         ledger.lost_events);
  const RetentionSchedule::Figures retention = log_.retention_figures();
  figure("retention_trims_total", "Trims by the retention of a stream.", retention.trims);
  figure("retention_removed_events_total", "Events those removed.", retention.removed_events);
  figure("retention_failures_total", "Trims by retention that failed and will be repeated.", retention.failures);
  const House::Figures house = house_->figures();
  figure("emptied_total", "Times the server was found without the store, which was made anew.", house.emptied);
  if (!client_.figures(Purpose::key_value).connected) return all;  // what only the server knows
  figure("server_memory_bytes", "Memory the server uses, for all that is in it.", house.used_memory);
  figure("memory_per_event_bytes", "Memory of an event in the log, with what tells its repetitions; about.",
         house.memory_per_event);
  return all;
}

std::vector<Store::Pool> RedisStore::pools() const {
  const std::optional<Error> refusal = client_.refusal();
  std::vector<Pool> all;
  const auto add = [&](std::string_view name, const Client::Figures& of, bool writes) {
    std::string why = of.last_error;
    if (of.connected && writes && refusal) why = "writes are refused: " + refusal->message();
    all.push_back({std::string(name), of.connected, of.since, std::move(why), of.connects, of.errors, of.in_flight,
                   of.queued, of.oldest});
  };
  for (const Purpose purpose : kPurposes) add(to_string(purpose), client_.figures(purpose), true);
  add("listener", watchers_.figures(), false);
  return all;
}

}  // namespace
}  // namespace redis

std::unique_ptr<Store> open_redis_store(const StoreUrl& given_url, const StoreOptions& given) {
  using namespace redis;
  StoreUrl url = given_url;
  const auto floor = std::find_if(url.options.begin(), url.options.end(),
                                  [](const auto& option) { return option.first == "min_free"; });
  if (floor != url.options.end()) {
    throw Error(Errc::invalid_argument, "open store", "min_free",
                "is for stores that write files of their own; on Redis the server's `maxmemory` is the limit");
  }
  RedisUrl redis_url = parse_redis_url(url);
  auto store = std::make_unique<RedisStore>(std::move(redis_url), with_url_options(url, given));
  store->start(given.create);
  return store;
}

}  // namespace millrace::store
