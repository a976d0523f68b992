// SPDX-License-Identifier: Apache-2.0
#include "store/redis/client.hpp"

#include <atomic>
#include <future>

#include "redis_test_support.hpp"

namespace millrace::store::redis {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

const Script& count_script() {
  static const Script script = script_of("return redis.call('INCRBY', KEYS[1], ARGV[1])");
  return script;
}

TEST(RedisClient, SendsManyCommandsInOneGo) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  std::vector<Command> commands;
  for (int i = 0; i < 1000; ++i) commands.push_back({"INCR", "n"});
  commands.push_back({"LPUSH", "n", "x"});
  commands.push_back({"GET", "n"});
  const std::vector<Reply> replies = client.pipeline(Purpose::key_value, commands);
  ASSERT_EQ(replies.size(), 1002U);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(replies[static_cast<std::size_t>(i)].as_integer(), i + 1);
  EXPECT_TRUE(replies[1000].is_error());
  EXPECT_EQ(replies[1001].as_text(), "1000");
  EXPECT_TRUE(client.pipeline(Purpose::key_value, {}).empty());
}

TEST(RedisClient, CarriesAnyBytesAndLargeOnes) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  std::string value(5 << 20, 'x');
  value[1] = '\0';
  value[2] = '\r';
  client.call(Purpose::key_value, {"SET", "k", value});
  EXPECT_EQ(client.call(Purpose::key_value, {"GET", "k"}, Access::read).as_text(), value);
}

TEST(RedisClient, AnErrorReplyIsThrownByItsMeaning) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  client.call(Purpose::key_value, {"SET", "k", "v"});
  const Error wrong = error_of([&] { client.call(Purpose::key_value, {"XLEN", "k"}); });
  EXPECT_EQ(wrong.code(), Errc::corrupt) << wrong.what();
  EXPECT_EQ(wrong.operation(), "XLEN");
  static const Script refuses = script_of("return redis.error_reply('MILLRACE unknown_group orders no such group')");
  const Error refused = error_of([&] { client.run(Purpose::ledger, refuses, {}, {}); });
  EXPECT_EQ(refused.code(), Errc::unknown_group) << refused.what();
  EXPECT_EQ(refused.object(), "orders");
  EXPECT_EQ(refused.message(), "no such group");
  client.call(Purpose::key_value, {"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_EQ(error_of([&] { client.call(Purpose::key_value, {"SET", "k", "w"}); }).code(), Errc::store_full);
  EXPECT_EQ(error_of([&] { client.run(Purpose::append, count_script(), {"n"}, {"1"}); }).code(), Errc::store_full);
}

TEST(RedisClient, SendsTheTextOfAScriptThatTheServerLost) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(client.run(Purpose::append, count_script(), {"n"}, {"1"}).as_integer(), i);
    EXPECT_EQ(server.cli({"SCRIPT", "FLUSH"}), "OK");
  }
  EXPECT_EQ(client.figures(Purpose::append).errors, 0U);
}

TEST(RedisClient, LosingScriptsInTheMiddleLosesNoCallAndNoOrder) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  constexpr int kCalls = 5'000;
  std::vector<std::int64_t> answers;  // on the client's thread until all are there
  std::promise<void> all;
  for (int i = 0; i < kCalls; ++i) {
    if (i % 1000 == 500) client.call(Purpose::key_value, {"SCRIPT", "FLUSH"});
    client.run_async(Purpose::append, count_script(), {"n"}, {"1"}, [&](Client::Outcome outcome) {
      const Reply* reply = std::get_if<Reply>(&outcome);
      answers.push_back(reply != nullptr ? reply->integer : -1);
      if (answers.size() == kCalls) all.set_value();
    });
  }
  all.get_future().wait();
  for (int i = 0; i < kCalls; ++i) ASSERT_EQ(answers[static_cast<std::size_t>(i)], i + 1);
}

