// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/json.hpp>

#include <atomic>
#include <future>
#include <thread>

#include "http/client.hpp"
#include "millrace/error.hpp"

namespace millrace::daemon {
namespace {

using namespace std::chrono_literals;
namespace json = boost::json;
using http::Header;
using http::Response;
using testing::HasSubstr;

Config memory_config() {
  Config config;
  config.server.listen = "127.0.0.1:0";
  config.store.url = "memory:";
  return config;
}

std::string event_json(const std::string& id, const std::string& type = "t", const std::string& subject = "") {
  return R"({"specversion":"1.0","id":")" + id + R"(","source":"/test","type":")" + type + "\"" +
         (subject.empty() ? "" : R"(,"subject":")" + subject + "\"") + R"(,"data":{"n":1}})";
}

class DaemonTest : public testing::Test {
 protected:
  void start(const Config& config = memory_config()) {
    daemon_ = std::make_unique<Daemon>(config);
    client_ = std::make_unique<http::Client>(http::ClientOptions{daemon_->url(), config.server.token});
  }
  http::Client another() { return http::Client({daemon_->url()}); }

  json::value post(const std::string& path, const std::string& body, unsigned status = 200) {
    return post_with(*client_, path, body, status);
  }
  static json::value post_with(http::Client& client, const std::string& path, const std::string& body,
                               unsigned status = 200) {
    return answer(client.request("POST", path, {{"Content-Type", "application/json"}}, body), path, status);
  }
  json::value get(const std::string& path, unsigned status = 200) {
    return answer(client_->request("GET", path), path, status);
  }
  static json::value answer(const Response& response, const std::string& path, unsigned status) {
    EXPECT_EQ(response.status, status) << path << " " << response.body;
    return json::parse(response.body);
  }
  Response publish_raw(const std::string& type, const std::string& body, std::vector<Header> headers = {}) {
    headers.emplace_back("Content-Type", type);
    return client_->request("POST", "/v1/streams/events/events", headers, body);
  }
  json::value publish(const std::string& body) {
    return answer(publish_raw("application/cloudevents+json", body), "publish", 200).at("results").at(0);
  }
  json::array claim(const std::string& extra = "", const std::string& group = "g") {
    const std::string body = R"({"consumer":"c","stream":"events","start":"beginning")" + extra + "}";
    return post("/v1/groups/" + group + "/claim", body).at("deliveries").as_array();
  }
  std::string ack_body(const json::array& deliveries) {
    json::array leases;
    for (const json::value& delivery : deliveries) leases.push_back(delivery.at("lease"));
    return json::serialize(json::object{{"leases", leases}});
  }
  /// Until `condition` holds, for as long as a slow machine may need.
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<http::Client> client_;
};

TEST_F(DaemonTest, PublishesInEveryModeAndReadsBack) {
  start();
  const Response binary = client_->request("POST", "/v1/streams/events/events",
                                           {{"ce-specversion", "1.0"},
                                            {"ce-id", "b1"},
                                            {"ce-source", "/test"},
                                            {"ce-type", "t"},
                                            {"Content-Type", "text/plain"}},
                                           "hello");
  EXPECT_EQ(binary.status, 200U) << binary.body;
  EXPECT_EQ(publish_raw("application/cloudevents+json", event_json("s1")).status, 200U);
  EXPECT_EQ(
      publish_raw("application/cloudevents-batch+json", "[" + event_json("a1") + "," + event_json("a2") + "]").status,
      200U);
  EXPECT_EQ(publish_raw("application/x-ndjson", event_json("n1") + "\n" + event_json("n2", "other") + "\n").status,
            200U);
  EXPECT_EQ(publish_raw("application/json", "{}").status, 415U);

  const json::value page = get("/v1/streams/events/events");
  std::vector<std::string> ids;
  for (const json::value& entry : page.at("events").as_array())
    ids.emplace_back(entry.at("event").at("id").as_string());
  EXPECT_EQ(ids, (std::vector<std::string>{"b1", "s1", "a1", "a2", "n1", "n2"}));
  EXPECT_EQ(page.at("next").as_string(), "6");
  EXPECT_TRUE(page.at("at_end").as_bool());

  EXPECT_EQ(get("/v1/streams/events/events?after=4&types=other").at("events").as_array().size(), 1U);
  EXPECT_EQ(get("/v1/streams/events/events?after=end").at("events").as_array().size(), 0U);
  EXPECT_EQ(get("/v1/streams/events/events?limit=2").at("next").as_string(), "2");
  const Response lines =
      client_->request("GET", "/v1/streams/events/events?limit=1", {{"Accept", "application/x-ndjson"}});
  EXPECT_THAT(lines.body, testing::MatchesRegex(R"(\{"position":"1","stored_at":"[0-9T:.-]*Z","event":\{(.|\n)*)"));
  EXPECT_EQ(*http::find_header(lines.headers, "Millrace-Next"), "1");
}

