// SPDX-License-Identifier: Apache-2.0
#include "store/redis/key_value.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "store/redis/url.hpp"
#include "support/redis_server.hpp"

namespace millrace::store::redis {
namespace {

class RedisKeyValueTest : public testing::Test {
 protected:
  std::string keys(std::string_view prefix, std::string_view after = {}, std::size_t limit = 100) {
    std::string all;
    for (const KeyValueEntry& entry : kv_.scan(prefix, after, limit)) all += entry.key + " ";
    return all;
  }
  std::int64_t indexed() {
    return client_.call(Purpose::key_value, {"ZCARD", keys_.kv_index()}, Access::read).as_integer();
  }

  test::RedisServer server_;
  Client client_{parse_redis_url(server_.url("prefix=p%5B*%5D:"))};
  const Keys keys_{client_.key({})};
  RedisKeyValue kv_{client_, keys_};
};

TEST_F(RedisKeyValueTest, AKeyIsReadableByRedisCli) {
  const std::uint64_t version = kv_.set("color", "blue", std::nullopt);
  const Reply fields = client_.call(Purpose::key_value, {"HGETALL", "p[*]:millrace:kv:color"}, Access::read);
  ASSERT_EQ(fields.as_array().size(), 4U);
  EXPECT_EQ(fields.items[1].text, "blue");
  EXPECT_EQ(fields.items[3].text, std::to_string(version));
}

TEST_F(RedisKeyValueTest, GlobCharactersAndBytesInKeysMeanThemselves) {
  const std::string bytes("\0\xFF\x01", 3);
  for (const std::string& key : {std::string("a*"), std::string("ab"), std::string("a?"), std::string("[a]"), bytes}) {
    kv_.set(key, "of " + key, std::nullopt);
  }
  EXPECT_EQ(keys("a*"), "a* ");
  EXPECT_EQ(keys("["), "[a] ");
  EXPECT_EQ(keys("a"), "a* a? ab ");
  EXPECT_EQ(kv_.scan(std::string_view("\0", 1), {}, 10).at(0).value, "of " + bytes);
  EXPECT_EQ(kv_.scan(std::string_view("\0\xFF", 2), {}, 10).size(), 1U);
}

TEST_F(RedisKeyValueTest, ScanGoesOnBehindAKeyThatIsNotThere) {
  for (const char* key : {"a", "b", "p/1", "p/2", "p/3", "q"}) kv_.set(key, key, std::nullopt);
  EXPECT_EQ(keys("p/", "p/15"), "p/2 p/3 ");
  EXPECT_EQ(keys("p/", "a"), "p/1 p/2 p/3 ");
  EXPECT_EQ(keys("p/", "q"), "");
  EXPECT_EQ(keys("", "", 2), "a b ");
  EXPECT_EQ(keys("", "b", 2), "p/1 p/2 ");
  EXPECT_EQ(keys("", "", 0), "");
}

TEST_F(RedisKeyValueTest, ScanGoesThroughMoreKeysThanAScriptLooksAt) {
  constexpr int kCount = 1'700;
  for (int i = 0; i < kCount; ++i) {
    kv_.set("k" + std::to_string(10'000 + i), "v", i % 3 == 0 ? std::nullopt : std::optional(Milliseconds{1}));
  }
  std::this_thread::sleep_for(Milliseconds{5});
  const auto all = kv_.scan("k", {}, 10'000);
  ASSERT_EQ(all.size(), 567U);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].key, "k" + std::to_string(10'000 + 3 * i));
  EXPECT_EQ(indexed(), 567) << "what had expired is no longer in the index";
}

TEST_F(RedisKeyValueTest, ExpiryIsExactOnTheServersClock) {
  const auto server_now = [&] {
    const Reply time = client_.call(Purpose::key_value, {"TIME"}, Access::read);
    return Timestamp{std::chrono::seconds{std::stoll(time.as_array().at(0).as_text())} +
                     std::chrono::microseconds{std::stoll(time.as_array().at(1).as_text())}};
  };
  const Milliseconds ttl{60};
  const Timestamp before = server_now();
  kv_.set("brief", "x", ttl);
  const Timestamp after = server_now();
  const Timestamp expires = kv_.get("brief")->expires_at.value();
  EXPECT_GE(expires, before + ttl) << "it lives as long as was asked";
  EXPECT_LE(expires, after + ttl + Milliseconds{1});
  while (true) {
    const Timestamp asked = server_now();
    const bool there = kv_.get("brief").has_value();
    const Timestamp answered = server_now();
    if (there) {
      EXPECT_LT(asked, expires) << "present after it said to expire";
    } else {
      EXPECT_GE(answered, expires) << "gone before it said to expire";
      break;
    }
  }
  EXPECT_EQ(kv_.scan("brief", {}, 10).size(), 0U);
  EXPECT_FALSE(kv_.compare_and_swap("brief", 1, "y", std::nullopt));
  EXPECT_FALSE(kv_.erase("brief", std::nullopt));
}

TEST_F(RedisKeyValueTest, CleaningGoesThroughTheWholeIndex) {
  for (int i = 0; i < 1'200; ++i) kv_.set("k" + std::to_string(i), "v", Milliseconds{1});
  kv_.set("stays", "v", std::nullopt);
  std::this_thread::sleep_for(Milliseconds{5});
  std::string after;
  int calls = 0;
  do {
    after = kv_.clean(after);
    ASSERT_LT(++calls, 10);
  } while (!after.empty());
  EXPECT_GT(calls, 1) << "in parts";
  EXPECT_EQ(indexed(), 1);
  EXPECT_EQ(keys(""), "stays ");
}

TEST_F(RedisKeyValueTest, VersionsAreNeverUsedAgainThoughTheServerWasFlushed) {
  const std::uint64_t before = kv_.set("a", "1", std::nullopt);
  client_.call(Purpose::key_value, {"FLUSHALL"});
  EXPECT_GT(kv_.set("a", "2", std::nullopt), before);
}

TEST_F(RedisKeyValueTest, OfManyThatWantAKeyOneGetsIt) {
  std::atomic<int> won{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      if (kv_.set_if_absent("lock", "mine", Milliseconds{60'000})) ++won;
    });
  }
  threads.clear();
  EXPECT_EQ(won, 1);
}

TEST_F(RedisKeyValueTest, WhenMemoryIsShortWhatIsThereCanBeReadAndErased) {
  kv_.set("there", "x", std::nullopt);
  client_.call(Purpose::key_value, {"CONFIG", "SET", "maxmemory", "1"});
  try {
    kv_.set("more", "y", std::nullopt);
    FAIL() << "there was no memory";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::store_full) << error.what();
  }
  EXPECT_EQ(kv_.get("there")->value, "x");
  EXPECT_EQ(keys(""), "there ");
  EXPECT_TRUE(kv_.erase("there", std::nullopt));
}

}  // namespace
}  // namespace millrace::store::redis