TEST(RedisClient, IsPrefixNamesAndDatabase) {
  RedisServer server;
  Client client(parse_redis_url(server.url("db=3&prefix=app:")));
  EXPECT_EQ(client.key("events:all:stream"), "app:events:all:stream");
  client.call(Purpose::key_value, {"SET", client.key("k"), "v"});
  EXPECT_EQ(server.cli({"-n", "3", "GET", "app:k"}), "v");
  const std::string clients = server.cli({"CLIENT", "LIST"});
  for (const char* name : {"name=millrace-append ", "name=millrace-ledger ", "name=millrace-key_value "}) {
    EXPECT_NE(clients.find(name), std::string::npos) << clients;
  }
  EXPECT_EQ(error_of([&] { Client(parse_redis_url(server.url("db=99"))); }).code(), Errc::invalid_argument);
}

TEST(RedisClient, KnowsTheServersTime) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  Timestamp last = client.now();
  for (int i = 0; i < 1000; ++i) {
    const Timestamp now = client.now();
    ASSERT_GE(now, last);
    last = now;
  }
  const auto difference = client.now() - std::chrono::time_point_cast<std::chrono::microseconds>(
                                             std::chrono::system_clock::now());  // the same machine's clock
  EXPECT_LT(std::chrono::abs(difference), std::chrono::seconds(2));
}

// ---- who may
// ----------------------------------------------------------------------------------------------------------

TEST(RedisClient, APasswordIsAskedForAndNeverShown) {
  RedisServer server({.settings = {{"requirepass", "s3cret"}}});
  const auto url = [&](const std::string& who) { return parse_redis_url("redis+unix://" + who + server.socket()); };
  const Error none = error_of([&] { Client(parse_redis_url(server.url())); });
  EXPECT_EQ(none.code(), Errc::permission_denied) << none.what();
  const Error wrong = error_of([&] { Client(url(":wr0ng@")); });
  EXPECT_EQ(wrong.code(), Errc::permission_denied) << wrong.what();
  EXPECT_EQ(std::string(wrong.what()).find("wr0ng"), std::string::npos);
  Client client(url(":s3cret@"));
  EXPECT_EQ(client.call(Purpose::key_value, {"PING"}).as_text(), "PONG");
}

TEST(RedisClient, AnAclUserMayWhatItsRulesAllow) {
  RedisServer server({.settings = {{"user", "me on >pw ~app:* &* +@all -config -info"}}});
  const std::string base = "redis+unix://me:pw@" + server.socket();
  const Error unknown = error_of([&] { Client(parse_redis_url(base)); });
  EXPECT_EQ(unknown.code(), Errc::invalid_argument) << unknown.what();
  EXPECT_NE(unknown.message().find("CONFIG"), std::string::npos);
  Client client(parse_redis_url(base + "?durability=durable&prefix=app:"));
  EXPECT_EQ(client.level(), Level::durable) << "the URL's word";
  EXPECT_EQ(client.facts().version.substr(0, 2), "7.");
  EXPECT_EQ(client.call(Purpose::key_value, {"SET", "app:k", "v"}).as_text(), "OK");
  const Error forbidden = error_of([&] { client.call(Purpose::key_value, {"SET", "other", "v"}); });
  EXPECT_EQ(forbidden.code(), Errc::permission_denied) << forbidden.what();
}

TEST(RedisClient, AServerThatRenamedHelloIsAskedPieceByPiece) {
  RedisServer server({.settings = {{"requirepass", "s3cret"}, {"rename-command", "HELLO \"\""}}});
  Client client(parse_redis_url("redis+unix://:s3cret@" + server.socket()));
  EXPECT_EQ(client.call(Purpose::key_value, {"PING"}).as_text(), "PONG");
  EXPECT_NE(client.facts().version, "");
}

// ---- which servers will do
// --------------------------------------------------------------------------------------------

TEST(RedisClient, RefusesAServerThatGivesLessThanAsked) {
  RedisServer server({.settings = {{"appendfsync", "everysec"}}});
  const Error weak = error_of([&] { Client(parse_redis_url(server.url())); });
  EXPECT_EQ(weak.code(), Errc::invalid_argument) << weak.what();
  EXPECT_NE(weak.message().find("appendfsync"), std::string::npos);
  Client client(parse_redis_url(server.url("durability=relaxed")));
  EXPECT_EQ(client.level(), Level::relaxed);
}

