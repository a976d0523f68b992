// SPDX-License-Identifier: Apache-2.0
#include "daemon/config_tables.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace millrace::daemon {
namespace {

using testing::HasSubstr;

/// A folder of its own, and an environment that names no configuration.
class ConfigTest : public testing::Test {
 protected:
  ConfigTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "millrace-config-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    set("XDG_CONFIG_HOME", folder_.string());
    for (const auto& key : descriptors()) unset(variable(key));
    unset("MILLRACE_CONFIG");
  }
  ~ConfigTest() override {
    for (const auto& name : touched_) unsetenv(name.c_str());
    std::filesystem::remove_all(folder_);
  }

  void set(const std::string& name, const std::string& value) {
    touched_.push_back(name);
    setenv(name.c_str(), value.c_str(), 1);
  }
  static void unset(const std::string& name) { unsetenv(name.c_str()); }

  static std::string variable(const Descriptor& key) {
    std::string name = "MILLRACE_" + key.section + '_' + key.key;
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return name;
  }

  std::string file(const std::string& name, const std::string& content) {
    const auto path = folder_ / name;
    std::ofstream(path) << content;
    return path.string();
  }

  /// What load_config refuses, as "object: message".
  static std::string refusal(const std::optional<std::string>& path,
                             const std::map<std::string, std::string>& flags = {}) {
    try {
      load_config(path, flags);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument) << error.what();
      return error.object() + ": " + error.message();
    }
    return "nothing was refused";
  }

  std::filesystem::path folder_;
  std::vector<std::string> touched_;
};

TEST_F(ConfigTest, DefaultsAreThoseOfTheStructures) {
  const auto loaded = load_config(std::nullopt, {});
  const Config defaults;
  for (const auto& key : descriptors()) {
    const std::string name = key.section + '.' + key.key;
    EXPECT_EQ(key.get(loaded.config), key.get(defaults)) << name;
    EXPECT_EQ(loaded.origins.at(name), Origin::default_value) << name;
  }
  EXPECT_FALSE(loaded.file.has_value());
}

TEST_F(ConfigTest, EveryKeyTakesItsOwnExampleAndItsOwnOutput) {
  file("token", "secret\n");
  const std::map<std::string, std::string> together{{"tls_cert", "tls_key = \"k\"\n"},
                                                    {"tls_key", "tls_cert = \"c\"\n"}};
  for (const auto& key : descriptors()) {
    const auto twin = together.find(key.key);
    const std::string section = '[' + key.section + "]\n" + (twin == together.end() ? "" : twin->second);
    const std::string name = key.section + '.' + key.key;
    const std::string value = key.secret ? "\"file:" + (folder_ / "token").string() + '"' : key.example;
    const auto path = file("one.toml", section + key.key + " = " + value + '\n');
    const auto loaded = load_config(path, {});
    EXPECT_EQ(loaded.origins.at(name), Origin::file) << name;
    if (key.secret) continue;
    const auto again = load_config(file("two.toml", section + key.key + " = " + key.get(loaded.config) + '\n'), {});
    EXPECT_EQ(key.get(again.config), key.get(loaded.config)) << name;
  }
}

TEST_F(ConfigTest, CertificateAndKeyAreSetTogether) {
  EXPECT_THAT(refusal(file("a.toml", "[server]\ntls_cert = \"c\"\n")), HasSubstr("server.tls_key"));
  EXPECT_THAT(refusal(file("b.toml", "[server]\ntls_key = \"k\"\n")), HasSubstr("server.tls_cert"));
}

TEST_F(ConfigTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const auto path =
      file("a.toml", "[server]\nmax_connections = 1\n[log]\nlevel = \"warn\"\n[delivery]\nmax_attempts = 7\n");
  set("MILLRACE_SERVER_MAX_CONNECTIONS", "2");
  set("MILLRACE_LOG_LEVEL", "error");
  const auto loaded = load_config(path, {{"server.max_connections", "3"}});
  EXPECT_EQ(loaded.config.server.max_connections, 3U);
  EXPECT_EQ(loaded.origins.at("server.max_connections"), Origin::flag);
  EXPECT_EQ(loaded.config.log.level, log::Level::error);
  EXPECT_EQ(loaded.origins.at("log.level"), Origin::environment);
  EXPECT_EQ(loaded.config.delivery.group.retry.max_attempts, 7U);
  EXPECT_EQ(loaded.origins.at("delivery.max_attempts"), Origin::file);
  EXPECT_EQ(loaded.origins.at("server.listen"), Origin::default_value);
}

