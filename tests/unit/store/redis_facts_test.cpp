// SPDX-License-Identifier: Apache-2.0
#include "store/redis/server_facts.hpp"

#include <gtest/gtest.h>

#include "store/redis/clock.hpp"
#include "store/redis/resp.hpp"

namespace millrace::store::redis {
namespace {

Reply text(const std::string& value) {
  return {.kind = Reply::Kind::text, .text = value};
}
Reply texts(const std::vector<std::string>& values) {
  Reply reply{.kind = Reply::Kind::array};
  for (const std::string& value : values) reply.items.push_back(text(value));
  return reply;
}
Reply forbidden() {
  return {.kind = Reply::Kind::error, .text = "NOPERM no"};
}

ServerFacts good() {
  return {.version = "7.0.15",
          .mode = "standalone",
          .role = "master",
          .appendonly = "yes",
          .appendfsync = "always",
          .no_fsync_on_rewrite = "no",
          .load_truncated = "no",
          .maxmemory_policy = "noeviction"};
}

std::string why(const ServerFacts& facts, const std::string& options, Errc expected) {
  const std::optional<Error> error = why_unfit(facts, parse_redis_url("redis://h?" + options));
  if (!error) return "";
  EXPECT_EQ(error->code(), expected) << error->what();
  return error->message();
}

TEST(RedisServerFacts, AreReadFromInfoAndConfig) {
  const ServerFacts facts = read_facts(
      nullptr,
      text("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n"
           "connected_slaves:2\r\nloading:0\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\ncluster_enabled:0\r\n"),
      texts({"appendonly", "yes", "maxmemory-policy", "noeviction", "appendfsync", "always",
             "no-appendfsync-on-rewrite", "no", "aof-load-truncated", "no"}));
  ServerFacts expected = good();
  expected.replicas = 2;
  EXPECT_EQ(facts, expected);
}

TEST(RedisServerFacts, AreKnownAsFarAsTheAclAllows) {
  const Reply hello = texts({"server", "redis", "version", "7.0.15", "mode", "standalone", "role", "master"});
  const ServerFacts none = read_facts(&hello, forbidden(), forbidden());
  EXPECT_EQ(none.version, "7.0.15");
  EXPECT_EQ(none.level(), Level::unknown);
  const ServerFacts without_aof = read_facts(&hello, text("redis_version:7.0.15\r\naof_enabled:0\r\n"), forbidden());
  EXPECT_EQ(without_aof.level(), Level::memory);
  const ServerFacts with_aof = read_facts(&hello, text("redis_version:7.0.15\r\naof_enabled:1\r\n"), forbidden());
  EXPECT_EQ(with_aof.level(), Level::unknown);
}

TEST(RedisServerFacts, GiveTheLevel) {
  struct Case {
    const char* appendonly;
    const char* appendfsync;
    const char* no_fsync;
    Level level;
  };
  for (const Case& c : {Case{"yes", "always", "no", Level::durable}, Case{"yes", "always", "yes", Level::relaxed},
                        Case{"yes", "everysec", "no", Level::relaxed}, Case{"yes", "no", "no", Level::relaxed},
                        Case{"no", "always", "no", Level::memory}, Case{"no", "", "", Level::memory},
                        Case{"", "", "", Level::unknown}, Case{"yes", "", "no", Level::unknown}}) {
    ServerFacts facts = good();
    facts.appendonly = c.appendonly;
    facts.appendfsync = c.appendfsync;
    facts.no_fsync_on_rewrite = c.no_fsync;
    EXPECT_EQ(facts.level(), c.level) << c.appendonly << c.appendfsync << c.no_fsync;
  }
}

TEST(RedisServerFacts, RefuseWhatIsNotSupportedByName) {
  EXPECT_EQ(why(good(), "", Errc::internal), "");
  ServerFacts facts = good();
  facts.version = "6.2.14";
  const std::string old = why(facts, "", Errc::unsupported_version);
  EXPECT_NE(old.find("6.2.14"), std::string::npos);
  EXPECT_NE(old.find("7.0"), std::string::npos);
  facts = good();
  facts.version = "10.1.0";
  EXPECT_EQ(why(facts, "", Errc::internal), "");
  facts = good();
  facts.mode = "cluster";
  EXPECT_NE(why(facts, "", Errc::invalid_argument).find("Cluster"), std::string::npos);
  facts.mode = "sentinel";
  EXPECT_NE(why(facts, "", Errc::invalid_argument).find("Sentinel"), std::string::npos);
  facts = good();
  facts.maxmemory_policy = "volatile-ttl";
  const std::string evicts = why(facts, "", Errc::invalid_argument);
  EXPECT_NE(evicts.find("volatile-ttl"), std::string::npos);
  EXPECT_NE(evicts.find("noeviction"), std::string::npos);
}

TEST(RedisServerFacts, ATornFileThatIsLoadedAnywayIsDoubtfulAndNotUnfit) {
  ServerFacts facts = good();
  EXPECT_FALSE(why_doubtful(facts));
  facts.load_truncated = "yes";
  EXPECT_EQ(why(facts, "", Errc::internal), "");
  EXPECT_NE(why_doubtful(facts).value_or(Store::Doubt{}).to_do.find("redis-check-aof"), std::string::npos);
  facts.appendonly = "no";
  EXPECT_FALSE(why_doubtful(facts));
  facts.appendonly = "";  // not known
  EXPECT_FALSE(why_doubtful(facts));
}

TEST(RedisServerFacts, PassingStatesAreTransient) {
  ServerFacts facts = good();
  facts.loading = true;
  EXPECT_NE(why(facts, "", Errc::unavailable), "");
  facts = good();
  facts.role = "slave";
  EXPECT_NE(why(facts, "", Errc::unavailable), "");
  facts = good();
  facts.replicas = 1;
  EXPECT_EQ(why(facts, "replicas=1", Errc::internal), "");
  EXPECT_NE(why(facts, "replicas=2", Errc::unavailable).find("replicas=2"), std::string::npos);
}

TEST(RedisServerFacts, LessThanAskedIsRefusedNamingTheSettingAndTheOption) {
  ServerFacts facts = good();
  facts.appendfsync = "everysec";
  const std::string weak = why(facts, "", Errc::invalid_argument);
  EXPECT_NE(weak.find("appendfsync is everysec"), std::string::npos) << weak;
  EXPECT_NE(weak.find("durability=relaxed"), std::string::npos) << weak;
  EXPECT_EQ(why(facts, "durability=relaxed", Errc::internal), "");
  EXPECT_EQ(why(facts, "durability=memory", Errc::internal), "");
  facts.appendonly = "no";
  EXPECT_NE(why(facts, "durability=relaxed", Errc::invalid_argument).find("appendonly is no"), std::string::npos);
  EXPECT_EQ(why(facts, "durability=memory", Errc::internal), "");
  facts = good();
  facts.no_fsync_on_rewrite = "yes";
  EXPECT_NE(why(facts, "durability=durable", Errc::invalid_argument).find("no-appendfsync-on-rewrite"),
            std::string::npos);
  facts = good();
  EXPECT_EQ(why(facts, "durability=memory", Errc::internal), "") << "more than asked will do";
}

TEST(RedisServerFacts, WhereTheLevelCannotBeReadTheUrlMustSay) {
  ServerFacts facts = good();
  facts.appendonly = facts.appendfsync = facts.no_fsync_on_rewrite = "";
  const std::string message = why(facts, "", Errc::invalid_argument);
  EXPECT_NE(message.find("durability=unknown"), std::string::npos) << message;
  for (const char* said : {"durable", "relaxed", "memory", "unknown"}) {
    const RedisUrl url = parse_redis_url("redis://h?durability=" + std::string(said));
    EXPECT_FALSE(why_unfit(facts, url)) << said;
    EXPECT_EQ(to_string(level_of(facts, url)), said);
  }
  EXPECT_EQ(level_of(good(), parse_redis_url("redis://h?durability=memory")), Level::durable) << "what is read counts";
}

// ---- the protocol and the clock -------------------------------------------------------------------------------------

TEST(RedisProtocol, FormatsAnyBytes) {
  std::string out;
  format_command(std::vector<std::string>{"SET", std::string("a\0b", 3), ""}, out);
  EXPECT_EQ(out, std::string("*3\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$0\r\n\r\n", 28));
}

TEST(RedisProtocol, ReadsEveryKindByteByByte) {
  const std::string bytes =
      "+OK\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n-ERR no\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n*0\r\n$-1\r\n";
  ReplyReader reader;
  std::vector<Reply> replies;
  for (const char c : bytes) {
    reader.feed({&c, 1});
    while (std::optional<Reply> reply = reader.next()) replies.push_back(std::move(*reply));
  }
  ASSERT_EQ(replies.size(), 7U);
  EXPECT_EQ(replies[0], text("OK"));
  EXPECT_EQ(replies[1].as_integer(), -7);
  EXPECT_EQ(replies[2].as_text(), "a\r\n");
  EXPECT_TRUE(replies[3].is_nil());
  EXPECT_TRUE(replies[4].is_nil());
  EXPECT_TRUE(replies[5].is_error());
  EXPECT_EQ(replies[5].text, "ERR no");
  const auto& items = replies[6].as_array();
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[1].as_array()[0].as_text(), "x");
  EXPECT_EQ(items[1].as_array()[1].as_array().size(), 0U);
  EXPECT_TRUE(items[2].is_nil());
}

TEST(RedisProtocol, TakesLargeTextsInPiecesOfAnySize) {
  const auto bulk = [](std::size_t size, char filler) {
    std::string text(size, filler);
    for (std::size_t i = 0; i + 1 < size; i += 1'000) text.replace(i, 2, "\r\n");
    return "$" + std::to_string(size) + "\r\n" + text + "\r\n";
  };
  constexpr std::size_t kLarge = 256UL << 10;
  const std::vector<std::size_t> sizes{kLarge - 1, kLarge, kLarge + 1, 0, 5, 1'000'000, 2'000'000, 1};
  std::string bytes = "+first\r\n*" + std::to_string(sizes.size()) + "\r\n";
  for (const std::size_t size : sizes) bytes += bulk(size, static_cast<char>('a' + size % 26));
  bytes += bulk(700'000, 'z') + ":7\r\n*1\r\n*2\r\n" + bulk(400'000, 'y') + "-ERR no\r\n$-1\r\n+last\r\n";
  for (const std::size_t piece : {1UL, 2UL, 997UL, 65'536UL, 300'000UL, bytes.size()}) {
    ReplyReader reader;
    std::vector<Reply> replies;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      reader.feed(std::string_view(bytes).substr(at, piece));
      while (std::optional<Reply> reply = reader.next()) replies.push_back(std::move(*reply));
    }
    ASSERT_EQ(replies.size(), 7U) << piece;
    EXPECT_EQ(replies[0], text("first"));
    ASSERT_EQ(replies[1].as_array().size(), sizes.size());
    const auto as_sent = [&bulk](const Reply& reply, std::size_t size, char filler) {
      return "$" + std::to_string(size) + "\r\n" + reply.as_text() + "\r\n" == bulk(size, filler);
    };
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_TRUE(as_sent(replies[1].items[i], sizes[i], static_cast<char>('a' + sizes[i] % 26))) << piece << " " << i;
    }
    EXPECT_TRUE(as_sent(replies[2], 700'000, 'z')) << piece;
    EXPECT_EQ(replies[3].as_integer(), 7);
    const auto& inner = replies[4].as_array().at(0).as_array();
    EXPECT_TRUE(as_sent(inner.at(0), 400'000, 'y')) << piece;
    EXPECT_EQ(inner.at(1).text, "ERR no");
    EXPECT_TRUE(replies[5].is_nil()) << piece;
    EXPECT_EQ(replies[6], text("last"));
  }
}

TEST(RedisProtocol, RefusesWhatIsNoReply) {
  for (const char* bytes : {"HTTP/1.1 400 Bad Request\r\n", "*99999999999\r\n", "*2000000000\r\n", "$x\r\n"}) {
    ReplyReader reader;
    reader.feed(bytes);
    try {
      reader.next();
      ADD_FAILURE() << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::corrupt);
    }
  }
}

TEST(RedisProtocol, AskingForAnotherKindIsCorrupt) {
  EXPECT_THROW((void)text("x").as_integer(), Error);
  EXPECT_THROW((void)text("x").as_array(), Error);
  EXPECT_THROW((void)Reply{}.as_text(), Error);
}

using Steady = ServerClock::Steady;
Steady at(int ms) {
  return Steady(Milliseconds(1'000'000 + ms));
}
Timestamp time(std::int64_t ms) {
  return Timestamp(Milliseconds(ms));
}

TEST(RedisServerClock, RunsOnFromTheMiddleOfTheQuestion) {
  ServerClock clock;
  clock.observe(time(5'000), at(0), at(10));
  EXPECT_EQ(clock.now(at(5)), time(5'000));
  EXPECT_EQ(clock.now(at(1'005)), time(6'000));
}

TEST(RedisServerClock, NeverGoesBack) {
  ServerClock clock;
  clock.observe(time(5'000), at(0), at(0));
  EXPECT_EQ(clock.now(at(100)), time(5'100));
  clock.observe(time(5'040), at(100), at(100));
  EXPECT_EQ(clock.behind(), Milliseconds(60));
  EXPECT_EQ(clock.now(at(100)), time(5'100));
  EXPECT_EQ(clock.now(at(150)), time(5'100)) << "it stands until the server has caught up";
  EXPECT_EQ(clock.now(at(170)), time(5'110));
}

TEST(RedisServerClock, JumpsForwardWithTheServer) {
  ServerClock clock;
  clock.observe(time(5'000), at(0), at(0));
  clock.observe(time(9'000), at(100), at(100));
  EXPECT_EQ(clock.now(at(100)), time(9'000));
}

}  // namespace
}  // namespace millrace::store::redis