TEST(RedisClient, RefusesAnEvictingServer) {
  RedisServer server({.settings = {{"maxmemory-policy", "allkeys-lru"}}});
  const Error evicts = error_of([&] { Client(parse_redis_url(server.url())); });
  EXPECT_EQ(evicts.code(), Errc::invalid_argument) << evicts.what();
  EXPECT_NE(evicts.message().find("allkeys-lru"), std::string::npos);
}

TEST(RedisClient, RefusesAClusterByName) {
  RedisServer server({.tcp = true, .settings = {{"cluster-enabled", "yes"}}});
  const Error cluster = error_of([&] { Client(parse_redis_url(server.url())); });
  EXPECT_EQ(cluster.code(), Errc::invalid_argument) << cluster.what();
  EXPECT_NE(cluster.message().find("Redis Cluster"), std::string::npos);
}

TEST(RedisClient, RefusesASentinelByName) {
  RedisServer server({.tcp = true, .sentinel = true});
  const Error sentinel =
      error_of([&] { Client(parse_redis_url("redis://127.0.0.1:" + std::to_string(server.port()))); });
  EXPECT_EQ(sentinel.code(), Errc::invalid_argument) << sentinel.what();
  EXPECT_NE(sentinel.message().find("Sentinel"), std::string::npos);
}

TEST(RedisClient, WritesAreRefusedWhileTheServerGivesLess) {
  RedisServer server;
  Client client(parse_redis_url(server.url()), milliseconds(20));
  client.call(Purpose::append, {"SET", "k", "v"});
  server.cli({"CONFIG", "SET", "appendfsync", "no"});
  ASSERT_TRUE(eventually([&] { return client.level() == Level::relaxed; }));
  const Error refused = error_of([&] { client.call(Purpose::append, {"SET", "k", "w"}); });
  EXPECT_EQ(refused.code(), Errc::unavailable) << refused.what();
  EXPECT_NE(refused.message().find("appendfsync is no"), std::string::npos);
  EXPECT_EQ(client.call(Purpose::append, {"GET", "k"}, Access::read).as_text(), "v");
  std::promise<Client::Outcome> answer;
  client.run_async(Purpose::append, count_script(), {"n"}, {"1"},
                   [&](Client::Outcome outcome) { answer.set_value(std::move(outcome)); });
  const Client::Outcome outcome = answer.get_future().get();
  ASSERT_TRUE(std::holds_alternative<Error>(outcome));
  EXPECT_EQ(std::get<Error>(outcome).code(), Errc::unavailable);
  server.cli({"CONFIG", "SET", "appendfsync", "always"});
  ASSERT_TRUE(eventually([&] { return client.level() == Level::durable; }));
  EXPECT_EQ(client.call(Purpose::append, {"SET", "k", "w"}).as_text(), "OK");
}

TEST(RedisClient, AWriteIsAnsweredWhenTheReplicasHaveIt) {
  RedisServer master({.tcp = true});
  const std::string url = master.url("replicas=1&timeout=2000");
  EXPECT_EQ(error_of([&] { Client(parse_redis_url(url)); }).code(), Errc::unavailable) << "none is there";
  RedisServer replica({.settings = {{"replicaof", "127.0.0.1 " + std::to_string(master.port())}}});
  ASSERT_TRUE(eventually([&] { return master.cli({"WAIT", "1", "100"}) == "1"; }));
  EXPECT_EQ(error_of([&] { Client(parse_redis_url(replica.url())); }).code(), Errc::unavailable) << "takes no writes";
  Client client(parse_redis_url(url));
  EXPECT_EQ(client.run(Purpose::append, count_script(), {"n"}, {"1"}).as_integer(), 1);
  EXPECT_EQ(replica.cli({"GET", "n"}), "1");
  replica.suspend();
  const Error unconfirmed = error_of([&] { client.run(Purpose::append, count_script(), {"n"}, {"1"}); });
  EXPECT_EQ(unconfirmed.code(), Errc::outcome_unknown) << unconfirmed.what();
  EXPECT_NE(unconfirmed.message().find("replicas"), std::string::npos);
  EXPECT_EQ(client.call(Purpose::append, {"GET", "n"}, Access::read).as_text(), "2") << "the server has it";
  replica.resume();
}

