// SPDX-License-Identifier: Apache-2.0
#include "daemon/api.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/json.hpp>
#include <chrono>
#include <future>
#include <optional>
#include <thread>

#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

using namespace std::chrono_literals;
namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;

/// A client that is told nothing: it has hung up, or not.
class FakeExchange : public http::Exchange {
 public:
  explicit FakeExchange(bool there) : there_(there) {}
  void respond(http::Response response, std::function<void(bool)> sent) override {
    if (answered_.exchange(true)) return;
    answer.set_value(std::move(response));
    if (sent) sent(there_);
  }
  std::shared_ptr<http::Stream> start_stream(unsigned, std::vector<http::Header>) override { return nullptr; }
  void on_closed(std::function<void()>) override {}
  std::promise<http::Response> answer;

 private:
  bool there_;
  std::atomic<bool> answered_{false};
};

/// A log that fails as it is told, over one that works.
class FailingLog : public EventLog {
 public:
  explicit FailingLog(EventLog& log) : log_(log) {}
  std::atomic<bool> unreachable{false};
  std::optional<Errc> append_fails;

  void create_stream(const StreamName& name, const Retention& retention) override {
    log_.create_stream(name, retention);
  }
  std::vector<StreamInfo> streams() override {
    if (unreachable) throw Error(Errc::unavailable, "list streams", "", "the store is away");
    return log_.streams();
  }
  StreamInfo stream(const StreamName& name) override { return log_.stream(name); }
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events,
                                   Durability durability) override {
    return log_.append(stream, events, durability);
  }
  void append_async(const StreamName& stream, std::vector<Event> events, Durability durability,
                    AppendCompletion done) override {
    if (append_fails) return done(Error(*append_fails, "append", stream.str(), "told to fail"));
    log_.append_async(stream, std::move(events), durability, std::move(done));
  }
  Page read(const StreamName& stream, const ReadQuery& query) override { return log_.read(stream, query); }
  std::vector<FoundEvent> find(const StreamName& stream, std::string_view id,
                               std::optional<std::string_view> source) override {
    return log_.find(stream, id, source);
  }
  Position position_before(const StreamName& stream, Timestamp time) override {
    return log_.position_before(stream, time);
  }
  TrimResult trim(const StreamName& stream, const TrimRequest& request) override { return log_.trim(stream, request); }
  StreamInfo change_retention(const StreamName& stream, const RetentionChange& change) override {
    return log_.change_retention(stream, change);
  }
  std::optional<Position> erase(const StreamName& stream, std::string_view source, std::string_view id) override {
    return log_.erase(stream, source, id);
  }
  std::unique_ptr<Watch> watch(std::function<void()> changed) override { return log_.watch(std::move(changed)); }

 private:
  EventLog& log_;
};

class FailingStore : public Store {
 public:
  FailingStore() : store_(open_store("memory:")), failing(store_->log()) {}
  EventLog& log() override { return failing; }
  Ledger& ledger() override { return store_->ledger(); }
  KeyValue& kv() override { return store_->kv(); }
  Capabilities capabilities() const override { return store_->capabilities(); }
  std::string describe() const override { return "failing"; }
  std::vector<Figure> figures() const override { return store_->figures(); }
  void backup(const std::string& to) override { store_->backup(to); }

 private:
  std::unique_ptr<Store> store_;

 public:
  FailingLog failing;
};

class ApiTest : public testing::Test {
 protected:
  http::Response call(const std::string& method, const std::string& path, const std::string& body = {},
                      bool there = true) {
    http::Request request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.headers = {{"Content-Type", "application/cloudevents+json"}};
    const http::Admission admission = api_.admit(request);
    if (const auto* refused = std::get_if<http::Response>(&admission)) return *refused;
    auto exchange = std::make_shared<FakeExchange>(there);
    auto answer = exchange->answer.get_future();
    api_.handle(std::move(request), exchange);
    if (answer.wait_for(20s) != std::future_status::ready) throw std::runtime_error("no answer");
    return answer.get();
  }
  http::Response publish() {
    return call("POST", "/v1/streams/events/events", R"({"specversion":"1.0","id":"i1","source":"/s","type":"t"})");
  }

  FailingStore store_;
  Bus bus_{&store_};
  Config config_;
  Api api_{store_, bus_, config_};
};

TEST_F(ApiTest, DeliveriesThatNobodyGotAreReleasedUncharged) {
  ASSERT_EQ(publish().status, 200U);
  const std::string claim = R"({"consumer":"c","stream":"events","start":"beginning"})";
  EXPECT_EQ(json::parse(call("POST", "/v1/groups/g/claim", claim, false).body).at("deliveries").as_array().size(), 1U);
  json::array again;
  for (int i = 0; i < 2000 && again.empty(); ++i) {
    again = json::parse(call("POST", "/v1/groups/g/claim", claim).body).at("deliveries").as_array();
    if (again.empty()) std::this_thread::sleep_for(10ms);
  }
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].at("attempt").as_int64(), 1);
  EXPECT_EQ(again[0].at("crashes").as_int64(), 0);
}

TEST_F(ApiTest, AFailedPublishNamesItsIdsAndSaysWhetherToRetry) {
  const std::vector<std::pair<Errc, unsigned>> table{
      {Errc::unavailable, 503}, {Errc::outcome_unknown, 503}, {Errc::store_full, 507}};
  for (const auto& [code, status] : table) {
    store_.failing.append_fails = code;
    const http::Response response = publish();
    EXPECT_EQ(response.status, status);
    const json::value problem = json::parse(response.body);
    EXPECT_EQ(problem.at("code").as_string(), std::string(to_string(code)));
    EXPECT_TRUE(problem.at("retryable").as_bool());
    EXPECT_EQ(problem.at("ids").at(0).as_string(), "i1");
  }
}

TEST_F(ApiTest, WhatAnUnreachableStoreCannotSayIsAbsent) {
  call("POST", "/v1/groups/g/claim", R"({"consumer":"c","stream":"events","start":"beginning"})");
  EXPECT_THAT(call("GET", "/metrics").body, HasSubstr("millrace_group_lag_events"));
  store_.failing.unreachable = true;
  const std::string metrics = call("GET", "/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("millrace_store_up 0\n"));
  EXPECT_THAT(metrics, Not(HasSubstr("millrace_group_")));
  EXPECT_EQ(call("GET", "/health").status, 503U);
  EXPECT_EQ(call("GET", "/ready").status, 503U);
  store_.failing.unreachable = false;
  EXPECT_EQ(call("GET", "/health").status, 200U);
}

TEST_F(ApiTest, IsNotReadyOnceItStops) {
  EXPECT_EQ(call("GET", "/ready").status, 200U);
  api_.end_waits();
  const http::Response response = call("GET", "/ready");
  EXPECT_EQ(response.status, 503U);
  EXPECT_THAT(response.body, HasSubstr("stopping"));
}

}  // namespace
}  // namespace millrace::daemon
