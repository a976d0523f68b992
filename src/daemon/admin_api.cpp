// SPDX-License-Identifier: Apache-2.0
#include "daemon/access.hpp"
#include "daemon/claims.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"
#include "daemon/metrics.hpp"
#include "daemon/tails.hpp"

namespace millrace::daemon {
namespace {

constexpr std::chrono::seconds kHealthPatience{3};

std::string check_json(std::string_view name, bool ok, std::string_view detail) {
  return JsonWriter().text("name", name).text("status", ok ? "ok" : "failing").text("detail", detail).finish();
}

void answer_health(const CallPtr& call, bool ok, const std::string& checks) {
  call->json(JsonWriter().text("status", ok ? "ok" : "failing").raw("checks", "[" + checks + "]").finish(),
             ok ? 200 : 503);
}

}  // namespace

void show_stats(Services& services, const CallPtr& call) {
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  std::uint64_t pending = 0;
  std::uint64_t dead = 0;
  JsonWriter streams('[');
  for (const StreamInfo& stream : services.store.log().streams()) {
    events += stream.events;
    bytes += stream.bytes;
    streams.element(stream_json(stream));
  }
  JsonWriter groups('[');
  for (const GroupInfo& group : services.store.ledger().groups()) {
    pending += group.lag.ahead + group.lag.in_flight + group.lag.waiting;
    dead += group.dead;
    groups.element(group_json(group));
  }
  JsonWriter figures;
  for (const Store::Figure& figure : services.store.figures()) figures.real(figure.name, figure.value);
  JsonWriter store;
  store.text("description", services.store.describe()).number("total_events", events).number("pending_events", pending);
  store.number("dlq_events", dead).number("bytes", bytes).raw("figures", figures.finish());

  const Bus::Stats stats = services.bus.stats();
  JsonWriter bus;
  bus.number("published", stats.published).number("duplicates", stats.duplicates).number("conflicts", stats.conflicts);
  bus.number("failed", stats.failed)
      .number("observers", stats.observers)
      .number("observer_failures", stats.observer_failures);

  JsonWriter server;
  if (services.server) server.number("connections", services.server().connections);
  server.number("waiting_claims", services.claims.waiting()).number("tails", services.tails.count());
  server.real("uptime_seconds",
              std::chrono::duration<double>(std::chrono::steady_clock::now() - services.started).count());
  server.text("version", MILLRACE_VERSION);

  JsonWriter json;
  json.raw("store", store.finish()).raw("streams", streams.finish()).raw("groups", groups.finish());
  call->json(json.raw("bus", bus.finish()).raw("server", server.finish()).finish());
}

void show_health(Services& services, const CallPtr& call) {
  const auto timer = services.timer.after(kHealthPatience, [call] {
    answer_health(call, false, check_json("store", false, "timed_out: no answer from the store within 3 s"));
  });
  std::string checks;
  bool ok = false;
  try {
    static_cast<void>(services.store.log().streams());
    ok = true;
    checks = check_json("store", true, services.store.describe());
  } catch (const Error& error) {
    checks = check_json("store", false, error.what());
  }
  services.timer.cancel(timer);
  answer_health(call, ok, checks);
}

void show_event_health(Services& services, const CallPtr& call) {
  bool stalled = false;
  JsonWriter groups('[');
  for (const GroupInfo& group : services.store.ledger().groups()) {
    if (!sees(call->who(), group.stream.str())) continue;
    stalled = stalled || !group.stalled.empty();
    JsonWriter json;
    json.text("group", group.name.str()).text("stream", group.stream.str()).raw("lag", lag_json(group.lag));
    json.number("parked", group.parked).number("dead", group.dead).boolean("paused", group.paused);
    groups.element(json.text_or_null("stalled", group.stalled).finish());
  }
  call->json(JsonWriter().text("status", stalled ? "stalled" : "ok").raw("groups", groups.finish()).finish());
}

void show_ready(Services& services, const CallPtr& call) {
  std::string reason;
  if (services.stopping && services.stopping()) {
    reason = "stopping";
  } else {
    try {
      static_cast<void>(services.store.log().streams());
    } catch (const Error& error) {
      reason = error.what();
    }
  }
  JsonWriter json;
  json.boolean("ready", reason.empty()).text_or_null("reason", reason);
  call->json(json.finish(), reason.empty() ? 200 : 503);
}

void show_metrics(Services& services, const CallPtr& call) {
  call->respond({200, {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}, services.metrics.text(services)});
}

}  // namespace millrace::daemon
