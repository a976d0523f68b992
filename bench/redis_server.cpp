// SPDX-License-Identifier: Apache-2.0
#include "redis_server.hpp"

#include <charconv>
#include <chrono>
#include <stdexcept>
#include <thread>

namespace bench {

BareClient::BareClient(const std::string& socket) : context_(redisConnectUnix(socket.c_str())) {
  if (!context_ || context_->err != 0)
    throw std::runtime_error(std::string("redis: ") + (context_ ? context_->errstr : "no memory"));
}

void BareClient::queue(const Words& words) {
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  texts.reserve(words.size());
  sizes.reserve(words.size());
  for (const auto word : words) {
    texts.push_back(word.data());
    sizes.push_back(word.size());
  }
  if (redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()), texts.data(), sizes.data()) != REDIS_OK)
    throw std::runtime_error(std::string("redis: ") + context_->errstr);
}

BareClient::Reply BareClient::reply() {
  void* answer = nullptr;
  if (redisGetReply(context_.get(), &answer) != REDIS_OK)
    throw std::runtime_error(std::string("redis: ") + context_->errstr);
  Reply reply(static_cast<redisReply*>(answer));
  if (reply->type == REDIS_REPLY_ERROR) throw std::runtime_error(std::string("redis: ") + reply->str);
  return reply;
}

bool RedisServer::installed() {
  return !find_program("redis-server").empty();
}

RedisServer::RedisServer(const std::string& dir)
    : process_({find_program("redis-server"), "--port", "0", "--unixsocket", socket(), "--dir", dir, "--appendonly",
                "yes", "--appendfsync", "always", "--aof-load-truncated", "no", "--auto-aof-rewrite-percentage", "0",
                "--save", "", "--logfile", "redis.log"},
               {}) {
  for (int tries = 0; tries < 500 && process_.running(); ++tries) {
    try {
      BareClient(socket()).call({"PING"});
      return;
    } catch (const std::runtime_error&) {  // not yet
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  throw std::runtime_error("redis: the server did not start; see " + dir + "/redis.log");
}

std::uint64_t RedisServer::used_memory() const {
  BareClient client(socket());
  const auto info = client.call({"INFO", "memory"});
  const std::string_view text(info->str, info->len);
  constexpr std::string_view kName = "\nused_memory:";
  const auto at = text.find(kName);
  std::uint64_t bytes = 0;
  if (at == std::string_view::npos ||
      std::from_chars(text.data() + at + kName.size(), text.data() + text.size(), bytes).ec != std::errc{})
    throw std::runtime_error("redis: INFO does not tell used_memory");
  return bytes;
}

void verify_stream(BareClient& client, std::string_view key, std::size_t id_at, std::uint64_t count,
                   std::string_view who) {
  Roll roll(count);
  std::string after = "-";
  for (;;) {
    const auto page = client.call({"XRANGE", key, after, "+", "COUNT", "1000"});
    if (page->elements == 0) break;
    for (std::size_t i = 0; i < page->elements; ++i) {
      const redisReply* const fields = page->element[i]->element[1];
      roll.mark({fields->element[id_at]->str, fields->element[id_at]->len});
    }
    const redisReply* const last = page->element[page->elements - 1]->element[0];
    after = "(" + std::string(last->str, last->len);
  }
  roll.check(who);
}

}  // namespace bench
