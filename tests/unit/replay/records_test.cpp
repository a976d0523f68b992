// SPDX-License-Identifier: Apache-2.0
#include "replay/records.hpp"

#include <gtest/gtest.h>

#include "millrace/error.hpp"
#include "millrace/store.hpp"
#include "replay/pace.hpp"

namespace millrace::replay {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

ReplayRecord full_record() {
  ReplayRecord record;
  record.query = {.stream = "orders",
                  .after = Position{3},
                  .up_to = Position{99},
                  .types = {"a.*", "b"},
                  .sources = {"/s/**"},
                  .keys = {"one, two"},
                  .since = Timestamp{seconds{10}},
                  .until = Timestamp{seconds{20}},
                  .limit = 7};
  record.target = ReplayRecord::Target::group;
  record.target_name = "mail";
  record.on_error = ReplayOnError::count;
  record.pace = ReplayPace::original(2.5);
  record.report = {.replayid = "r1",
                   .state = ReplayState::interrupted,
                   .read = 6,
                   .delivered = 3,
                   .failed = 1,
                   .erased = 1,
                   .passed = 1,
                   .next = Position{12},
                   .end = Position{99},
                   .gap = Position{5},
                   .first_error = "position 4: \"no\""};
  record.open_from = Position{9};
  record.version = 5;
  return record;
}

Errc code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return Errc::internal;
}

TEST(ReplayRecord, ComesBackAsItWasWritten) {
  EXPECT_EQ(decode_record(encode_record(full_record())), full_record());
  ReplayRecord plain;
  plain.report.replayid = "x";
  EXPECT_EQ(decode_record(encode_record(plain)), plain);
}

TEST(ReplayRecord, KeepsThatItWasToEndBeforeEverything) {
  ReplayRecord record;
  record.report.replayid = "x";
  record.query.up_to = Position{};  // not the same as without an end
  EXPECT_EQ(decode_record(encode_record(record)), record);
}

TEST(ReplayQuery, RefusesTextsThatNoRecordCouldHold) {
  using Texts = std::vector<std::string> ReplayQuery::*;
  for (const Texts texts : {&ReplayQuery::types, &ReplayQuery::sources, &ReplayQuery::keys}) {
    ReplayQuery query;
    query.*texts = {"caf\xc3\xa9"};
    EXPECT_NO_THROW(query.validate());
    query.*texts = {"caf\xe9"};
    EXPECT_EQ(code_of([&] { query.validate(); }), Errc::invalid_argument);
  }
}

TEST(ReplayRecord, RefusesWhatIsNoneAndNamesIt) {
  const std::string good = encode_record(full_record());
  const auto broken = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    try {
      decode_record(text);
    } catch (const Error& error) {
      return error.object() + ": " + error.message();
    }
    return std::string("taken");
  };
  EXPECT_EQ(broken("\"read\":6", "\"read\":-6").substr(0, 5), "read:");
  EXPECT_EQ(broken("\"pace\":\"2.5\"", "\"pace\":\"slow\"").substr(0, 5), "slow:");
  EXPECT_EQ(broken("\"interrupted\"", "\"resting\"").substr(0, 6), "state:");
  EXPECT_EQ(broken("\"read\":6", "\"raed\":6").substr(0, 5), "raed:");
  EXPECT_EQ(broken("{\"group\":\"mail\"}", "{}").substr(0, 7), "target:");
  EXPECT_NE(broken("\"r1\"", "\"r 1\""), "taken");
  EXPECT_EQ(code_of([] { decode_record("{"); }), Errc::invalid_argument);
  EXPECT_EQ(code_of([] { decode_record("[]"); }), Errc::invalid_argument);
  EXPECT_EQ(code_of([] { decode_record(std::string(100'000, ' ')); }), Errc::too_large);
}

TEST(ReplayRecord, IsWrittenByOneOnly) {
  const auto store = open_store("memory:");
  ReplayRecord record = full_record();
  record.version = 0;
  record.version = save_record(store->kv(), record);
  ReplayRecord again = full_record();
  again.version = 0;
  EXPECT_EQ(code_of([&] { save_record(store->kv(), again); }), Errc::already_exists);

  ReplayRecord other = replay_record(store->kv(), "r1");
  EXPECT_EQ(other.version, record.version);
  save_record(store->kv(), other);
  EXPECT_EQ(code_of([&] { save_record(store->kv(), record); }), Errc::busy);

  ASSERT_EQ(replay_records(store->kv()).size(), 1U);
  forget_replay(store->kv(), "r1");
  EXPECT_EQ(code_of([&] { save_record(store->kv(), other); }), Errc::busy);
  EXPECT_EQ(code_of([&] { forget_replay(store->kv(), "r1"); }), Errc::not_found);
  EXPECT_EQ(code_of([&] { replay_record(store->kv(), "r1"); }), Errc::not_found);
}

TEST(ReplayRecord, OnlyAFinishedOneExpires) {
  const auto store = open_store("memory:");
  ReplayRecord record = full_record();
  record.version = 0;
  record.version = save_record(store->kv(), record);
  EXPECT_FALSE(store->kv().get("millrace/replay/r1")->expires_at);
  record.report.state = ReplayState::finished;
  save_record(store->kv(), record);
  EXPECT_TRUE(store->kv().get("millrace/replay/r1")->expires_at);
}

TEST(ReplayPace, IsMeasuredFromItsOrigin) {
  const PaceOrigin origin{Timestamp{seconds{100}}, SteadyTime{} + seconds{1}};
  const auto due = [&](double factor, int stored, int now) {
    return due_in({factor}, origin, Timestamp{seconds{stored}}, SteadyTime{} + seconds{now});
  };
  EXPECT_EQ(due(1, 110, 1), seconds{10});
  EXPECT_EQ(due(1, 110, 5), seconds{6});
  EXPECT_EQ(due(1, 110, 60), seconds{0});
  EXPECT_EQ(due(2, 110, 1), seconds{5});
  EXPECT_EQ(due(0.5, 110, 1), seconds{20});
  EXPECT_EQ(due(0, 110, 1), seconds{0});
}

TEST(ReplayPace, HasOneTextForEachValue) {
  for (const char* text : {"fast", "original", "2.5", "0.001", "1000000"}) {
    EXPECT_EQ(ReplayPace::parse(ReplayPace::parse(text).to_string()), ReplayPace::parse(text)) << text;
  }
  for (const char* text : {"", "0", "-1", "nan", "inf", "2x", "1e9", "slow"}) {
    EXPECT_THROW(ReplayPace::parse(text), Error) << text;
  }
}

}  // namespace
}  // namespace millrace::replay