TEST_F(DaemonTest, AnswersWhatBecameOfEachEvent) {
  start();
  const json::value first = publish(event_json("1"));
  EXPECT_EQ(first.at("status").as_string(), "stored");
  EXPECT_EQ(first.at("position").as_string(), "1");
  EXPECT_EQ(first.at("durability").as_string(), "memory");
  EXPECT_EQ(publish(event_json("1")).at("status").as_string(), "duplicate");
  const json::value conflict = publish(event_json("1", "another"));
  EXPECT_EQ(conflict.at("status").as_string(), "conflict");
  EXPECT_TRUE(conflict.at("position").is_null());
}

TEST_F(DaemonTest, AnInvalidEventStoresNothingAndIsNamed) {
  start();
  const Response response = publish_raw("application/cloudevents-batch+json",
                                        "[" + event_json("1") + R"(,{"specversion":"1.0","id":"2","type":"t"}])");
  EXPECT_EQ(response.status, 400U);
  const json::value problem = json::parse(response.body);
  EXPECT_EQ(problem.at("code").as_string(), "invalid_event");
  EXPECT_EQ(problem.at("errors").at(0).at("index").as_int64(), 1);
  EXPECT_EQ(get("/v1/streams/events/events").at("events").as_array().size(), 0U);
}

TEST_F(DaemonTest, NamesUnknownParametersStreamsPathsAndMethods) {
  start();
  const json::value filter = get("/v1/streams/events/events?filter=x", 400);
  EXPECT_EQ(filter.at("object").as_string(), "filter");
  EXPECT_EQ(get("/v1/streams/nothing/events", 404).at("code").as_string(), "unknown_stream");
  EXPECT_EQ(get("/v1/groups/nothing", 404).at("code").as_string(), "unknown_group");
  EXPECT_EQ(get("/v2", 404).at("code").as_string(), "not_found");
  const Response put = client_->request("PUT", "/v1/streams", {}, "");
  EXPECT_EQ(put.status, 405U);
  EXPECT_EQ(*http::find_header(put.headers, "Allow"), "GET, HEAD, POST");
  EXPECT_EQ(post("/v1/groups/g/claim", R"({"consumer":"c","maximum":1})", 400).at("object").as_string(), "maximum");
  EXPECT_EQ(post("/v1/groups/g/claim", R"({"consumer":"c"})", 404).at("code").as_string(), "unknown_group");
}

TEST_F(DaemonTest, LimitsAnEventAndABatch) {
  Config config = memory_config();
  config.server.max_event_bytes = 1000;
  config.server.max_batch_bytes = 4000;
  start(config);
  const std::vector<Header> head{{"ce-specversion", "1.0"}, {"ce-id", "1"}, {"ce-source", "/s"}, {"ce-type", "t"}};
  EXPECT_EQ(client_->request("POST", "/v1/streams/events/events", head, std::string(1000, 'x')).status, 200U);
  const Response large = client_->request("POST", "/v1/streams/events/events", head, std::string(1001, 'x'));
  EXPECT_EQ(large.status, 413U);
  EXPECT_THAT(large.body, HasSubstr("max_event_bytes"));
  const Response batch = publish_raw("application/cloudevents-batch+json", "[" + std::string(4000, ' ') + "]");
  EXPECT_EQ(batch.status, 413U);
  EXPECT_THAT(batch.body, HasSubstr("max_batch_bytes"));
}

