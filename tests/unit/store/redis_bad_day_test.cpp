// SPDX-License-Identifier: Apache-2.0
// The client, when the server or the way to it fails.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>

#include "redis_test_support.hpp"

namespace millrace::store::redis {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

bool connected(const Client& client) {
  for (const Purpose purpose : kPurposes) {
    if (!client.figures(purpose).connected) return false;
  }
  return true;
}

/// Takes connections on a port of its own and says `answer` to whatever comes: a server that is not installed here.
class FakeServer {
 public:
  explicit FakeServer(std::string answer) : answer_(std::move(answer)) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      for (;;) {
        const int one = ::accept(fd_, nullptr, nullptr);
        if (one < 0) return;
        char buffer[4096];
        if (::recv(one, buffer, sizeof buffer, 0) > 0) ::send(one, answer_.data(), answer_.size(), MSG_NOSIGNAL);
        kept_.push_back(one);
      }
    });
  }
  ~FakeServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
    for (const int one : kept_) ::close(one);
  }
  [[nodiscard]] std::string url() const {
    return "redis://127.0.0.1:" + std::to_string(port_) + "?connect_timeout=20000";
  }

 private:
  std::string answer_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  std::vector<int> kept_;
  std::thread thread_;
};

std::string bulk(const std::string& text) {
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

TEST(RedisBadDay, NobodyListens) {
  const Error nobody =
      error_of([&] { Client(parse_redis_url("redis://127.0.0.1:" + std::to_string(test::free_port()))); });
  EXPECT_EQ(nobody.code(), Errc::unavailable);
  EXPECT_NE(nobody.message().find("nobody answers"), std::string::npos) << nobody.what();
  const Error no_socket = error_of([&] { Client(parse_redis_url("redis+unix:/nowhere/redis.sock")); });
  EXPECT_EQ(no_socket.code(), Errc::unavailable);
  const Error too_long = error_of([&] { Client(parse_redis_url("redis+unix:/" + std::string(200, 'x'))); });
  EXPECT_EQ(too_long.code(), Errc::unavailable);
}

TEST(RedisBadDay, AnOldServerIsRefusedWithBothVersions) {
  // What Redis 5 answers to a greeting it does not know, and then piece by piece.
  FakeServer old("-ERR unknown command `HELLO`, with args beginning with: \r\n+OK\r\n:1\r\n" +
                 bulk("redis_version:5.0.14\r\nredis_mode:standalone\r\n") + "*0\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n" +
                 "+OK\r\n+OK\r\n:1\r\n" + bulk("redis_version:5.0.14\r\nredis_mode:standalone\r\n") +
                 "*0\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n");
  const Error error = error_of([&] { Client(parse_redis_url(old.url())); });
  EXPECT_EQ(error.code(), Errc::unsupported_version) << error.what();
  EXPECT_NE(error.message().find("5.0.14"), std::string::npos);
  EXPECT_NE(error.message().find("7.0"), std::string::npos);
}

TEST(RedisBadDay, WhatIsNoRedisIsSaidSo) {
  FakeServer http("HTTP/1.1 400 Bad Request\r\n\r\n");
  const Error error = error_of([&] { Client(parse_redis_url(http.url())); });
  EXPECT_EQ(error.code(), Errc::unavailable);
  EXPECT_NE(error.message().find("not the protocol of Redis"), std::string::npos) << error.what();
}

TEST(RedisBadDay, ASilentServerTimesOutWhileConnecting) {
  RedisServer server;
  Gate gate(server.socket());
  gate.black_hole();
  const Error error = error_of([&] { Client(parse_redis_url(gate_url(gate, "connect_timeout=100"))); });
  EXPECT_EQ(error.code(), Errc::unavailable);
  EXPECT_NE(error.message().find("timed out"), std::string::npos) << error.what();
}

TEST(RedisBadDay, CutInTheMiddleOfAnAnswer) {
  RedisServer server;
  Gate gate(server.socket());
  Client client(parse_redis_url(gate_url(gate, "connect_timeout=20000&timeout=20000")));
  client.call(Purpose::key_value, {"SET", "k", std::string(100'000, 'x')});

  gate.cut_after(50'000);
  std::future<Reply> read = std::async(std::launch::async, [&] {
    return client.call(Purpose::key_value, {"GET", "k"}, Access::read);
  });
  ASSERT_TRUE(eventually([&] { return !client.figures(Purpose::key_value).last_error.empty(); }));
  gate.open();
  EXPECT_EQ(read.get().as_text().size(), 100'000U) << "a read is sent once more";

  ASSERT_TRUE(eventually([&] { return connected(client); }));
  gate.cut_after(2);  // of ":1\r\n"
  const Error write = error_of([&] { client.call(Purpose::key_value, {"INCR", "n"}); });
  EXPECT_EQ(write.code(), Errc::outcome_unknown) << write.what();
  EXPECT_EQ(server.cli({"GET", "n"}), "1") << "and it was done";
  gate.open();
  EXPECT_EQ(client.call(Purpose::key_value, {"INCR", "n"}).as_integer(), 2);
}

TEST(RedisBadDay, AConnectionThatSwallowsEverythingIsGivenUp) {
  RedisServer server;
  Gate gate(server.socket());
  Client client(parse_redis_url(gate_url(gate, "timeout=300&connect_timeout=200")));
  client.call(Purpose::append, {"SET", "k", "v"});
  gate.black_hole();
  const Error write = error_of([&] { client.call(Purpose::append, {"SET", "k", "w"}); });
  EXPECT_EQ(write.code(), Errc::outcome_unknown) << write.what();
  EXPECT_NE(write.message().find("timed out"), std::string::npos);
  const Error next = error_of([&] { client.call(Purpose::append, {"SET", "k", "w"}); });
  EXPECT_EQ(next.code(), Errc::unavailable) << "there is no connection any more: " << next.what();
  const Error read = error_of([&] { client.call(Purpose::ledger, {"GET", "k"}, Access::read); });
  EXPECT_EQ(read.code(), Errc::unavailable) << read.what();
  EXPECT_NE(read.message().find("timed out"), std::string::npos);
  gate.open();
  ASSERT_TRUE(eventually([&] {
    return error_of([&] { client.call(Purpose::append, {"SET", "k", "x"}); }).message() == "nothing was thrown";
  }));
  EXPECT_GE(client.figures(Purpose::append).reconnects, 1U);
}

TEST(RedisBadDay, ASlowServerIsWaitedFor) {
  RedisServer server;
  Gate gate(server.socket());
  Client client(parse_redis_url(gate_url(gate, "timeout=20000")));
  gate.delay_answers(milliseconds(300));
  const auto began = steady_clock::now();
  EXPECT_EQ(client.call(Purpose::append, {"INCR", "n"}).as_integer(), 1);
  EXPECT_GE(steady_clock::now() - began, milliseconds(290));
  EXPECT_EQ(client.figures(Purpose::append).reconnects, 0U);
}

TEST(RedisBadDay, ACallWaitsForTheConnectionToComeBack) {
  RedisServer server;
  Client client(parse_redis_url(server.url("connect_timeout=30000")));
  client.call(Purpose::append, {"SET", "k", "kept"});
  server.kill();
  ASSERT_TRUE(eventually([&] { return !client.figures(Purpose::append).connected; }));
  std::future<Reply> waits = std::async(std::launch::async, [&] {
    return client.call(Purpose::append, {"INCR", "n"});
  });
  ASSERT_TRUE(eventually([&] { return client.figures(Purpose::append).queued == 1; }));
  server.start();
  EXPECT_EQ(waits.get().as_integer(), 1);
  EXPECT_EQ(client.call(Purpose::append, {"GET", "k"}, Access::read).as_text(), "kept");
  ASSERT_TRUE(eventually([&] { return connected(client); }));
  for (const Purpose purpose : kPurposes) EXPECT_GE(client.figures(purpose).reconnects, 1U);
}

TEST(RedisBadDay, AServerThatIsGoneForLongerMakesCallsUnavailable) {
  RedisServer server;
  Client client(parse_redis_url(server.url("connect_timeout=100")));
  server.kill();
  ASSERT_TRUE(eventually([&] { return !client.figures(Purpose::append).connected; }));
  const Error gone = error_of([&] { client.call(Purpose::append, {"INCR", "n"}); });
  EXPECT_EQ(gone.code(), Errc::unavailable) << gone.what();
  EXPECT_NE(client.figures(Purpose::append).last_error, "");
  std::this_thread::sleep_for(milliseconds(1'000));  // the outage the store must survive
  server.start();
  ASSERT_TRUE(eventually([&] { return connected(client); }));
  EXPECT_EQ(client.call(Purpose::append, {"INCR", "n"}).as_integer(), 1) << "the unavailable one was not done";
}

TEST(RedisBadDay, WhatAKilledServerAnsweredIsThereAndTheRestIsToldTruthfully) {
  RedisServer server;
  Client client(parse_redis_url(server.url("connect_timeout=100")));
  static const Script script = script_of("redis.call('SADD', KEYS[1], ARGV[1]) return 1");
  constexpr int kCalls = 20'000;
  std::vector<int> outcomes(kCalls, -1);  // 0 done, 1 unknown, 2 not sent, 3 anything else
  std::atomic<int> done{0};
  std::atomic<int> ended{0};
  for (int i = 0; i < kCalls; ++i) {
    client.run_async(Purpose::append, script, {"set"}, {std::to_string(i)}, [&, i](const Client::Outcome& outcome) {
      const Error* error = std::get_if<Error>(&outcome);
      outcomes[static_cast<std::size_t>(i)] = error == nullptr                         ? 0
                                              : error->code() == Errc::outcome_unknown ? 1
                                              : error->code() == Errc::unavailable     ? 2
                                                                                       : 3;
      if (error == nullptr) ++done;
      ++ended;
    });
    if (i == kCalls / 2) {
      ASSERT_TRUE(eventually([&] { return done > 100; }));
      server.kill();
    }
  }
  ASSERT_TRUE(eventually([&] { return ended == kCalls; }));
  server.start();
  ASSERT_TRUE(eventually([&] { return connected(client); }));
  std::vector<Command> questions;
  for (int i = 0; i < kCalls; ++i) questions.push_back({"SISMEMBER", "set", std::to_string(i)});
  const std::vector<Reply> stored = client.pipeline(Purpose::append, questions, Access::read);
  for (std::size_t i = 0; i < kCalls; ++i) {
    ASSERT_GE(outcomes[i], 0);
    ASSERT_LE(outcomes[i], 2);
    const bool there = stored[i].as_integer() == 1;
    ASSERT_TRUE(outcomes[i] != 0 || there) << i << " was acknowledged";
    ASSERT_TRUE(outcomes[i] != 2 || !there) << i << " was never sent";
  }
}

TEST(RedisBadDay, AStoppedServerIsSaidToBeSilentAndComesBack) {
  RedisServer server;
  Client client(parse_redis_url(server.url("timeout=300&connect_timeout=200")));
  server.suspend();
  const Error silent = error_of([&] { client.call(Purpose::append, {"INCR", "n"}); });
  EXPECT_EQ(silent.code(), Errc::outcome_unknown) << silent.what();
  server.resume();
  ASSERT_TRUE(eventually([&] { return connected(client); }));
  EXPECT_EQ(client.call(Purpose::append, {"INCR", "n"}).as_integer(), 2);
}

TEST(RedisBadDay, EndsWhileItIsConnectingAndWhileCallsWait) {
  RedisServer server;
  std::future<Errc> waits;
  {
    Client client(parse_redis_url(server.url("connect_timeout=60000")));
    server.kill();
    ASSERT_TRUE(eventually([&] { return !client.figures(Purpose::append).connected; }));
    waits = std::async(std::launch::async, [&] {
      return error_of([&] { client.call(Purpose::append, {"INCR", "n"}); }).code();
    });
    ASSERT_TRUE(eventually([&] { return client.figures(Purpose::append).queued == 1; }));
    client.stop(milliseconds(0));
    EXPECT_EQ(waits.get(), Errc::stopped);
  }
}

}  // namespace
}  // namespace millrace::store::redis
