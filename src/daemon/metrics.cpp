// SPDX-License-Identifier: Apache-2.0
#include "daemon/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "daemon/call.hpp"
#include "daemon/claims.hpp"
#include "daemon/tails.hpp"

namespace millrace::daemon {

namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

const prometheus::Histogram::BucketBoundaries kSeconds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                       0.25,   0.5,   1,      2.5,   5,    10,    30,   60};

/// Values asked for now, grouped into families.
class Live {
 public:
  void add(const std::string& name, const std::string& help, double value, const Labels& labels = {}) {
    auto family = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
    if (family == families.end()) {
      const bool counter = name.ends_with("_total");
      families.push_back({name, help, counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge, {}});
      family = families.end() - 1;
    }
    prometheus::ClientMetric metric;
    for (const auto& [label, text] : labels) metric.label.push_back({label, text});
    metric.counter.value = value;
    metric.gauge.value = value;
    family->metric.push_back(std::move(metric));
  }
  std::vector<prometheus::MetricFamily> families;
};

/// Absent while there was no trim.
void add_last_trim(Live& live, const StreamInfo& stream, const Labels& labels) {
  if (!stream.last_trim_at) return;
  live.add("millrace_retention_last_trim_timestamp_seconds", "When the stream was trimmed last, whatever that removed",
           std::chrono::duration<double>(stream.last_trim_at->time_since_epoch()).count(), labels);
  live.add("millrace_retention_removed_events", "Events that the last trim removed",
           static_cast<double>(stream.last_trim.removed), labels);
  for (const TrimResult::Kept& kept : stream.last_trim.kept) {
    live.add("millrace_retention_kept_events",
             "Events that the last trim would have removed, kept because this group has not settled them",
             static_cast<double>(kept.events), {{"group", kept.group.str()}, {"stream", stream.name.str()}});
  }
}

/// What the process itself counts, and how its connections are: most of all while the store does not answer.
void add_process(Live& live, const Store& store) {
  for (const Store::Figure& figure : store.figures()) {
    live.add("millrace_store_" + figure.name, figure.help, figure.value);
  }
  for (const Store::Pool& pool : store.pools()) {
    const Labels labels{{"pool", pool.name}};
    const auto add = [&](const char* name, const char* help, auto value) {
      live.add(std::string("millrace_store_pool_") + name, help, static_cast<double>(value), labels);
    };
    const auto seconds = [](std::chrono::milliseconds time) { return std::chrono::duration<double>(time).count(); };
    add("up", "1 while all connections of the pool stand and are of use", pool.why.empty() ? 1 : 0);
    add("state_seconds", "Since all connections of the pool stand, or since one is missing", seconds(pool.since));
    add("connects_total", "Connections of the pool made", pool.connects);
    add("errors_total", "Calls of the pool that got no answer, or an error", pool.errors);
    add("in_flight", "Calls of the pool sent and not answered", pool.in_flight);
    add("queued", "Calls of the pool that wait to be sent", pool.queued);
    add("oldest_seconds", "How long the oldest of those calls has waited, 0 when there is none", seconds(pool.oldest));
  }
}

void add_up(Live& live, bool answers) {
  live.add("millrace_store_up", "1 when the store answers", answers ? 1 : 0);
}

void add_store(Live& live, Services& services) {
  // Everything is read before anything is shown, so that a store that fails half-way shows nothing but store_up 0.
  std::vector<StreamInfo> streams;
  std::vector<GroupInfo> groups;
  try {
    streams = services.store.log().streams();
    groups = services.store.ledger().groups();
  } catch (const Error& error) {
    log::write(log::Level::warn, error);
    return add_up(live, false);
  }
  add_up(live, true);
  for (const StreamInfo& stream : streams) {
    const Labels labels{{"stream", stream.name.str()}};
    live.add("millrace_stream_events", "Events in the log", static_cast<double>(stream.events), labels);
    live.add("millrace_stored_bytes", "Bytes of events in the log, approximately", static_cast<double>(stream.bytes),
             labels);
    add_last_trim(live, stream, labels);
  }
  for (const GroupInfo& group : groups) {
    const Labels labels{{"group", group.name.str()}, {"stream", group.stream.str()}};
    const auto add = [&](const char* name, const char* help, auto value) {
      live.add(std::string("millrace_") + name, help, static_cast<double>(value), labels);
    };
    add("group_lag_events", "Events after the cursor, before the filter", group.lag.ahead);
    add("in_flight", "Events claimed and not settled", group.lag.in_flight);
    add("group_waiting_events", "Events given back, waiting for a retry, suspect or parked", group.lag.waiting);
    add("group_parked_events", "Events waiting behind a busy key", group.parked);
    add("dlq_events", "Events in the dead letters", group.dead);
    add("group_oldest_unacked_seconds", "Seconds since the oldest unsettled event was stored, 0 when there is none",
        group.lag.oldest_seconds);
    add("group_paused", "1 while the group is paused", group.paused ? 1 : 0);
    add("group_stalled", "1 while nothing is handed out though events wait", group.stalled.empty() ? 0 : 1);
    add("group_consumers", "Consumers that hold a claim or a session", group.consumers.size());
    add("group_processed_total", "Events acknowledged", group.processed);
    add("group_failures_total", "Deliveries answered with retry", group.failures);
    add("group_crashes_total", "Leases that ran out over one event", group.crashes);
    add("group_rejected_total", "Events moved to the dead letters", group.rejected);
    add("group_expired_total", "Events settled because their expirytime had passed", group.expired);
    add("group_skipped_total", "Events settled by skip or seek", group.skipped);
  }
}

