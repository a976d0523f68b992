// SPDX-License-Identifier: Apache-2.0
#include "store/redis/listener.hpp"

#include <algorithm>

#include "redis_test_support.hpp"

namespace millrace::store::redis {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// What a listener said, in order.
class News {
 public:
  Listener::Changed callback() {
    return [this](std::string_view what) {
      const std::lock_guard lock(mutex_);
      said_.emplace_back(what);
      came_.notify_all();
    };
  }
  /// Waits until `what` was said at least `times` times since `clear`.
  bool hears(const std::string& what, std::ptrdiff_t times = 1, std::chrono::seconds limit = std::chrono::seconds(30)) {
    std::unique_lock lock(mutex_);
    return came_.wait_for(lock, limit, [&] { return std::count(said_.begin(), said_.end(), what) >= times; });
  }
  std::size_t count() {
    const std::lock_guard lock(mutex_);
    return said_.size();
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    said_.clear();
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<std::string> said_;
};

class RedisListener : public ::testing::Test {
 protected:
  RedisServer server;
  Client client{parse_redis_url(server.url("connect_timeout=5000"))};
  News news;
};

TEST_F(RedisListener, TellsOfEntriesThatAnybodyAdded) {
  Listener listener(client, "wake", news.callback());
  listener.watch("s");
  ASSERT_TRUE(news.hears("s")) << "once at the beginning";
  for (int i = 0; i < 20; ++i) {
    news.clear();
    server.cli({"XADD", "s", "*", "f", "v"});
    ASSERT_TRUE(news.hears("s")) << i;
  }
}

TEST_F(RedisListener, TellsOfMessages) {
  Listener listener(client, "wake", news.callback());
  server.cli({"PUBLISH", "wake", "orders"});
  EXPECT_TRUE(news.hears("orders"));
}

TEST_F(RedisListener, AStreamIsWatchedAtOnceThoughOthersAreWaitedFor) {
  Listener listener(client, "wake", news.callback());
  listener.watch("a");
  ASSERT_TRUE(news.hears("a"));
  ASSERT_TRUE(eventually([&] { return server.cli({"CLIENT", "LIST"}).find("cmd=xread") != std::string::npos; }));
  const auto began = steady_clock::now();
  listener.watch("b");
  ASSERT_TRUE(news.hears("b"));
  EXPECT_LT(steady_clock::now() - began, milliseconds(4'000)) << "not at the end of the block";
  news.clear();
  server.cli({"XADD", "b", "*", "f", "v"});
  ASSERT_TRUE(news.hears("b"));
  server.cli({"XADD", "a", "*", "f", "v"});
  ASSERT_TRUE(news.hears("a"));
}

TEST_F(RedisListener, MissesNothingWhenManyAreAdded) {
  Listener listener(client, "wake", news.callback());
  listener.watch("s");
  ASSERT_TRUE(news.hears("s"));
  std::thread adds([&] {
    for (int i = 0; i < 200; ++i) {
      std::vector<Command> commands(20, Command{"XADD", "s", "*", "f", "v"});
      client.pipeline(Purpose::append, commands);
    }
  });
  // A reader that looks only when it is told must see the last one, too.
  std::int64_t seen = 0;
  while (seen < 4'000) {
    ASSERT_TRUE(news.hears("s")) << "stood at " << seen;
    news.clear();
    seen = client.call(Purpose::key_value, {"XLEN", "s"}, Access::read).as_integer();
  }
  adds.join();
}

TEST_F(RedisListener, ForgetsAStream) {
  Listener listener(client, "wake", news.callback());
  listener.watch("a");
  listener.watch("b");
  ASSERT_TRUE(news.hears("a"));
  ASSERT_TRUE(news.hears("b"));
  listener.forget("a");
  news.clear();
  server.cli({"XADD", "a", "*", "f", "v"});
  server.cli({"XADD", "b", "*", "f", "v"});
  ASSERT_TRUE(news.hears("b"));
  EXPECT_FALSE(news.hears("a", 1, std::chrono::seconds(0)));
}

TEST_F(RedisListener, ALostConnectionIsMadeAgainAndToldOf) {
  Listener listener(client, "wake", news.callback());
  listener.watch("s");
  ASSERT_TRUE(news.hears("s"));
  news.clear();
  server.kill();
  ASSERT_TRUE(eventually([&] { return !listener.figures().connected; }));
  server.start();
  ASSERT_TRUE(news.hears("", 2)) << "of the streams and of the channel";
  EXPECT_TRUE(listener.figures().connected);
  EXPECT_GE(listener.figures().reconnects, 2U);
  news.clear();
  server.cli({"XADD", "s", "*", "f", "v"});
  ASSERT_TRUE(news.hears("s"));
  server.cli({"PUBLISH", "wake", "orders"});
  ASSERT_TRUE(news.hears("orders"));
}

TEST_F(RedisListener, AStreamThatBeginsAnewIsNoticed) {
  Listener listener(client, "wake", news.callback());
  server.cli({"XADD", "s", "999999999999999-0", "f", "v"});
  listener.watch("s");
  ASSERT_TRUE(news.hears("s"));
  news.clear();
  server.cli({"FLUSHALL"});
  server.cli({"XADD", "s", "1-1", "f", "v"});
  ASSERT_TRUE(news.hears("s"));
}

TEST_F(RedisListener, AKeyThatIsNoStreamDoesNotHinderTheOthers) {
  server.cli({"SET", "text", "v"});
  Listener listener(client, "wake", news.callback());
  listener.watch("text");
  listener.watch("s");
  ASSERT_TRUE(news.hears("s"));
  news.clear();
  server.cli({"XADD", "s", "*", "f", "v"});
  ASSERT_TRUE(news.hears("s"));
}

TEST_F(RedisListener, AForbiddenChannelIsRefused) {
  server.cli({"ACL", "SETUSER", "me", "on", ">pw", "~*", "resetchannels", "+@all"});
  Client other(parse_redis_url("redis+unix://me:pw@" + server.socket()));
  const Error refused = error_of([&] { Listener(other, "wake", news.callback()); });
  EXPECT_EQ(refused.code(), Errc::permission_denied) << refused.what();
}

TEST_F(RedisListener, WhereABlockCannotBeEndedNewStreamsAreStillNoticed) {
  server.cli({"ACL", "SETUSER", "me", "on", ">pw", "~*", "&*", "+@all", "-client|unblock"});
  Client other(parse_redis_url("redis+unix://me:pw@" + server.socket()));
  Listener listener(other, "wake", news.callback());
  listener.watch("a");
  ASSERT_TRUE(news.hears("a"));
  listener.watch("b");
  ASSERT_TRUE(news.hears("b"));
}

TEST_F(RedisListener, TheClientMayStopFirst) {
  Listener listener(client, "wake", news.callback());
  listener.watch("s");
  ASSERT_TRUE(news.hears("s"));
  client.stop(milliseconds(0));
  listener.watch("t");
  listener.forget("s");
  EXPECT_EQ(error_of([&] { client.call(Purpose::key_value, {"PING"}); }).code(), Errc::stopped);
}

}  // namespace
}  // namespace millrace::store::redis