// ---- TLS
// --------------------------------------------------------------------------------------------------------------

TEST(RedisClient, ChecksTheServersCertificate) {
  RedisServer server({.tls = true});
  const std::string base = "rediss://localhost:" + std::to_string(server.tls_port()) + "?connect_timeout=20000&";
  const std::string ca = "ca=" + server.file("ca.crt");
  Client client(parse_redis_url(base + ca));
  std::string value(1 << 20, 'x');
  client.call(Purpose::key_value, {"SET", "k", value});
  EXPECT_EQ(client.call(Purpose::key_value, {"GET", "k"}, Access::read).as_text(), value);

  const Error untrusted = error_of([&] { Client(parse_redis_url(base)); });
  EXPECT_EQ(untrusted.code(), Errc::unavailable) << untrusted.what();
  EXPECT_NE(untrusted.message().find("not trusted"), std::string::npos) << untrusted.what();
  const Error other = error_of([&] { Client(parse_redis_url(base + ca + "&server_name=other.example")); });
  EXPECT_NE(other.message().find("not trusted"), std::string::npos) << other.what();
  Client careless(parse_redis_url(base + "insecure=true"));
  const std::string address = "rediss://127.0.0.1:" + std::to_string(server.tls_port()) + "?connect_timeout=20000&";
  Client by_address(parse_redis_url(address + ca));
  EXPECT_EQ(error_of([&] { Client(parse_redis_url(base + "ca=/nowhere")); }).code(), Errc::invalid_argument);
}

TEST(RedisClient, ShowsItsOwnCertificate) {
  RedisServer server({.tls = true, .settings = {{"tls-auth-clients", "yes"}}});
  const std::string base =
      "rediss://localhost:" + std::to_string(server.tls_port()) + "?connect_timeout=20000&ca=" + server.file("ca.crt");
  EXPECT_EQ(error_of([&] { Client(parse_redis_url(base)); }).code(), Errc::unavailable);
  Client client(parse_redis_url(base + "&cert=" + server.file("client.crt") + "&key=" + server.file("client.key")));
  EXPECT_EQ(client.call(Purpose::key_value, {"PING"}).as_text(), "PONG");
}

TEST(RedisClient, SaysThatAPlainServerSpeaksNoTls) {
  RedisServer server({.tcp = true});
  const Error plain = error_of([&] {
    Client(parse_redis_url("rediss://127.0.0.1:" + std::to_string(server.port()) + "?connect_timeout=5000"));
  });
  EXPECT_EQ(plain.code(), Errc::unavailable);
  EXPECT_NE(plain.message().find("TLS"), std::string::npos) << plain.what();
}

// ---- many at once
// -----------------------------------------------------------------------------------------------------

TEST(RedisClient, OnePurposeDoesNotDelayAnother) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  std::atomic<bool> through{false};
  std::thread blocked([&] {
    client.call(Purpose::append, {"BLPOP", "list", "0"});
    through = true;
  });
  ASSERT_TRUE(eventually([&] { return client.figures(Purpose::append).in_flight == 1; }));
  for (int i = 0; i < 100; ++i) {
    client.call(Purpose::key_value, {"SET", "k", "v"});
    client.run(Purpose::ledger, count_script(), {"n"}, {"1"});
  }
  EXPECT_FALSE(through);
  client.call(Purpose::key_value, {"LPUSH", "list", "x"});
  blocked.join();
}

