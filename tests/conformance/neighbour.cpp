// SPDX-License-Identifier: Apache-2.0
#include "neighbour.hpp"

#include <hiredis/hiredis.h>

#include <chrono>
#include <optional>
#include <utility>

namespace millrace::conformance {
namespace {

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using ReplyPtr = std::unique_ptr<redisReply, FreeReply>;

/// The texts of an array, one level deep; none when it is none.
std::vector<std::string> texts(const redisReply* reply) {
  std::vector<std::string> out;
  if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY) return out;
  for (std::size_t i = 0; i < reply->elements; ++i) {
    const redisReply* one = reply->element[i];
    out.emplace_back(one->str == nullptr ? "" : std::string(one->str, one->len));
  }
  return out;
}

/// Of each row of XINFO or XPENDING the text at `column`.
std::vector<std::string> column(const ReplyPtr& rows, std::size_t column) {
  std::vector<std::string> out;
  if (!rows || rows->type != REDIS_REPLY_ARRAY) return out;
  for (std::size_t i = 0; i < rows->elements; ++i) {
    const std::vector<std::string> fields = texts(rows->element[i]);
    if (column < fields.size()) out.push_back(fields[column]);
  }
  return out;
}

std::uint64_t number(const ReplyPtr& reply) {
  return reply && reply->type == REDIS_REPLY_INTEGER && reply->integer > 0 ? static_cast<std::uint64_t>(reply->integer)
                                                                           : 0;
}

constexpr std::size_t kName = 1;  // XINFO answers "name", then the name
constexpr std::chrono::milliseconds kPause{1};
constexpr std::uint64_t kDestroyEvery = 16;

}  // namespace

/// Commands of a bare client. What fails does so in silence: a neighbour does not mind.
class Neighbour::Connection {
 public:
  explicit Connection(const std::string& socket) : context_(redisConnectUnix(socket.c_str())) {}
  [[nodiscard]] bool good() const { return context_ && context_->err == 0; }

  ReplyPtr operator()(const std::vector<std::string>& words) {
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    return ReplyPtr(static_cast<redisReply*>(
        redisCommandArgv(context_.get(), static_cast<int>(words.size()), texts.data(), sizes.data())));
  }

 private:
  struct Free {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  std::unique_ptr<redisContext, Free> context_;
};

Neighbour::Neighbour(std::string socket)
    : socket_(std::move(socket)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

Neighbour::~Neighbour() = default;

void Neighbour::run(const std::stop_token& stop) {
  Connection server(socket_);
  while (!stop.stop_requested() && server.good()) {
    ++turn_;
    const ReplyPtr logs = server({"KEYS", "*:all:stream"});
    for (const std::string& log : texts(logs.get())) {
      for (const std::string& group : column(server({"XINFO", "GROUPS", log}), kName)) {
        if (stop.stop_requested()) return;
        visit(server, log, group);
      }
    }
    if (turn_ % 8 == 0) server({"SCRIPT", "FLUSH"});
    std::this_thread::sleep_for(kPause);
  }
}

void Neighbour::visit(Connection& server, const std::string& log, const std::string& group) {
  const std::vector<std::string> pending = column(server({"XPENDING", log, group, "-", "+", "20"}), 0);
  for (std::size_t i = 0; i < pending.size(); ++i) {
    if (i % 2 == turn_ % 2) {
      acked_ += number(server({"XACK", log, group, pending[i]}));
    } else {
      const ReplyPtr claimed = server({"XCLAIM", log, group, "thief", "0", pending[i], "JUSTID"});
      stolen_ += texts(claimed.get()).size();
    }
  }
  server({"XAUTOCLAIM", log, group, "thief", "0", "0-0", "COUNT", "5", "JUSTID"});
  const std::vector<std::string> consumers = column(server({"XINFO", "CONSUMERS", log, group}), kName);
  if (!consumers.empty()) {
    server({"XGROUP", "DELCONSUMER", log, group, consumers[turn_ % consumers.size()]});
    ++removed_;
  }
  const ReplyPtr set = server({"XGROUP", "SETID", log, group, turn_ % 2 == 0 ? "0-0" : "$"});
  if (set && set->type == REDIS_REPLY_STATUS) ++set_;
  if (turn_ % kDestroyEvery == 0) destroyed_ += number(server({"XGROUP", "DESTROY", log, group}));
}

}  // namespace millrace::conformance
