// SPDX-License-Identifier: Apache-2.0
#include "store/redis/url.hpp"

#include <gtest/gtest.h>

#include "millrace/error.hpp"

namespace millrace::store::redis {
namespace {

std::string refusal(const std::string& text) {
  try {
    parse_redis_url(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument) << text;
    return error.what();
  }
  ADD_FAILURE() << text << " was taken";
  return {};
}

TEST(RedisUrl, HasDefaults) {
  const RedisUrl url = parse_redis_url("redis://");
  EXPECT_EQ(url.endpoint.host, "localhost");
  EXPECT_EQ(url.endpoint.port, 6379);
  EXPECT_FALSE(url.endpoint.tls);
  EXPECT_EQ(url.database, 0U);
  EXPECT_EQ(url.user, "");
  EXPECT_EQ(url.prefix, "");
  EXPECT_FALSE(url.durability);
  EXPECT_EQ(url.connect_timeout, Milliseconds(2000));
}

TEST(RedisUrl, SaysWhichFieldsOfForeignEntriesMeanWhat) {
  const RedisUrl url = parse_redis_url("redis://?foreign_type=kind,event_type&foreign_time=at&foreign_id=");
  EXPECT_EQ(url.foreign.type, (std::vector<std::string>{"kind", "event_type"}));
  EXPECT_EQ(url.foreign.time, (std::vector<std::string>{"at"}));
  EXPECT_TRUE(url.foreign.id.empty());
  EXPECT_EQ(url.foreign.trace_id, ForeignMapping{}.trace_id);
  EXPECT_NE(refusal("redis://?foreign_type=").find("every event has a type"), std::string::npos);
  EXPECT_NE(refusal("redis://?foreign_time=id").find("already means something else"), std::string::npos);
  EXPECT_NE(refusal("redis://?foreign_type=a,,b").find("a field has a name"), std::string::npos);
}

TEST(RedisUrl, ReadsEveryPart) {
  const RedisUrl url = parse_redis_url(
      "redis://me:p%40ss%2Fw%3Ard@db.example:7000/3?prefix=app:&durability=relaxed&replicas=2&connect_timeout=100&"
      "timeout=900");
  EXPECT_EQ(url.user, "me");
  EXPECT_EQ(url.password, "p@ss/w:rd");
  EXPECT_EQ(url.endpoint.host, "db.example");
  EXPECT_EQ(url.endpoint.port, 7000);
  EXPECT_EQ(url.database, 3U);
  EXPECT_EQ(url.prefix, "app:");
  EXPECT_EQ(url.durability, Level::relaxed);
  EXPECT_EQ(url.replicas, 2U);
  EXPECT_EQ(url.connect_timeout, Milliseconds(100));
  EXPECT_EQ(url.timeout, Milliseconds(900));
}

TEST(RedisUrl, APasswordNeedsNoUser) {
  const RedisUrl url = parse_redis_url("redis://:secret@h/");
  EXPECT_EQ(url.user, "");
  EXPECT_EQ(url.password, "secret");
  EXPECT_EQ(url.database, 0U);
}

TEST(RedisUrl, ReadsIpv6Addresses) {
  const RedisUrl url = parse_redis_url("redis://[::1]:7001");
  EXPECT_EQ(url.endpoint.host, "::1");
  EXPECT_EQ(url.endpoint.port, 7001);
  EXPECT_EQ(url.describe(), "redis://[::1]:7001/0");
}

TEST(RedisUrl, ReadsSocketsInBothSpellings) {
  for (const char* text : {"redis+unix:/run/r.sock?db=2", "redis+unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2"}) {
    const RedisUrl url = parse_redis_url(text);
    EXPECT_EQ(url.endpoint.path, "/run/r.sock") << text;
    EXPECT_EQ(url.database, 2U) << text;
    EXPECT_EQ(url.describe(), "redis+unix:/run/r.sock?db=2");
  }
  const RedisUrl url = parse_redis_url("redis+unix://me:pw@/run/r.sock");
  EXPECT_EQ(url.user, "me");
  EXPECT_EQ(url.password, "pw");
  EXPECT_EQ(url.endpoint.path, "/run/r.sock");
}

TEST(RedisUrl, ReadsTlsOptions) {
  const RedisUrl url = parse_redis_url("rediss://h?ca=/ca.pem&cert=/c.pem&key=/k.pem&server_name=other&insecure=true");
  ASSERT_TRUE(url.endpoint.tls);
  EXPECT_EQ(
      *url.endpoint.tls,
      (io::TlsOptions{
          .ca_file = "/ca.pem", .cert_file = "/c.pem", .key_file = "/k.pem", .server_name = "other", .verify = false}));
  EXPECT_TRUE(parse_redis_url("rediss://h").endpoint.tls->verify);
}

TEST(RedisUrl, LeavesTheOptionsOfEveryStore) {
  StoreUrl url = parse_store_url("redis://h?dedup_keep=60&prefix=x:&history=5");
  EXPECT_EQ(parse_redis_url(url).prefix, "x:");
  const StoreOptions options = with_url_options(url, {});
  EXPECT_EQ(options.dedup_keep, std::chrono::seconds(60));
  EXPECT_EQ(options.history, std::chrono::seconds(5));
}

TEST(RedisUrl, RefusesWhatItCannotHonour) {
  EXPECT_NE(refusal("redis://h?nonsense=1").find("prefix, durability"), std::string::npos);
  EXPECT_NE(refusal("redis://h?min_free=1").find("unknown option 'min_free'"), std::string::npos);
  for (const char* text : {"redis:h",
                           "redis://h:0",
                           "redis://h:65536",
                           "redis://h:",
                           "redis://h/x",
                           "redis://h/-1",
                           "redis://[::1",
                           "redis://[::1]x",
                           "redis://h?durability=strong",
                           "redis://h?replicas=-1",
                           "redis://h?timeout=0",
                           "redis://h?timeout=5s",
                           "redis://h?prefix=a%20b",
                           "redis://h?db=1",
                           "redis://h?ca=/x",
                           "redis://h?insecure=true",
                           "rediss://h?insecure=maybe",
                           "rediss://h?cert=/x",
                           "redis+unix:relative.sock",
                           "redis+unix:",
                           "redis://h?prefix",
                           "redis://h%zz"}) {
    refusal(text);
  }
}

TEST(RedisUrl, NeverShowsThePassword) {
  for (const char* text : {"redis://me:hunter2@h:x", "redis://:hunter2@h/x", "redis://me:hunter2%zz@h",
                           "redis://me:hunter2@h?nonsense=1", "redis://me:hunter2@h?x",
                           "redis+unix://me:hunter2@relative", "redis://me:hunter2/3@h:x", "redis://me:hunter2"}) {
    EXPECT_EQ(refusal(text).find("hunter2"), std::string::npos) << refusal(text);
  }
  EXPECT_EQ(parse_redis_url("redis://me:hunter2@h/1").describe(), "redis://me@h:6379/1");
}

}  // namespace
}  // namespace millrace::store::redis