TEST_F(DaemonTest, ClaimsSettlesAndReportsStaleLeases) {
  start();
  for (const char* id : {"1", "2", "3"}) publish(event_json(id));
  json::array all = claim(R"(,"max":2)");
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].at("event").at("id").as_string(), "1");
  EXPECT_EQ(all[0].at("attempt").as_int64(), 1);
  const json::value acked = post("/v1/groups/g/ack", ack_body(all));
  EXPECT_EQ(acked.at("done").as_array().size(), 2U);
  const json::value again = post("/v1/groups/g/ack", ack_body(all));
  EXPECT_EQ(again.at("stale").as_array().size(), 2U);
  EXPECT_EQ(again.at("done").as_array().size(), 0U);

  json::array third = claim();
  ASSERT_EQ(third.size(), 1U);
  std::string body = ack_body(third);
  body.insert(body.size() - 1, R"(,"reason":"bad")");
  EXPECT_EQ(post("/v1/groups/g/reject", body).at("done").as_array().size(), 1U);
  const json::value dead = get("/v1/groups/g/dead-letters");
  EXPECT_EQ(dead.at("dead_letters").at(0).at("reason").as_string(), "rejected: bad");
  EXPECT_TRUE(dead.at("next").is_null());
  const json::value where = get("/v1/events?id=3&source=/test");
  EXPECT_EQ(where.at("matches").at(0).at("groups").at(0).at("state").as_string(), "dead");
  EXPECT_EQ(get("/v1/stats").at("store").at("dlq_events").as_int64(), 1);
  EXPECT_EQ(post("/v1/groups/g/dead-letters/redrive", "").at("redriven").as_int64(), 1);
  const json::array redriven = claim();
  ASSERT_EQ(redriven.size(), 1U);
  const json::value pending = get("/v1/groups/g/pending");
  EXPECT_EQ(pending.at("pending").at(0).at("state").as_string(), "claimed");
  EXPECT_EQ(pending.at("pending").at(0).at("consumer").as_string(), "c");
  EXPECT_EQ(post("/v1/groups/g/release", ack_body(redriven)).at("done").as_array().size(), 1U);
  EXPECT_EQ(get("/v1/groups/g").at("processed").as_int64(), 2);
}

TEST_F(DaemonTest, AClaimThatNamesAnotherIdentityIsRefusedWithTheField) {
  start();
  claim();
  const json::value order = post("/v1/groups/g/claim", R"({"consumer":"c","order":"none"})", 409);
  EXPECT_EQ(order.at("code").as_string(), "group_mismatch");
  EXPECT_EQ(order.at("object").as_string(), "order");
  EXPECT_EQ(
      post("/v1/groups/g/claim", R"({"consumer":"c","stream":"events","start":"end"})", 409).at("object").as_string(),
      "start");
}

TEST_F(DaemonTest, AGroupMadeByAClaimExpiresAndOneMadeOnPurposeDoesNot) {
  start();
  claim();
  EXPECT_EQ(get("/v1/groups/g").at("settings").at("expires_s").as_int64(), 7 * 24 * 3600);
  const std::string body = R"({"name":"h","stream":"events","start":"end"})";
  EXPECT_TRUE(post("/v1/groups", body, 201).at("settings").at("expires_s").is_null());
  EXPECT_EQ(post("/v1/groups", body, 409).at("code").as_string(), "already_exists");
}

TEST_F(DaemonTest, ALongPollWakesWhenAnEventComes) {
  start();
  claim();
  auto waiting = std::async(std::launch::async, [this] {
    http::Client other = another();
    return post_with(other, "/v1/groups/g/claim", R"({"consumer":"d","wait_ms":30000})")
        .at("deliveries")
        .as_array()
        .size();
  });
  ASSERT_TRUE(eventually([this] { return get("/v1/stats").at("server").at("waiting_claims").as_int64() == 1; }));
  publish(event_json("1"));
  EXPECT_EQ(waiting.get(), 1U);
}