TEST_F(ConfigTest, UnknownKeyNamesTheNearestOneAndItsLine) {
  const auto path = file("a.toml", "[server]\nlisten = \"127.0.0.1:1\"\nmax_conections = 5\n");
  EXPECT_EQ(refusal(path),
            path + ":3: unknown key server.max_conections; the nearest known one is server.max_connections");
}

TEST_F(ConfigTest, UnknownSectionNamesTheNearestKey) {
  const auto path = file("a.toml", "\n[servr]\nlisten = \"127.0.0.1:1\"\n");
  EXPECT_THAT(refusal(path), HasSubstr(":2: unknown key servr.listen; the nearest known one is server.listen"));
}

TEST_F(ConfigTest, UnknownVariableOfAKnownSectionIsRefused) {
  set("MILLRACE_SERVER_LISTN", "127.0.0.1:1");
  EXPECT_THAT(
      refusal(std::nullopt),
      HasSubstr(
          "MILLRACE_SERVER_LISTN: is no configuration variable; the nearest known one is MILLRACE_SERVER_LISTEN"));
}

TEST_F(ConfigTest, VariableTwoLettersOffAKnownOneIsRefused) {
  set("MILLRACE_SERVRE_LISTEN", "127.0.0.1:1");
  EXPECT_THAT(refusal(std::nullopt), HasSubstr("MILLRACE_SERVER_LISTEN"));
}

TEST_F(ConfigTest, VariablesOfOthersAreLeftAlone) {
  for (const char* name : {"MILLRACE_URL", "MILLRACE_TOKEN", "MILLRACE_CA_FILE", "MILLRACE_PROGRAM",
                           "MILLRACE_TEST_SEED", "MILLRACE_CHECKOUT"})
    set(name, "x");
  EXPECT_NO_THROW(load_config(std::nullopt, {}));
}

TEST_F(ConfigTest, BadValuesNameTheKeyTheLineAndTheRule) {
  EXPECT_THAT(refusal(file("a.toml", "[server]\nmax_connections = 0\n")), HasSubstr("server.max_connections ("));
  EXPECT_THAT(refusal(file("b.toml", "[server]\n\nrequest_timeout = \"30\"\n")),
              HasSubstr("b.toml:3): \"30\" is not a duration from 1s to 10m"));
  EXPECT_THAT(refusal(file("c.toml", "[log]\nlevel = \"loud\"\n")),
              HasSubstr("is not one of debug, info, warn, error, off"));
  EXPECT_THAT(refusal(file("d.toml", "[server]\nlisten = \"localhost\"\n")), HasSubstr("is not host:port"));
  EXPECT_THAT(refusal(file("e.toml", "[server]\nmax_connections = 1.5\n")),
              HasSubstr("has the wrong kind of value; write it as 10000"));
  EXPECT_THAT(refusal(file("f.toml", "[server\n")), HasSubstr("f.toml:1: is not TOML"));
  EXPECT_THAT(refusal(std::nullopt, {{"server.max_wait", "x"}}), HasSubstr("server.max_wait (--server-max-wait)"));
  EXPECT_THAT(refusal(std::nullopt, {{"server.nothing", "x"}}), HasSubstr("unknown key"));
  EXPECT_THAT(refusal(std::nullopt, {{"store.url", "/tmp/a\xff.db"}}),
              HasSubstr("store.url (--store-url): is not UTF-8 text"));
  set("CONFIG_TEST_BYTES", "\xff");
  EXPECT_THAT(refusal(file("g.toml", "[store]\nurl = \"${CONFIG_TEST_BYTES}\"\n")), HasSubstr("is not UTF-8 text"));
}

TEST_F(ConfigTest, ValuesThatContradictEachOtherAreRefused) {
  EXPECT_THAT(refusal(std::nullopt, {{"delivery.handler_max", "1ms"}}), HasSubstr("delivery.handler_max"));
  EXPECT_THAT(refusal(std::nullopt, {{"server.max_batch_bytes", "2048"}}), HasSubstr("server.max_batch_bytes"));
}

TEST_F(ConfigTest, ListeningBeyondLoopbackNeedsAToken) {
  EXPECT_THAT(refusal(std::nullopt, {{"server.listen", "0.0.0.0:8420"}}), HasSubstr("set server.token"));
  EXPECT_NO_THROW(load_config(std::nullopt, {{"server.listen", "0.0.0.0:8420"}, {"server.token", "t"}}));
  for (const char* loopback : {"127.0.0.1:0", "127.0.0.5:1", "[::1]:1"}) {
    EXPECT_NO_THROW(load_config(std::nullopt, {{"server.listen", loopback}})) << loopback;
  }
}

