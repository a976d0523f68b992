// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "sqlite_test_support.hpp"
#include "store/common.hpp"
#include "store/url.hpp"

namespace millrace {
namespace {

using store::parse_store_url;
using test::code_of;

/// Sets or unsets variables and puts them back.
class Environment {
 public:
  void set(const char* name, const char* value) {
    const char* old = std::getenv(name);
    old_.emplace_back(name, old ? std::optional<std::string>(old) : std::nullopt);
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  Environment() {
    for (const char* name : {"MILLRACE_STORE_URL", "EVENT_STORE_BACKEND", "EVENT_STORE_PATH", "REDIS_URL"})
      set(name, nullptr);
  }
  ~Environment() {
    for (auto it = old_.rbegin(); it != old_.rend(); ++it) {
      it->second ? ::setenv(it->first.c_str(), it->second->c_str(), 1) : ::unsetenv(it->first.c_str());
    }
  }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> old_;
};

TEST(StoreUrl, PlainPathMeansSqlite) {
  for (const char* path : {"/var/lib/x.db", "x.db", "./a:b.db", "dir/with?mark.db"}) {
    const auto url = parse_store_url(path);
    EXPECT_EQ(url.scheme, "sqlite");
    EXPECT_EQ(url.path, path);
    EXPECT_TRUE(url.options.empty());
  }
}

TEST(StoreUrl, SplitsAndDecodes) {
  const auto url = parse_store_url("sqlite:/a%20b/c%3f.db?dedup_keep=60&min_free=0&history=90");
  EXPECT_EQ(url.path, "/a b/c?.db");
  ASSERT_EQ(url.options.size(), 3u);
  EXPECT_EQ(url.options[0], (std::pair<std::string, std::string>("dedup_keep", "60")));
  const StoreOptions options = with_url_options(url, {});
  EXPECT_EQ(options.dedup_keep, std::chrono::seconds(60));
  EXPECT_EQ(options.min_free_bytes, 0u);
  EXPECT_EQ(options.history, std::chrono::seconds(90));
  EXPECT_EQ(parse_store_url("sqlite:///a/b.db").path, "/a/b.db");
  EXPECT_EQ(parse_store_url(store::sqlite_url("/a%b?c.db")).path, "/a%b?c.db");
  EXPECT_EQ(parse_store_url("memory:").scheme, "memory");
}

TEST(StoreUrl, RefusesWhatItDoesNotUnderstandAndSaysWhy) {
  std::string text;
  EXPECT_EQ(code_of([] { (void)open_store("mysql://localhost"); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("memory:, sqlite:, redis:"), std::string::npos) << text;
  EXPECT_EQ(code_of([] { (void)open_store("memory:?journal=off"); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("journal"), std::string::npos) << text;
  EXPECT_NE(text.find("dedup_keep"), std::string::npos) << text;
  for (const char* url : {"sqlite:x%2", "sqlite:x%zz", "sqlite:x%00", "sqlite:x?dedup_keep", "memory:?dedup_keep=-1",
                          "memory:?dedup_keep=1d", "memory:?min_free=", "memory:?=1"}) {
    EXPECT_EQ(code_of([&] { with_url_options(parse_store_url(url), {}); }), Errc::invalid_argument) << url;
  }
}

TEST(StoreUrl, DefaultFileFollowsTheXdgDirectories) {
  Environment environment;
  environment.set("HOME", "/home/somebody");
  environment.set("XDG_DATA_HOME", nullptr);
  EXPECT_EQ(parse_store_url("").path, "/home/somebody/.local/share/millrace/events.db");
  EXPECT_EQ(parse_store_url("~/x.db").path, "/home/somebody/x.db");
  environment.set("XDG_DATA_HOME", "/data");
  EXPECT_EQ(parse_store_url("sqlite:").path, "/data/millrace/events.db");
  environment.set("XDG_DATA_HOME", nullptr);
  environment.set("HOME", nullptr);
  EXPECT_EQ(code_of([] { parse_store_url(""); }), Errc::invalid_argument);
}

TEST(StoreOptions, EnvironmentStrongestFirst) {
  Environment environment;
  EXPECT_EQ(StoreOptions::from_env().url, "");
  environment.set("EVENT_STORE_PATH", "/a/b?.db");
  EXPECT_EQ(parse_store_url(StoreOptions::from_env().url).path, "/a/b?.db");
  environment.set("EVENT_STORE_BACKEND", "sqlite");
  EXPECT_EQ(parse_store_url(StoreOptions::from_env().url).path, "/a/b?.db");
  environment.set("EVENT_STORE_BACKEND", "memory");
  EXPECT_EQ(StoreOptions::from_env().url, "memory:");
  environment.set("EVENT_STORE_BACKEND", "redis");
  std::string text;
  EXPECT_EQ(code_of([] { StoreOptions::from_env(); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("REDIS_URL"), std::string::npos);
  environment.set("REDIS_URL", "redis://h:1");
  EXPECT_EQ(StoreOptions::from_env().url, "redis://h:1");
  environment.set("REDIS_URL", "localhost:6379");  // would be the path of a file
  EXPECT_EQ(code_of([] { StoreOptions::from_env(); }, &text), Errc::invalid_argument);
  EXPECT_NE(text.find("redis://HOST:PORT"), std::string::npos) << text;
  environment.set("EVENT_STORE_BACKEND", "mysql");
  EXPECT_EQ(code_of([] { StoreOptions::from_env(); }), Errc::invalid_argument);
  environment.set("MILLRACE_STORE_URL", "memory:?min_free=0");
  EXPECT_EQ(StoreOptions::from_env().url, "memory:?min_free=0");
}

TEST(Start, TextForms) {
  for (const char* text : {"beginning", "end", "42", "1526919030474-55", "2026-01-31T10:00:00.000000Z"}) {
    EXPECT_EQ(Start::parse(text).to_string(), text);
  }
  EXPECT_EQ(Start::parse("42"), Start::after(Position(42)));
  EXPECT_EQ(code_of([] { Start::parse("yesterday"); }), Errc::invalid_argument);
}

TEST(OrderRule, TextFormsAndKeys) {
  for (const char* text : {"key", "none", "attribute:tenantid"}) EXPECT_EQ(OrderRule::parse(text).to_string(), text);
  for (const char* text : {"", "attribute:", "attribute:No", "keys"}) {
    EXPECT_EQ(code_of([&] { OrderRule::parse(text); }), Errc::invalid_argument) << text;
  }
  Event event = test::event_of("1");
  EXPECT_EQ(OrderRule{}.key_of(event), std::nullopt);
  event.subject = "s";
  EXPECT_EQ(OrderRule{}.key_of(event), "s");
  event.set_extension("partitionkey", "p");
  EXPECT_EQ(OrderRule{}.key_of(event), "p");
  EXPECT_EQ(OrderRule::parse("none").key_of(event), std::nullopt);
  EXPECT_EQ(OrderRule::parse("attribute:source").key_of(event), "/test");
}

TEST(Lease, TextForm) {
  const Lease lease{4294967297ULL, Position(42)};
  EXPECT_EQ(lease.to_string(), "4294967297-42");
  EXPECT_EQ(Lease::parse(lease.to_string()), lease);
  for (const char* text : {"", "-", "1", "1-", "-1", "1-x", "x-1", " 1-1", "1 -1"}) {
    EXPECT_EQ(code_of([&] { Lease::parse(text); }), Errc::invalid_argument) << text;
  }
}

TEST(ContentFingerprint, TellsContentsApartAndNeverChanges) {
  EXPECT_EQ(store::content_fingerprint("t", "d"), store::content_fingerprint("t", "d"));
  EXPECT_NE(store::content_fingerprint("t", "d"), store::content_fingerprint("td", ""));
  EXPECT_NE(store::content_fingerprint("t", ""), store::content_fingerprint("t", std::nullopt));
  EXPECT_EQ(store::content_fingerprint("order.placed", "{}"), 8030416519384614606ULL) << "stands in files";
}

TEST(StoreUrl, IsShownWithoutItsPassword) {
  for (const auto& [url, shown] : std::vector<std::pair<std::string, std::string>>{
           {"redis://me:secret@host:6379/1?prefix=a", "redis://me:***@host:6379/1?prefix=a"},
           {"rediss://:secret@host", "rediss://:***@host"},
           {"redis://secret@host", "redis://***@host"},
           {"redis://me:sec@ret:x@host", "redis://me:***@host"},
           {"redis+unix://me:secret@/run/redis.sock", "redis+unix://me:***@/run/redis.sock"},
           {"redis:me:secret@host", "redis:me:***@host"},
           {"Redis://me:secret@host", "Redis://me:***@host"},
           {"postgresql://me:secret@host/db", "postgresql://me:***@host/db"},
           {"redis://host:6379/0", "redis://host:6379/0"},
           {"sqlite:/home/me@work/events.db", "sqlite:/home/me@work/events.db"},
           {"/home/me@work/events.db", "/home/me@work/events.db"},
           {"memory:", "memory:"},
           {"", ""}}) {
    EXPECT_EQ(store::without_password(url), shown);
  }
}

TEST(StoreUrl, OneWithAWrongSchemeIsNoPath) {
  try {
    (void)parse_store_url("Redis://me:secret@host");
    FAIL() << "it was taken for a path";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    EXPECT_EQ(error.object(), "Redis://me:***@host");
    EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace millrace