TEST_F(DaemonTest, ALongPollEndsEmptyWhenItsTimeIsOver) {
  start();
  EXPECT_TRUE(claim(R"(,"wait_ms":50)").empty());
  EXPECT_EQ(post("/v1/groups/g/claim", R"({"consumer":"c","wait_ms":60001})", 400).at("object").as_string(), "wait_ms");
}

TEST_F(DaemonTest, ARetryIsHandedOutAgainToAWaitingClaim) {
  start();
  publish(event_json("1"));
  const json::array first = claim();
  std::string body = ack_body(first);
  body.insert(body.size() - 1, R"(,"after_ms":50)");
  post("/v1/groups/g/retry", body);
  const json::array second = claim(R"(,"wait_ms":30000)");
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].at("attempt").as_int64(), 2);
  EXPECT_EQ(second[0].at("failures").as_int64(), 1);
}

TEST_F(DaemonTest, EveryWaitingConsumerIsServed) {
  start();
  claim();
  constexpr int kConsumers = 8;
  std::atomic<int> got{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kConsumers; ++i) {
    threads.emplace_back([this, i, &got] {
      http::Client other = another();
      const std::string body = R"({"consumer":"c)" + std::to_string(i) + R"(","max":1,"wait_ms":30000})";
      got += static_cast<int>(post_with(other, "/v1/groups/g/claim", body).at("deliveries").as_array().size());
    });
  }
  ASSERT_TRUE(
      eventually([this] { return get("/v1/stats").at("server").at("waiting_claims").as_int64() == kConsumers; }));
  for (int i = 0; i < kConsumers; ++i) publish(event_json(std::to_string(i)));
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(got, kConsumers);
}

int connect_to(const std::string& url) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
  inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  EXPECT_EQ(connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return socket;
}