/// All but what the store says.
Live live_figures(Services& services) {
  Live live;
  live.add("millrace_build_info", "1, with the version as a label", 1, {{"version", MILLRACE_VERSION}});
  live.add("millrace_uptime_seconds", "Seconds since the daemon started",
           std::chrono::duration<double>(std::chrono::steady_clock::now() - services.started).count());
  const Bus::Stats bus = services.bus.stats();
  live.add("millrace_bus_observers", "Observers registered", static_cast<double>(bus.observers));
  live.add("millrace_bus_observer_failures_total", "Observer calls that threw",
           static_cast<double>(bus.observer_failures));
  live.add("millrace_claims_waiting", "Claims in a long poll", static_cast<double>(services.claims.waiting()));
  live.add("millrace_tails", "Open tails", static_cast<double>(services.tails.count()));
  if (services.server) {
    const http::Server::Stats server = services.server();
    live.add("millrace_http_connections", "Open connections", static_cast<double>(server.connections));
    live.add("millrace_http_connections_accepted_total", "Connections accepted", static_cast<double>(server.accepted));
    live.add("millrace_http_connections_refused_total", "Connections beyond server.max_connections",
             static_cast<double>(server.refused));
    live.add("millrace_http_timeouts_total",
             "TLS handshakes, requests and writes that took longer than server.request_timeout",
             static_cast<double>(server.timed_out));
    live.add("millrace_http_malformed_total", "Requests refused as malformed or too large",
             static_cast<double>(server.malformed));
  }
  add_process(live, services.store);
  return live;
}

}  // namespace

struct Metrics::Impl {
  std::string serialized(std::vector<prometheus::MetricFamily> live) const {
    std::vector<prometheus::MetricFamily> families = registry.Collect();
    std::move(live.begin(), live.end(), std::back_inserter(families));
    return prometheus::TextSerializer().Serialize(families);
  }

  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }
  prometheus::Family<prometheus::Counter>& requests = counter("millrace_http_requests_total", "HTTP requests answered");
  prometheus::Family<prometheus::Histogram>& request_seconds =
      prometheus::BuildHistogram()
          .Name("millrace_http_request_seconds")
          .Help("Time from a whole request to its answer, long polls included")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& published =
      counter("millrace_published_total", "Events published and stored");
  prometheus::Family<prometheus::Counter>& dedup_hits =
      counter("millrace_dedup_hits_total", "Events published again and not stored twice");
  prometheus::Family<prometheus::Counter>& conflicts =
      counter("millrace_publish_conflicts_total", "Events refused because another one has their source and id");
  prometheus::Family<prometheus::Counter>& failed =
      counter("millrace_publish_failed_total", "Events whose publishing failed, or may have");
  prometheus::Family<prometheus::Counter>& delivered =
      counter("millrace_delivered_total", "Events handed out for the first time, or again after a release");
  prometheus::Family<prometheus::Counter>& redelivered =
      counter("millrace_redelivered_total", "Events handed out again after a retry or a lease that ran out");
  prometheus::Family<prometheus::Histogram>& ack_seconds =
      prometheus::BuildHistogram()
          .Name("millrace_publish_ack_seconds")
          .Help("Time from a publish handed to the store to its acknowledgement, by the level reached")
          .Register(registry);
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::request(std::string_view route, std::string_view method, unsigned status, double seconds) {
  static constexpr std::array<std::string_view, 7> kMethods{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
  const bool known = std::find(kMethods.begin(), kMethods.end(), method) != kMethods.end();
  impl_->requests
      .Add({{"route", std::string(route)},
            {"method", known ? std::string(method) : "other"},
            {"status", std::to_string(status)}})
      .Increment();
  impl_->request_seconds.Add({{"route", std::string(route)}}, kSeconds).Observe(seconds);
}

void Metrics::published(const std::string& stream, const std::vector<AppendResult>& results) {
  const prometheus::Labels labels{{"stream", stream}};
  std::array<double, 3> counts{};
  for (const AppendResult& result : results) {
    switch (result.status) {
      case AppendStatus::stored:
        ++counts[0];
        break;
      case AppendStatus::duplicate:
        ++counts[1];
        break;
      case AppendStatus::conflict:
        ++counts[2];
        break;
    }
  }
  impl_->published.Add(labels).Increment(counts[0]);
  impl_->dedup_hits.Add(labels).Increment(counts[1]);
  impl_->conflicts.Add(labels).Increment(counts[2]);
  impl_->failed.Add(labels);  // there, as 0, before the first failure: a rate needs a value to begin from
}

void Metrics::publish_failed(const std::string& stream, std::size_t events) {
  impl_->failed.Add({{"stream", stream}}).Increment(static_cast<double>(events));
}

void Metrics::delivered(const GroupName& group, std::span<const Delivery> deliveries) {
  const prometheus::Labels labels{{"group", group.str()}};
  const auto again =
      std::count_if(deliveries.begin(), deliveries.end(), [](const Delivery& d) { return d.attempt > 1; });
  impl_->redelivered.Add(labels).Increment(static_cast<double>(again));
  impl_->delivered.Add(labels).Increment(static_cast<double>(deliveries.size()) - static_cast<double>(again));
}

void Metrics::publish_ack(Durability level, double seconds) {
  impl_->ack_seconds.Add({{"level", std::string(to_string(level))}}, kSeconds).Observe(seconds);
}

std::string Metrics::text(Services& services) {
  Live live = live_figures(services);
  add_store(live, services);
  return impl_->serialized(std::move(live.families));
}

std::string Metrics::text_without_store(Services& services) {
  Live live = live_figures(services);
  add_up(live, false);
  return impl_->serialized(std::move(live.families));
}

}  // namespace millrace::daemon
