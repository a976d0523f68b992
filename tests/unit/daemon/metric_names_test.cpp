// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/daemon.hpp"
#include "http/client.hpp"

namespace millrace::daemon {
namespace {

/// Dashboards and alerts are written against these: a name that changes here breaks them, one that comes is documented
/// in docs/http-api.md.
const std::vector<std::string> kNames{
    "millrace_build_info gauge",
    "millrace_bus_observer_failures_total counter",
    "millrace_bus_observers gauge",
    "millrace_claims_waiting gauge",
    "millrace_dedup_hits_total counter",
    "millrace_delivered_total counter",
    "millrace_dlq_events gauge",
    "millrace_group_consumers gauge",
    "millrace_group_crashes_total counter",
    "millrace_group_expired_total counter",
    "millrace_group_failures_total counter",
    "millrace_group_lag_events gauge",
    "millrace_group_oldest_unacked_seconds gauge",
    "millrace_group_parked_events gauge",
    "millrace_group_paused gauge",
    "millrace_group_processed_total counter",
    "millrace_group_rejected_total counter",
    "millrace_group_skipped_total counter",
    "millrace_group_stalled gauge",
    "millrace_group_waiting_events gauge",
    "millrace_http_connections gauge",
    "millrace_http_connections_accepted_total counter",
    "millrace_http_connections_refused_total counter",
    "millrace_http_malformed_total counter",
    "millrace_http_request_seconds histogram",
    "millrace_http_requests_total counter",
    "millrace_http_timeouts_total counter",
    "millrace_in_flight gauge",
    "millrace_publish_ack_seconds histogram",
    "millrace_publish_conflicts_total counter",
    "millrace_publish_failed_total counter",
    "millrace_published_total counter",
    "millrace_redelivered_total counter",
    "millrace_retention_kept_events gauge",
    "millrace_retention_last_trim_timestamp_seconds gauge",
    "millrace_retention_removed_events gauge",
    "millrace_store_up gauge",
    "millrace_stored_bytes gauge",
    "millrace_stream_events gauge",
    "millrace_tails gauge",
    "millrace_uptime_seconds gauge",
};

struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "millrace-metrics-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

TEST(MetricNames, AreTheseAndTheBackendsOwn) {
  const Folder folder;
  Config config;
  config.server.listen = "127.0.0.1:0";
  config.store.url = "sqlite:" + (folder.path / "events.db").string();
  Daemon daemon(config);
  http::Client client({daemon.url()});
  const auto post = [&](const char* path, const char* type, const char* body) {
    EXPECT_EQ(client.request("POST", path, {{"Content-Type", type}}, body).status, 200U) << path;
  };
  post("/v1/streams/events/events", "application/cloudevents+json",
       R"({"specversion":"1.0","id":"1","source":"/s","type":"t"})");
  post("/v1/groups/g/claim", "application/json", R"({"consumer":"c","stream":"events","start":"beginning"})");
  post("/v1/streams/events/trim", "application/json", R"({"max_events":0})");

  std::vector<std::string> names;
  std::istringstream text(client.request("GET", "/metrics").body);
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with("# TYPE ")) continue;
    const bool of_backend =
        line.starts_with("# TYPE millrace_store_") && !line.starts_with("# TYPE millrace_store_up ");
    if (!of_backend) names.push_back(line.substr(7));
  }
  EXPECT_THAT(names, testing::UnorderedElementsAreArray(kNames));
}

TEST(MetricNames, ADeliveryIsCountedAsFirstOrAgain) {
  Config config;
  config.server.listen = "127.0.0.1:0";
  config.store.url = "memory:";
  Daemon daemon(config);
  http::Client client({daemon.url()});
  client.request("POST", "/v1/streams/events/events", {{"Content-Type", "application/cloudevents+json"}},
                 R"({"specversion":"1.0","id":"1","source":"/s","type":"t"})");
  const auto claim = [&] {
    return client.request("POST", "/v1/groups/g/claim", {}, R"({"consumer":"c","stream":"events","start":"beginning"})")
        .body;
  };
  const std::string first = claim();
  const std::string mark = "\"lease\":\"";
  const std::size_t from = first.find(mark);
  ASSERT_NE(from, std::string::npos) << first;
  const std::string lease = first.substr(from + mark.size(), first.find('"', from + mark.size()) - from - mark.size());
  client.request("POST", "/v1/groups/g/retry", {}, "{\"after_ms\":0,\"leases\":[\"" + lease + "\"]}");
  ASSERT_NE(claim().find(mark), std::string::npos);
  const std::string metrics = client.request("GET", "/metrics").body;
  EXPECT_THAT(metrics, testing::HasSubstr("millrace_delivered_total{group=\"g\"} 1\n"));
  EXPECT_THAT(metrics, testing::HasSubstr("millrace_redelivered_total{group=\"g\"} 1\n"));
}

}  // namespace
}  // namespace millrace::daemon