TEST_F(DaemonTest, NothingIsClaimedForAClientThatHungUp) {
  start();
  claim();
  const int socket = connect_to(daemon_->url());
  const std::string body = R"({"consumer":"ghost","wait_ms":60000})";
  const std::string request =
      "POST /v1/groups/g/claim HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
      "\r\n\r\n" + body;
  ASSERT_EQ(::send(socket, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  const auto waiting = [this] { return get("/v1/stats").at("server").at("waiting_claims").as_int64(); };
  ASSERT_TRUE(eventually([&] { return waiting() == 1; }));
  ::close(socket);
  ASSERT_TRUE(eventually([&] { return waiting() == 0; }));
  publish(event_json("1"));
  EXPECT_EQ(get("/v1/groups/g").at("lag").at("in_flight").as_int64(), 0);
  const json::array mine = claim();
  ASSERT_EQ(mine.size(), 1U);
  EXPECT_EQ(mine[0].at("attempt").as_int64(), 1);
}

TEST_F(DaemonTest, ATailStartsAtTheEndAndResumes) {
  start();
  publish(event_json("before"));
  std::string got;
  std::promise<void> open;
  auto tail = std::async(std::launch::async, [&] {
    http::Client other = another();
    bool first = true;
    other.stream(
        "/v1/streams/events/tail", {},
        [&](std::string_view chunk) {
          if (std::exchange(first, false)) open.set_value();
          got += chunk;
          return got.find("\"second\"") == std::string::npos;
        },
        30s);
  });
  open.get_future().get();
  publish(event_json("first"));
  publish(event_json("second"));
  tail.get();
  EXPECT_THAT(got, testing::StartsWith("id: 1\n\nid: 2\ndata: {"));
  EXPECT_EQ(got.find("\"before\""), std::string::npos);

  std::string resumed;
  client_->stream(
      "/v1/streams/events/tail?after=end", {{"Last-Event-ID", "1"}},
      [&](std::string_view chunk) {
        resumed += chunk;
        return resumed.find("\"second\"") == std::string::npos;
      },
      30s);
  EXPECT_NE(resumed.find("\"first\""), std::string::npos);
}

TEST_F(DaemonTest, AsksForTheToken) {
  Config config = memory_config();
  config.server.token = "s3cret";
  start(config);
  EXPECT_EQ(get("/v1/streams").at("streams").as_array().size(), 2U);
  http::Client stranger = another();
  const Response refused = stranger.request("GET", "/v1/streams");
  EXPECT_EQ(refused.status, 401U);
  EXPECT_THAT(*http::find_header(refused.headers, "WWW-Authenticate"), testing::StartsWith("Bearer"));
  for (const char* wrong : {"", "s3cre", "s3crets", "S3CRET"}) {
    EXPECT_EQ(stranger.request("GET", "/metrics", {{"Authorization", std::string("Bearer ") + wrong}}).status, 401U)
        << wrong;
  }
  EXPECT_EQ(stranger.request("GET", "/health").status, 200U);
  EXPECT_EQ(stranger.request("GET", "/ready").status, 200U);
}

TEST_F(DaemonTest, RefusesToListenBeyondThisMachineWithoutAToken) {
  Config config = memory_config();
  config.server.listen = "0.0.0.0:0";
  try {
    Daemon daemon(config);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    EXPECT_EQ(error.object(), "server.token");
  }
}

TEST_F(DaemonTest, MetricsSayWhatHappened) {
  start();
  publish(event_json("1"));
  publish(event_json("1"));
  claim();
  const Response metrics = client_->request("GET", "/metrics");
  EXPECT_EQ(*http::find_header(metrics.headers, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  for (const char* line :
       {"millrace_published_total{stream=\"events\"} 1\n", "millrace_dedup_hits_total{stream=\"events\"} 1\n",
        "millrace_store_up 1\n", "millrace_publish_ack_seconds_count{level=\"memory\"} 2\n",
        "millrace_in_flight{group=\"g\",stream=\"events\"} 1\n",
        "millrace_http_requests_total{method=\"POST\",route=\"/v1/groups/{group}/claim\",status=\"200\"} 1\n"}) {
    EXPECT_NE(metrics.body.find(line), std::string::npos) << line;
  }
}

TEST_F(DaemonTest, GroupsArePausedSoughtSkippedAndDeleted) {
  start();
  for (const char* id : {"1", "2"}) publish(event_json(id));
  EXPECT_EQ(claim(R"(,"max":1)").size(), 1U);
  EXPECT_TRUE(post("/v1/groups/g/pause", "").at("paused").as_bool());
  EXPECT_TRUE(claim().empty());
  EXPECT_FALSE(post("/v1/groups/g/resume", "").at("paused").as_bool());
  EXPECT_EQ(post("/v1/groups/g/skip", R"({"position":"1"})").at("skipped").as_int64(), 1);
  EXPECT_EQ(post("/v1/groups/g/seek", R"({"to":"beginning"})").at("lag").at("ahead").as_int64(), 2);
  EXPECT_EQ(get("/health/events").at("groups").at(0).at("group").as_string(), "g");
  EXPECT_EQ(client_->request("DELETE", "/v1/groups/g").status, 200U);
  EXPECT_EQ(get("/v1/groups").at("groups").as_array().size(), 0U);
}

TEST_F(DaemonTest, StoppingAnswersLongPollsEmptyAndEndsTails) {
  start();
  claim();
  auto waiting = std::async(std::launch::async, [this] {
    http::Client other = another();
    return post_with(other, "/v1/groups/g/claim", R"({"consumer":"d","wait_ms":60000})")
        .at("deliveries")
        .as_array()
        .size();
  });
  auto tail = std::async(std::launch::async, [this] {
    http::Client other = another();
    return other
        .stream(
            "/v1/streams/events/tail", {}, [](std::string_view) { return true; }, 60s)
        .status;
  });
  ASSERT_TRUE(eventually([this] {
    const json::value server = get("/v1/stats").at("server");
    return server.at("waiting_claims").as_int64() == 1 && server.at("tails").as_int64() == 1;
  }));
  EXPECT_TRUE(daemon_->stop(20s));
  EXPECT_EQ(waiting.get(), 0U);
  EXPECT_EQ(tail.get(), 200U);
}

TEST_F(DaemonTest, ThePortIsFreeAfterStop) {
  start();
  Config config = memory_config();
  config.server.listen = daemon_->url().substr(7);
  EXPECT_THROW(Daemon{config}, Error);
  daemon_->stop(1s);
  start(config);
  EXPECT_EQ(client_->request("GET", "/health").status, 200U);
}

}  // namespace
}  // namespace millrace::daemon
