// SPDX-License-Identifier: Apache-2.0

// The client's thread never keeps its other connections waiting: whatever the server or the way to it does, no turn
// uses more than 5 ms of processor time. (By the clock it may take longer on a busy machine; that is not our doing.)

#include <atomic>
#include <future>

#include "redis_test_support.hpp"

namespace millrace::store::redis {
namespace {

using std::chrono::milliseconds;

const Script& echo_script() {
  static const Script script = script_of("return {redis.call('INCR', KEYS[1]), ARGV[1]}");
  return script;
}

class RedisLoop : public testing::Test {
 protected:
  /// Sends so many calls and waits until each has an answer, of whichever kind.
  static void burst(
      Client& client, int calls, const std::function<void(int)>& meanwhile = [](int) {}) {
    std::atomic<int> open{calls};
    for (int i = 0; i < calls; ++i) {
      client.run_async(Purpose::append, echo_script(), {"n"}, {std::string(300, 'x')},
                       [&open](const Client::Outcome&) { --open; });
      meanwhile(i);
    }
    ASSERT_TRUE(eventually([&] { return open == 0; }, std::chrono::seconds(90)));
  }

  static void never_stalled(const Client& client) {
    const TurnMeter::Figures turns = client.turns();
    EXPECT_GT(turns.longest_processor.count(), 0) << "nothing was measured";
    if (MILLRACE_SANITIZED) return;  // they make everything slower
    EXPECT_EQ(turns.stalls, 0U) << turns.longest_processor.count() << " µs at most";
  }
};

TEST_F(RedisLoop, GoesOnWhileEverythingIsSwallowed) {
  RedisServer server;
  Gate gate(server.socket());
  Client client(parse_redis_url(gate_url(gate, "timeout=1000&connect_timeout=300")));
  burst(client, 5'000, [&](int i) {
    if (i == 1'000) gate.black_hole();
  });
  gate.open();
  ASSERT_TRUE(eventually([&] { return client.figures(Purpose::append).connected; }));
  burst(client, 1'000);
  never_stalled(client);
}

TEST_F(RedisLoop, GoesOnWhileConnectionsAreCut) {
  RedisServer server;
  Gate gate(server.socket());
  Client client(parse_redis_url(gate_url(gate, "connect_timeout=5000")));
  burst(client, 20'000, [&](int i) {
    if (i % 2'000 == 1'000) gate.cut_now();
  });
  never_stalled(client);
}

TEST_F(RedisLoop, GoesOnWhileTheServerIsSlow) {
  RedisServer server;
  Gate gate(server.socket());
  Client client(parse_redis_url(gate_url(gate, "timeout=20000")));
  gate.delay_answers(milliseconds(200));
  burst(client, 5'000);
  never_stalled(client);
}

TEST_F(RedisLoop, GoesOnWhileLargeAnswersCome) {
  RedisServer server({.settings = {{"appendonly", "no"}}});
  Client client(parse_redis_url(server.url("durability=memory")));
  constexpr std::size_t kLarge = 16UL << 20;
  client.call(Purpose::key_value, {"SET", "large", std::string(kLarge, 'x')});
  std::vector<std::string> many = {"RPUSH", "many"};
  for (int i = 0; i < 16; ++i) many.emplace_back(1UL << 20, 'y');
  client.call(Purpose::key_value, many);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client.call(Purpose::ledger, {"GET", "large"}, Access::read).as_text().size(), kLarge);
    EXPECT_EQ(client.call(Purpose::ledger, {"LRANGE", "many", "0", "-1"}, Access::read).as_array().size(), 16U);
  }
  never_stalled(client);
}

TEST_F(RedisLoop, GoesOnWhileTlsIsShakingHands) {
  RedisServer server({.tls = true});
  const std::string url =
      "rediss://localhost:" + std::to_string(server.tls_port()) + "?connect_timeout=20000&ca=" + server.file("ca.crt");
  Client client(parse_redis_url(url));
  for (std::uint64_t round = 1; round <= 10; ++round) {
    server.cli({"CLIENT", "KILL", "TYPE", "normal"});
    ASSERT_TRUE(eventually([&] {
      bool all = true;
      for (const Purpose purpose : kPurposes) {
        const Client::Figures figures = client.figures(purpose);
        all = all && figures.connected && figures.reconnects >= round;
      }
      return all;
    }));
  }
  client.call(Purpose::key_value, {"SET", "k", std::string(4 << 20, 'x')});
  client.call(Purpose::key_value, {"GET", "k"}, Access::read);
  never_stalled(client);
}

}  // namespace
}  // namespace millrace::store::redis