TEST(RedisClient, TenThousandInFlightAreAnsweredInOrderWithoutStallingTheLoop) {
  RedisServer server({.settings = {{"appendfsync", "everysec"}}});
  Client client(parse_redis_url(server.url("durability=relaxed")));
  constexpr int kCalls = 10'000;
  const std::string argument(200, 'x');
  static const Script script = script_of("return {redis.call('INCR', KEYS[1]), ARGV[1]}");
  int answered = 0;  // on the client's thread until all are there
  bool ordered = true;
  std::promise<void> all;
  for (int i = 0; i < kCalls; ++i) {
    client.run_async(Purpose::append, script, {"n"}, {argument}, [&](Client::Outcome outcome) {
      const Reply* reply = std::get_if<Reply>(&outcome);
      ordered = ordered && reply != nullptr && reply->items[0].integer == answered + 1;
      if (++answered == kCalls) all.set_value();
    });
  }
  all.get_future().wait();
  EXPECT_TRUE(ordered);
  if (MILLRACE_SANITIZED) return;  // they make everything slower
  EXPECT_EQ(client.turns().stalls, 0U) << client.turns().longest_processor.count() << " µs";
}

TEST(RedisClient, ManyThreadsShareIt) {
  RedisServer server({.settings = {{"appendfsync", "everysec"}}});
  Client client(parse_redis_url(server.url("durability=relaxed")));
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&client, t] {
      const std::string key = "k" + std::to_string(t);
      for (int i = 1; i <= 200; ++i) {
        const Purpose purpose = kPurposes[i % 3];
        EXPECT_EQ(client.run(purpose, count_script(), {key}, {"1"}).as_integer(), i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(RedisClient, ItsOwnThreadCannotWaitForItself) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  std::promise<Errc> code;
  client.run_async(Purpose::append, count_script(), {"n"}, {"1"}, [&](const Client::Outcome&) {
    code.set_value(error_of([&] { client.call(Purpose::key_value, {"PING"}); }).code());
  });
  EXPECT_EQ(code.get_future().get(), Errc::internal);
}

// ---- the end
// ----------------------------------------------------------------------------------------------------------

TEST(RedisClient, StoppingTellsWhatHappenedToThoseWhoWait) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  const auto code = [&](const Command& command, Access access) {
    return std::async(std::launch::async, [&client, command, access] {
      return error_of([&] { client.call(Purpose::ledger, command, access); }).code();
    });
  };
  auto write = code({"BLPOP", "list", "0"}, Access::write);
  auto read = code({"XREAD", "BLOCK", "0", "STREAMS", "s", "$"}, Access::read);
  ASSERT_TRUE(eventually([&] { return client.figures(Purpose::ledger).in_flight == 2; }));
  client.stop(milliseconds(10));
  EXPECT_EQ(write.get(), Errc::outcome_unknown);
  EXPECT_EQ(read.get(), Errc::stopped);
  EXPECT_EQ(error_of([&] { client.call(Purpose::ledger, {"PING"}); }).code(), Errc::stopped);
  Errc async{};
  client.run_async(Purpose::append, count_script(), {"n"}, {"1"},
                   [&](const Client::Outcome& outcome) { async = std::get<Error>(outcome).code(); });
  EXPECT_EQ(async, Errc::stopped);
  client.stop(milliseconds(10));
}

TEST(RedisClient, StoppingWaitsForAnswersOnTheirWay) {
  RedisServer server;
  Client client(parse_redis_url(server.url()));
  std::atomic<int> good{0};
  for (int i = 0; i < 2000; ++i) {
    client.run_async(Purpose::append, count_script(), {"n"}, {"1"}, [&](const Client::Outcome& outcome) {
      if (std::holds_alternative<Reply>(outcome)) ++good;
    });
  }
  ASSERT_TRUE(eventually([&] { return good > 0; }));
  client.stop(milliseconds(20'000));
  // Whoever was told that it is done has it done; whoever was told that nothing was sent has nothing done.
  EXPECT_EQ(server.cli({"GET", "n"}), std::to_string(good));
}

}  // namespace
}  // namespace millrace::store::redis
