// SPDX-License-Identifier: Apache-2.0
// Consume → ack: events that are there already, until the last one is acknowledged durably.

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "millrace/store.hpp"
#include "millrace/subscription.hpp"
#include "redis_bare.hpp"

namespace bench {
namespace {

constexpr const char* kStream = "events:all:stream";

/// Puts the events there, off the clock: the same fields for both.
class Consumer : public ServedContender {
 public:
  explicit Consumer(const std::string& dir) : server_(dir), store_(millrace::open_store(server_.url())) {}
  const RedisServer& server() const override { return server_; }

  void prepare(std::span<const millrace::Event> events) override {
    for (std::size_t at = 0; at < events.size(); at += kBatch) {
      const auto batch = events.subspan(at, std::min(kBatch, events.size() - at));
      for (const auto& result : store_->log().append(millrace::kDefaultStream, batch))
        if (result.status != millrace::AppendStatus::stored)
          throw std::runtime_error("redis: an event to consume was not stored");
    }
    filled_ += events.size();
  }

 protected:
  void note(std::string_view id) { seen_.emplace_back(id); }
  void check_seen() const {
    Roll roll(filled_);
    for (const auto& id : seen_) roll.mark(id);
    roll.check(name());
  }
  void check_filled(std::uint64_t count) const {
    if (filled_ != count) throw std::runtime_error("redis: the consumers were given other events than counted");
    check_seen();
  }

  RedisServer server_;
  std::unique_ptr<millrace::Store> store_;

 private:
  std::vector<std::string> seen_;
  std::uint64_t filled_ = 0;
};

class BareConsumer : public Consumer {
 public:
  explicit BareConsumer(const std::string& dir) : Consumer(dir), client_(server_.socket()) {
    client_.call({"XGROUP", "CREATE", kStream, "bare", "0", "MKSTREAM"});
  }
  std::string name() const override { return "bare client, XREADGROUP and XACK in one go"; }

  double round(std::span<const millrace::Event> events) override {
    const auto start = Clock::now();
    std::size_t acked = 0;
    BareClient::Reply page;  // what is acknowledged stands in it
    client_.queue(kRead);
    page = client_.reply();
    while (page->type == REDIS_REPLY_ARRAY && page->elements > 0) {
      const redisReply* const entries = page->element[0]->element[1];
      BareClient::Words ack{"XACK", kStream, "bare"};
      for (std::size_t i = 0; i < entries->elements; ++i) {
        const redisReply* const entry = entries->element[i];
        ack.emplace_back(entry->element[0]->str, entry->element[0]->len);
        const redisReply* const fields = entry->element[1];
        for (std::size_t f = 0; f + 1 < fields->elements; f += 2)
          if (std::string_view(fields->element[f]->str, fields->element[f]->len) == "id")
            note({fields->element[f + 1]->str, fields->element[f + 1]->len});
      }
      client_.queue(ack);
      client_.queue(kRead);
      acked += static_cast<std::size_t>(client_.reply()->integer);
      page = client_.reply();
    }
    const double seconds = seconds_since(start);
    if (acked != events.size())
      throw std::runtime_error(fmt::format("redis: {} of {} events were acknowledged", acked, events.size()));
    return seconds;
  }

  void verify(std::uint64_t count) override {
    check_filled(count);
    if (client_.call({"XPENDING", kStream, "bare"})->element[0]->integer != 0)
      throw std::runtime_error("redis: the bare consumer left something pending");
  }

 private:
  inline static const BareClient::Words kRead{"XREADGROUP", "GROUP",   "bare",  "one", "COUNT",
                                              "1000",       "STREAMS", kStream, ">"};
  BareClient client_;
};

class MillraceConsumer : public Consumer {
 public:
  using Consumer::Consumer;
  std::string name() const override { return "Millrace, consume and acknowledge"; }

  double round(std::span<const millrace::Event> events) override {
    millrace::SubscriptionOptions options{.group = "bench"};
    options.start = millrace::Start::beginning();
    options.batch = kBatch;
    options.lease = millrace::Milliseconds{30'000};
    const auto start = Clock::now();
    millrace::Subscription subscription(*store_, options, millrace::Handler([&](const millrace::Delivery& delivery) {
      note(delivery.event.id);
      return millrace::Outcome::ack();
    }));
    while (subscription.stats().acked < events.size()) std::this_thread::sleep_for(std::chrono::microseconds(200));
    const double seconds = seconds_since(start);
    subscription.stop();
    return seconds;
  }

  void verify(std::uint64_t count) override {
    check_filled(count);
    const auto group = store_->ledger().group("bench");
    if (group.processed != count || group.lag.ahead + group.lag.in_flight + group.lag.waiting + group.dead != 0)
      throw std::runtime_error(
          fmt::format("redis: {} of {} events are settled; ahead {}, in flight {}, waiting {}, dead {}",
                      group.processed, count, group.lag.ahead, group.lag.in_flight, group.lag.waiting, group.dead));
  }
};

}  // namespace

std::unique_ptr<ServedContender> make_bare_consumer(const std::string& dir) {
  return std::make_unique<BareConsumer>(dir);
}
std::unique_ptr<ServedContender> make_millrace_consumer(const std::string& dir) {
  return std::make_unique<MillraceConsumer>(dir);
}

}  // namespace bench
