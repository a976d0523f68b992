// SPDX-License-Identifier: Apache-2.0
// Redis as one would use it for the same promise: a stream, a set of ids beside it, one script call per batch, each
// answered after the append-only file was fsynced. The script is the cheapest that refuses duplicates: it does not even
// remember a duplicate's first position, which Millrace answers.

#include <hiredis/hiredis.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "child.hpp"
#include "contender.hpp"
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

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

// A server of our own: own directory, own socket, no port.
class Server {
 public:
  Server(const std::string& program, const std::string& dir)
      : process_(
            {program, "--port", "0", "--unixsocket", socket(), "--dir", dir, "--appendonly", "yes", "--appendfsync",
             "always", "--auto-aof-rewrite-percentage", "0", "--save", "", "--logfile", "redis.log"},
            {}) {
    for (int tries = 0; tries < 500 && process_.running(); ++tries) {
      connection_.reset(redisConnectUnix(socket().c_str()));
      if (connection_ && connection_->err == 0) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    throw std::runtime_error("redis: the server did not start; see " + dir + "/redis.log");
  }

  Reply call(const std::vector<std::string_view>& words) {
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const auto word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    Reply reply(static_cast<redisReply*>(
        redisCommandArgv(connection_.get(), static_cast<int>(words.size()), texts.data(), sizes.data())));
    if (!reply) throw std::runtime_error(std::string("redis: ") + connection_->errstr);
    if (reply->type == REDIS_REPLY_ERROR) throw std::runtime_error(std::string("redis: ") + reply->str);
    return reply;
  }

 private:
  [[nodiscard]] std::string socket() const { return socket_dir_.path() + "/redis.sock"; }
  struct Disconnect {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  TemporaryDir socket_dir_;
  Child process_;  // killed at the end: what it holds was verified, an orderly end would only write it once more
  std::unique_ptr<redisContext, Disconnect> connection_;
};

class Redis : public Contender {
 public:
  Redis(const std::string& program, const std::string& dir) : server_(program, dir) {
    const Reply sha = server_.call({"SCRIPT", "LOAD", kScript});
    sha_.assign(sha->str, sha->len);
  }
  std::string name() const override { return "Redis, appendfsync always"; }

  double round(std::span<const millrace::Event> events) override {
    std::vector<std::vector<std::string_view>> calls;
    for (std::size_t at = 0; at < events.size(); at += kBatch) {
      auto& words = calls.emplace_back(std::vector<std::string_view>{"EVALSHA", sha_, "2", "events", "ids"});
      for (const auto& e : events.subspan(at, std::min(kBatch, events.size() - at)))
        words.insert(words.end(), {e.id, e.source, e.type, e.subject, e.time, e.datacontenttype, *e.data});
    }
    const auto start = Clock::now();
    long long stored = 0;
    for (const auto& words : calls) stored += server_.call(words)->integer;
    const double seconds = seconds_since(start);
    if (stored != static_cast<long long>(events.size()))
      throw std::runtime_error("redis: events were refused as duplicates");
    return seconds;
  }

  void verify(std::uint64_t count) override {
    Roll roll(count);
    std::string after = "-";
    for (;;) {
      const Reply page = server_.call({"XRANGE", "events", after, "+", "COUNT", "1000"});
      if (page->elements == 0) break;
      for (std::size_t i = 0; i < page->elements; ++i) {
        const redisReply* const fields = page->element[i]->element[1];
        roll.mark({fields->element[1]->str, fields->element[1]->len});
      }
      const redisReply* const last = page->element[page->elements - 1]->element[0];
      after = "(" + std::string(last->str, last->len);
    }
    roll.check(name());
  }

 private:
  Server server_;
  std::string sha_;
};

}  // namespace

std::unique_ptr<Contender> make_redis(const std::string& dir) {
  const std::string program = find_program("redis-server");
  if (program.empty()) return nullptr;
  return std::make_unique<Redis>(program, dir);
}

}  // namespace bench