TEST_F(ConfigTest, FileValuesMayUseVariables) {
  set("CONFIG_TEST_FOLDER", "/data");
  const auto loaded = load_config(file("a.toml", "[store]\nurl = \"sqlite:${CONFIG_TEST_FOLDER}/events.db\"\n"), {});
  EXPECT_EQ(loaded.config.store.url, "sqlite:/data/events.db");
  EXPECT_THAT(refusal(file("b.toml", "[store]\nurl = \"${CONFIG_TEST_ABSENT}\"\n")),
              HasSubstr("CONFIG_TEST_ABSENT is not set"));
  EXPECT_THAT(refusal(file("c.toml", "[store]\nurl = \"${CONFIG\"\n")), HasSubstr("is not closed"));
}

TEST_F(ConfigTest, SecretsComeFromFilesAndAreNeverPrinted) {
  const auto secret = file("token", "s3cret\n");
  const auto loaded = load_config(file("a.toml", "[server]\ntoken = \"file:" + secret + "\"\n"), {});
  EXPECT_EQ(loaded.config.server.token, "s3cret");
  for (const auto& key : descriptors()) EXPECT_THAT(key.get(loaded.config), testing::Not(HasSubstr("s3cret")));
  EXPECT_THAT(refusal(std::nullopt, {{"server.token", "file:" + (folder_ / "absent").string()}}),
              HasSubstr("cannot read the secret file"));
  EXPECT_THAT(refusal(std::nullopt, {{"server.token", "file:" + file("empty", "\n")}}), HasSubstr("is empty"));
}

TEST_F(ConfigTest, SchemasStandSeveralTimesAndAreShownAsTheyCanBeRead) {
  const std::string text =
      "[[schema]]\ntype = \"asset.discovered\"\ndeprecated = true\n"
      "[[schema]]\ntype = \"asset.discovered\"\nversion = 2\ndescription = \"with \\\"tags\\\"\"\n"
      "upcast = [{rename = \"/path\", to = \"file_path\"}, {add = \"/tags\", value = \"[]\"}, {remove = \"/a/b\"}, "
      "{move = \"/c\", to = \"/d/c\"}]\n"
      "[[schema]]\ntype = \"asset.discovered\"\nversion = 3\nupcast = \"program\"\n";
  const auto loaded = load_config(file("a.toml", text), {});
  ASSERT_EQ(loaded.config.schemas.size(), 3U);
  EXPECT_TRUE(loaded.config.schemas[0].schema.deprecated);
  const std::vector<SchemaChange> changes{SchemaChange::rename("/path", "file_path"), SchemaChange::add("/tags", "[]"),
                                          SchemaChange::remove("/a/b"), SchemaChange::move("/c", "/d/c")};
  EXPECT_EQ(loaded.config.schemas[1].changes, changes);
  EXPECT_EQ(loaded.config.schemas[1].schema.description, "with \"tags\"");
  EXPECT_EQ(loaded.config.schemas[2].step, SchemaRegistry::StepKind::program);

  const auto kind = schema_table();
  std::string shown;
  for (const auto& row : kind.rows(loaded.config)) {
    shown += "[[schema]]\n";
    for (const auto& [key, value] : row) shown += key + " = " + value + '\n';
  }
  const auto again = load_config(file("b.toml", shown), {});
  EXPECT_EQ(kind.rows(again.config), kind.rows(loaded.config));
}

