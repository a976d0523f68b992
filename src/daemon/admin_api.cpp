// SPDX-License-Identifier: Apache-2.0
#include "base/time.hpp"
#include "daemon/access.hpp"
#include "daemon/claims.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"
#include "daemon/metrics.hpp"
#include "daemon/probe.hpp"
#include "daemon/tails.hpp"

namespace millrace::daemon {
namespace {

constexpr std::chrono::seconds kHealthPatience{3};

std::string check_json(std::string_view name, bool ok, std::string_view detail) {
  return JsonWriter().text("name", name).text("status", ok ? "ok" : "failing").text("detail", detail).finish();
}

std::string since_text(const Store::Pool& pool) {
  return format_rfc3339(wall_now() - pool.since);
}

/// In words: what somebody wants to know who has just been woken.
std::string pool_detail(const Store::Pool& pool) {
  std::string text = (pool.connected ? "connected since " : "not connected since ") + since_text(pool);
  if (!pool.why.empty()) text += ": " + pool.why;
  const std::size_t open = pool.queued + pool.in_flight;
  if (open == 0) return text;
  return text + "; " + std::to_string(open) + " calls wait, the oldest for " + std::to_string(pool.oldest.count()) +
         " ms";
}

std::string pool_json(const Store::Pool& pool) {
  JsonWriter json;
  json.text("pool", pool.name).boolean("connected", pool.connected).text("since", since_text(pool));
  json.text_or_null("why", pool.why).number("connects", pool.connects).number("errors", pool.errors);
  json.number("in_flight", pool.in_flight).number("queued", pool.queued);
  return json.real("oldest_seconds", std::chrono::duration<double>(pool.oldest).count()).finish();
}

/// \param why why the store does not answer; empty when it does
void answer_health(const Store& store, const CallPtr& call, const std::string& why) {
  JsonWriter checks('[');
  checks.element(check_json("store", why.empty(), why.empty() ? store.describe() : why));
  JsonWriter pools('[');
  bool ok = why.empty();
  for (const Store::Pool& pool : store.pools()) {
    ok = ok && pool.why.empty();
    checks.element(check_json("pool " + pool.name, pool.why.empty(), pool_detail(pool)));
    pools.element(pool_json(pool));
  }
  JsonWriter json;
  json.text("status", ok ? "ok" : "failing").raw("checks", checks.finish()).raw("pools", pools.finish());
  call->json(json.finish(), ok ? 200 : 503);
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
  const auto timer = services.timer.after(kHealthPatience, [&store = services.store, call] {
    answer_health(store, call, "timed_out: no answer from the store within 3 s");
  });
  services.probe.ask([&services, call, timer](const std::string& why) {
    services.timer.cancel(timer);
    answer_health(services.store, call, why);
  });
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
  const auto answer = [call](const std::string& reason) {
    JsonWriter json;
    json.boolean("ready", reason.empty()).text_or_null("reason", reason);
    call->json(json.finish(), reason.empty() ? 200 : 503);
  };
  if (services.stopping && services.stopping()) return answer("stopping");
  services.probe.ask(answer);
}

void show_metrics(Services& services, const CallPtr& call) {
  const auto answer = [call](std::string text) {
    call->respond({200, {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}, std::move(text)});
  };
  // Who scrapes does not wait as long as a store may be waited for, and wants to know most of all then.
  const auto timer = services.timer.after(
      kHealthPatience, [&services, answer] { answer(services.metrics.text_without_store(services)); });
  services.probe.ask([&services, answer, timer](const std::string& why) {
    answer(why.empty() ? services.metrics.text(services) : services.metrics.text_without_store(services));
    services.timer.cancel(timer);
  });
}

}  // namespace millrace::daemon
