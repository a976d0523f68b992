// SPDX-License-Identifier: Apache-2.0
#include "store/redis/errors.hpp"

#include <gtest/gtest.h>

namespace millrace::store::redis {
namespace {

struct Case {
  const char* reply;
  Errc errc;
};

// As Redis 7.0.15 words them.
constexpr Case kCases[] = {
    {"OOM command not allowed when used memory > 'maxmemory'.", Errc::store_full},
    {"MISCONF Errors writing to the AOF file: No space left on device", Errc::store_full},
    {"MISCONF Errors writing to the AOF file: Input/output error", Errc::unavailable},
    {"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
     Errc::unavailable},
    {"READONLY You can't write against a read only replica.", Errc::unavailable},
    {"LOADING Redis is loading the dataset in memory", Errc::unavailable},
    {"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Errc::unavailable},
    {"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Errc::unavailable},
    {"NOREPLICAS Not enough good replicas to write.", Errc::unavailable},
    {"TRYAGAIN Multiple keys request during rehashing of slot", Errc::unavailable},
    {"NOSCRIPT No matching script. Please use EVAL.", Errc::unavailable},
    {"ERR max number of clients reached", Errc::unavailable},
    {"NOAUTH Authentication required.", Errc::permission_denied},
    {"WRONGPASS invalid username-password pair or user is disabled.", Errc::permission_denied},
    {"ERR AUTH <password> called without any password configured for the default user.", Errc::permission_denied},
    {"NOPERM this user has no permissions to run the 'xadd' command", Errc::permission_denied},
    {"DENIED Redis is running in protected mode because protected mode is enabled", Errc::permission_denied},
    {"MOVED 3999 127.0.0.1:6381", Errc::invalid_argument},
    {"ASK 3999 127.0.0.1:6381", Errc::invalid_argument},
    {"CROSSSLOT Keys in request don't hash to the same slot", Errc::invalid_argument},
    {"CLUSTERDOWN Hash slot not served", Errc::invalid_argument},
    {"ERR DB index is out of range", Errc::invalid_argument},
    {"ERR string exceeds maximum allowed size (proto-max-bulk-len)", Errc::too_large},
    {"WRONGTYPE Operation against a key holding the wrong kind of value", Errc::corrupt},
    {"NOGROUP No such key 'x' or consumer group 'g'", Errc::unknown_group},
    {"BUSYGROUP Consumer Group name already exists", Errc::already_exists},
    {"NOPROTO unsupported protocol version", Errc::unsupported_version},
    {"ERR unknown command 'HELLO', with args beginning with: ", Errc::unsupported_version},
    {"ERR Error compiling script (new function): user_script:1: unexpected symbol", Errc::internal},
    {"OOMMM", Errc::internal},
    {"", Errc::internal},
    {"MILLRACE unknown_group orders no such group", Errc::unknown_group},
    {"MILLRACE nonsense orders no such group", Errc::internal},
};

TEST(RedisErrors, MapsWhatTheServerSays) {
  for (const Case& c : kCases) {
    EXPECT_EQ(errc_of(c.reply), c.errc) << c.reply;
    EXPECT_EQ(to_error(c.reply, "append", "redis://h:1/0").code(), c.errc) << c.reply;
  }
}

TEST(RedisErrors, TellWhatWasDoneWhereAndTheServersWords) {
  const Error error = to_error("OOM command not allowed", "append", "redis://h:1/0");
  EXPECT_EQ(error.operation(), "append");
  EXPECT_EQ(error.object(), "redis://h:1/0");
  EXPECT_EQ(error.native(), "OOM command not allowed");
  EXPECT_NE(error.message().find("maxmemory"), std::string::npos);
}

TEST(RedisErrors, AScriptsRefusalIsItsOwn) {
  const Error error = to_error("MILLRACE unknown_stream orders no such stream; make it first", "append", "server");
  EXPECT_EQ(error.code(), Errc::unknown_stream);
  EXPECT_EQ(error.object(), "orders");
  EXPECT_EQ(error.message(), "no such stream; make it first");
  EXPECT_EQ(error.native(), "");
  EXPECT_EQ(to_error("MILLRACE busy - somebody has it", "x", "server").object(), "");
}

}  // namespace
}  // namespace millrace::store::redis