TEST_F(ConfigTest, ASchemaThatMakesNoSenseIsRefusedWithItsLine) {
  const auto refused = [this](const std::string& rest) {
    return refusal(file("a.toml", "[[schema]]\ntype = \"a\"\n" + rest));
  };
  EXPECT_THAT(refused("verson = 2\n"), HasSubstr("a.toml:3: unknown key schema.verson; the nearest known one is "
                                                 "schema.version"));
  EXPECT_THAT(refusal(file("b.toml", "[[schema]]\nversion = 2\n")),
              HasSubstr("schema.type (" + (folder_ / "b.toml:1").string() + "): is required"));
  EXPECT_THAT(refusal(file("b.toml", "[schema]\ntype = \"a\"\n")), HasSubstr("write it as [[schema]]"));
  EXPECT_THAT(refusal(file("b.toml", "[[schemas]]\ntype = \"a\"\n")), HasSubstr("nearest known one is schema"));
  EXPECT_THAT(refused("version = 0\n"), HasSubstr("schema.version"));
  EXPECT_THAT(refused("upcast = []\n"), HasSubstr("schema.version ("));
  EXPECT_THAT(refused("version = 2\nupcast = \"prog\"\n"), HasSubstr("must be \"program\" or a list"));
  EXPECT_THAT(refused("version = 2\nupcast = [{renam = \"/a\"}]\n"), HasSubstr("nearest known one is rename"));
  EXPECT_THAT(refused("version = 2\nupcast = [{rename = \"/a\"}]\n"), HasSubstr("rename needs to"));
  EXPECT_THAT(refused("version = 2\nupcast = [{remove = \"/a\", to = \"/b\"}]\n"), HasSubstr("to does not belong"));
  EXPECT_THAT(refused("version = 2\nupcast = [{add = \"/a\", value = \"x\"}]\n"), HasSubstr("is not JSON"));
  EXPECT_THAT(refused("version = 2\nupcast = [{add = \"a\", value = \"1\"}]\n"), HasSubstr("is not a JSON Pointer"));
  EXPECT_THAT(refused("[[schema]]\ntype = \"a\"\n"), HasSubstr("a.toml:3): a: version 1 is described twice"));
  EXPECT_THAT(refused("deprecated = \"perhaps\"\n"), HasSubstr("is not true or false"));
  set("MILLRACE_SCHEMA_TYPE", "a");
  EXPECT_THAT(refusal(std::nullopt), HasSubstr("[[schema]] stands in the file only"));
}

TEST_F(ConfigTest, TheDefaultPlaceIsReadOnlyWhenItIsThere) {
  std::filesystem::create_directory(folder_ / "millrace");
  const auto path = file("millrace/millrace.toml", "[server]\nmax_connections = 9\n");
  const auto loaded = load_config(std::nullopt, {});
  EXPECT_EQ(loaded.config.server.max_connections, 9U);
  EXPECT_EQ(loaded.file, path);
}

TEST_F(ConfigTest, ANamedFileThatIsNotThereIsAnError) {
  try {
    load_config((folder_ / "absent.toml").string(), {});
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::not_found);
  }
  set("MILLRACE_CONFIG", (folder_ / "absent.toml").string());
  EXPECT_THROW(load_config(std::nullopt, {}), Error);
}

TEST_F(ConfigTest, StreamsHaveARetentionThatIsShownAsItIsRead) {
  const std::string text =
      "[[stream]]\nname = \"events\"\nmax_events = 1000\nmax_age = \"30d\"\nmax_bytes = \"10 GiB\"\ninterval = \"1h\"\n"
      "[[stream]]\nname = \"audit\"\ncreate = false\n";
  const auto loaded = load_config(file("a.toml", text), {});
  ASSERT_EQ(loaded.config.streams.size(), 2U);
  const Retention wanted{1000, 10ULL << 30, std::chrono::hours{30 * 24}, std::chrono::hours{1}};
  EXPECT_EQ(loaded.config.streams[0].retention, wanted);
  EXPECT_TRUE(loaded.config.streams[0].create);
  EXPECT_EQ(loaded.config.streams[1].retention, Retention{});
  EXPECT_FALSE(loaded.config.streams[1].create);

  const auto kind = stream_table();
  std::string shown;
  for (const auto& row : kind.rows(loaded.config)) {
    shown += "[[stream]]\n";
    for (const auto& [key, value] : row) shown += key + " = " + value + '\n';
  }
  const auto again = load_config(file("b.toml", shown), {});
  EXPECT_EQ(kind.rows(again.config), kind.rows(loaded.config));
}

TEST_F(ConfigTest, AStreamThatCannotBeMeantIsRefused) {
  const auto refused = [&](const std::string& rest) {
    return refusal(file("a.toml", "[[stream]]\nname = \"a\"\n" + rest));
  };
  EXPECT_THAT(refused("max_event = 2\n"), HasSubstr("nearest known one is stream.max_events"));
  EXPECT_THAT(refused("max_events = 0\n"), HasSubstr("stream.max_events"));
  EXPECT_THAT(refused("max_age = \"soon\"\n"), HasSubstr("\"soon\" is not a duration"));
  EXPECT_THAT(refused("max_age = \"1500ms\"\n"), HasSubstr("whole number of seconds"));
  EXPECT_THAT(refused("max_bytes = \"much\"\n"), HasSubstr("\"much\" is not a size"));
  EXPECT_THAT(refused("interval = \"0s\"\n"), HasSubstr("stream.interval"));
  EXPECT_THAT(refused("[[stream]]\nname = \"a\"\n"), HasSubstr("stands here twice"));
  EXPECT_THAT(refusal(file("b.toml", "[[stream]]\nname = \"Not a name\"\n")), HasSubstr("stream.name"));
}

