// SPDX-License-Identifier: Apache-2.0
// Redis as one would use it for the same promise: a stream, a set of ids beside it, one script call per batch, each
// answered after the append-only file was fsynced. The script is the cheapest that refuses duplicates: it does not even
// remember a duplicate's first position, which Millrace answers.
//
// Beside Millrace's own store on Redis also: the same script called for single events, and bare XADD without any ids.

#include <algorithm>
#include <stdexcept>

#include "redis_bare.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr const char* kScript = R"(
local added = 0
for i = 1, #ARGV, 7 do
  if redis.call('SADD', KEYS[2], ARGV[i] .. ' ' .. ARGV[i + 1]) == 1 then
    redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'source', ARGV[i + 1], 'type', ARGV[i + 2], 'subject', ARGV[i + 3],
               'time', ARGV[i + 4], 'datacontenttype', ARGV[i + 5], 'data', ARGV[i + 6])
    added = added + 1
  end
end
return added
)";

using Words = BareClient::Words;

void add(Words& words, const millrace::Event& e) {
  words.insert(words.end(), {e.id, e.source, e.type, e.subject, e.time, e.datacontenttype, *e.data});
}

Words xadd(const millrace::Event& e) {
  return {"XADD", "events",  "*",       "id",   e.id,   "source",          e.source,          "type",
          e.type, "subject", e.subject, "time", e.time, "datacontenttype", e.datacontenttype, "data",
          *e.data};
}

class Bare : public ServedContender {
 public:
  Bare(const std::string& dir, BareWay way) : server_(dir), client_(server_.socket()), way_(way) {
    const auto sha = client_.call({"SCRIPT", "LOAD", kScript});
    sha_.assign(sha->str, sha->len);
  }
  const RedisServer& server() const override { return server_; }

  void verify(std::uint64_t count) override {
    verify_stream(client_, "events", 1, count, name());
    if (way_ == BareWay::xadd) return;
    if (client_.call({"SCARD", "ids"})->integer != static_cast<long long>(count))
      throw std::runtime_error("redis: an id is missing");
  }

 protected:
  [[nodiscard]] Words evalsha() const { return {"EVALSHA", sha_, "2", "events", "ids"}; }
  [[nodiscard]] BareWay way() const { return way_; }

  RedisServer server_;
  BareClient client_;

 private:
  BareWay way_;
  std::string sha_;
};

class BareBatches : public Bare {
 public:
  using Bare::Bare;
  std::string name() const override {
    return way() == BareWay::xadd ? "bare client, 1000 XADD in one go" : "Redis, appendfsync always";
  }

  double round(std::span<const millrace::Event> events) override {
    return way() == BareWay::xadd ? commands(events) : scripts(events);
  }

 private:
  double scripts(std::span<const millrace::Event> events) {
    std::vector<Words> calls;
    for (std::size_t at = 0; at < events.size(); at += kBatch) {
      auto& words = calls.emplace_back(evalsha());
      for (const auto& e : events.subspan(at, std::min(kBatch, events.size() - at))) add(words, e);
    }
    const auto start = Clock::now();
    long long stored = 0;
    for (const auto& words : calls) stored += client_.call(words)->integer;
    const double seconds = seconds_since(start);
    if (stored != static_cast<long long>(events.size()))
      throw std::runtime_error("redis: events were refused as duplicates");
    return seconds;
  }

  double commands(std::span<const millrace::Event> events) {
    std::vector<Words> calls;
    calls.reserve(events.size());
    for (const auto& e : events) calls.push_back(xadd(e));
    const auto start = Clock::now();
    for (std::size_t at = 0; at < calls.size(); at += kBatch) {
      const std::size_t end = std::min(at + kBatch, calls.size());
      for (std::size_t i = at; i < end; ++i) client_.queue(calls[i]);
      for (std::size_t i = at; i < end; ++i) client_.reply();
    }
    return seconds_since(start);
  }
};

/// So many commands are on their way, each with one event; whatever is answered makes room for the next.
class BarePublishers : public Bare {
 public:
  BarePublishers(const std::string& dir, BareWay way, std::size_t publishers)
      : Bare(dir, way), publishers_(publishers) {}
  std::string name() const override {
    return std::string("bare client, ") + (way() == BareWay::xadd ? "XADD" : "EVALSHA") + " of single events, " +
           std::to_string(publishers_) + " on their way";
  }

  double round(std::span<const millrace::Event> events) override {
    std::vector<Words> calls;
    calls.reserve(events.size());
    for (const auto& e : events) {
      calls.push_back(way() == BareWay::xadd ? xadd(e) : evalsha());
      if (way() == BareWay::script) add(calls.back(), e);
    }
    const auto start = Clock::now();
    std::size_t sent = 0;
    while (sent < std::min(publishers_, calls.size())) client_.queue(calls[sent++]);
    for (std::size_t answered = 0; answered < calls.size(); ++answered) {
      const auto reply = client_.reply();
      if (way() == BareWay::script && reply->integer != 1)
        throw std::runtime_error("redis: an event was refused as a duplicate");
      if (sent < calls.size()) client_.queue(calls[sent++]);
    }
    return seconds_since(start);
  }

 private:
  std::size_t publishers_;
};

}  // namespace

std::unique_ptr<Contender> make_redis(const std::string& dir) {
  if (!RedisServer::installed()) return nullptr;
  return make_bare_batches(dir, BareWay::script);
}

std::unique_ptr<ServedContender> make_bare_batches(const std::string& dir, BareWay way) {
  return std::make_unique<BareBatches>(dir, way);
}

std::unique_ptr<ServedContender> make_bare_publishers(const std::string& dir, BareWay way, std::size_t publishers) {
  return std::make_unique<BarePublishers>(dir, way, publishers);
}

}  // namespace bench