TEST_F(ConfigTest, TokensAreReadWithTheirSecretsAndShownWithout) {
  set("SECRET_OF_THIS_TEST", "from-the-environment");
  const auto secret = file("secret", "from-a-file\n");
  const std::string text = "[[token]]\nname = \"shop\"\nsecret = \"file:" + secret +
                           "\"\nscopes = [\"publish\", \"consume\"]\nstreams = [\"orders*\"]\n"
                           "[[token]]\nname = \"boss\"\nsecret = \"${SECRET_OF_THIS_TEST}\"\nscopes = [\"admin\"]\n";
  const auto loaded = load_config(file("a.toml", text), {{"server.listen", "0.0.0.0:0"}});
  ASSERT_EQ(loaded.config.tokens.size(), 2U);
  EXPECT_EQ(loaded.config.tokens[0].secret, "from-a-file");
  EXPECT_EQ(loaded.config.tokens[0].scopes, (std::vector{Scope::publish, Scope::consume}));
  EXPECT_EQ(loaded.config.tokens[0].streams, std::vector<std::string>{"orders*"});
  EXPECT_EQ(loaded.config.tokens[1].secret, "from-the-environment");
  std::string shown;
  for (const auto& row : token_table().rows(loaded.config)) {
    for (const auto& [key, value] : row) shown += key + " = " + value + '\n';
  }
  EXPECT_EQ(shown,
            "name = \"shop\"\nsecret = \"***\"\nscopes = [\"publish\", \"consume\"]\nstreams = [\"orders*\"]\n"
            "name = \"boss\"\nsecret = \"***\"\nscopes = [\"admin\"]\n");
}

TEST_F(ConfigTest, TheStoresPasswordIsReadAndNotShown) {
  set("SECRET_OF_THIS_TEST", "from-the-environment");
  const std::string url = "redis://me:${SECRET_OF_THIS_TEST}@host:6379/1?prefix=a";
  const auto loaded = load_config(file("a.toml", "[store]\nurl = \"" + url + "\"\n"), {});
  EXPECT_EQ(loaded.config.store.url, "redis://me:from-the-environment@host:6379/1?prefix=a");
  for (const Descriptor& key : descriptors()) {
    EXPECT_EQ(key.get(loaded.config).find("from-the-environment"), std::string::npos) << key.section << '.' << key.key;
    if (key.section == "store" && key.key == "url") {
      EXPECT_EQ(key.get(loaded.config), "\"redis://me:***@host:6379/1?prefix=a\"");
    }
  }
}

TEST_F(ConfigTest, ATokenThatCannotBeMeantIsRefused) {
  const auto refused = [&](const std::string& rest, const std::string& flag = "") {
    const std::string text = "[[token]]\nname = \"a\"\nsecret = \"first\"\n" + rest;
    return flag.empty() ? refusal(file("a.toml", text)) : refusal(file("a.toml", text), {{"server.token", flag}});
  };
  const std::string fine = "scopes = [\"consume\"]\n";
  EXPECT_THAT(refused(""), HasSubstr("token.scopes"));
  EXPECT_THAT(refused("scopes = []\n"), HasSubstr("at least one of publish"));
  EXPECT_THAT(refused("scopes = [\"read\"]\n"), HasSubstr("\"read\" is no scope"));
  EXPECT_THAT(refused(fine + "streams = []\n"), HasSubstr("leave it out for all streams"));
  EXPECT_THAT(refused(fine + "streams = [\"[a\"]\n"), HasSubstr("token.streams"));
  EXPECT_THAT(refused(fine + "[[token]]\nname = \"a\"\nsecret = \"s\"\n" + fine), HasSubstr("stands here twice"));
  const std::string same = refused(fine + "[[token]]\nname = \"b\"\nsecret = \"first\"\n" + fine);
  EXPECT_THAT(same, HasSubstr("is that of the token a"));
  EXPECT_EQ(same.find("first"), std::string::npos);
  EXPECT_THAT(refused(fine, "first"), HasSubstr("is that of the [[token]] a"));
}

}  // namespace
}  // namespace millrace::daemon
