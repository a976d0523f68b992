// SPDX-License-Identifier: Apache-2.0
#include "daemon/api.hpp"

#include <algorithm>
#include <atomic>

#include "daemon/access.hpp"
#include "daemon/access_token.hpp"
#include "daemon/claims.hpp"
#include "daemon/handlers.hpp"
#include "daemon/metrics.hpp"
#include "daemon/probe.hpp"
#include "daemon/publish_body.hpp"
#include "daemon/router.hpp"
#include "daemon/schemas.hpp"
#include "daemon/tails.hpp"
#include "daemon/web_guard.hpp"

namespace millrace::daemon {
namespace {

constexpr std::size_t kIngestThreads = 2;
constexpr std::size_t kWorkThreads = 8;
constexpr std::size_t kWatchThreads = 3;
constexpr std::uint64_t kSchemasEvery = 5;  ///< seconds until a program's new step is known

}  // namespace

struct Api::Impl {
  Impl(Store& store, Bus& bus, const Config& config)
      : ingest(kIngestThreads, config.server.max_connections, "millrace-ingest"),
        work(kWorkThreads, config.server.max_connections, "millrace-work"),
        watching(kWatchThreads, config.server.max_connections, "millrace-watch"),
        probe(store),
        schemas(store, config.schemas),
        tokens(config),
        services{store,
                 bus,
                 config,
                 metrics,
                 timer,
                 ingest,
                 work,
                 claims,
                 tails,
                 schemas,
                 access_tokens,
                 {},
                 [this] { return stopping.load(); },
                 std::chrono::steady_clock::now(),
                 probe},
        claims(services),
        tails(services) {
    watch = store.log().watch([this] {
      claims.changed();
      tails.changed();
    });
    tick();
  }

  void tick() {
    timer.after(std::chrono::seconds(1), [this] {
      tails.tick();
      if (++ticks % kSchemasEvery == 0) services.soon([this] { schemas.refresh(); });
      tick();
    });
  }

  /// Whose request it is. An access token is somebody for the tail of its own stream only, and may nothing else there.
  const Principal* owner(const http::Request& request, const Match& found) const {
    const Principal* who = tokens.owner(request);
    if (who != nullptr || found.route == nullptr || found.route->handler != &tail_events) return who;
    for (const auto& [name, value] : request.query) {
      if (name == "access_token" && access_tokens.good_for(value, found.path.at("stream"), now())) return &browser;
    }
    return nullptr;
  }
  static Timestamp now() {
    return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  }

  http::Response refuse(std::string_view route, const http::Request& request, http::Response response) {
    metrics.request(route, request.method, response.status, 0);
    return response;
  }

  http::Admission admit(const http::Request& request) {
    Match found;
    try {
      found = match(routes(), request.method, request.path);
    } catch (const Error& error) {
      return refuse("other", request, http::to_response(http::problem_of(error)));
    }
    const std::string_view name = found.known_path.empty() ? std::string_view("other") : found.known_path;
    const Principal* who = owner(request, found);
    if (!tokens.asked()) {
      if (const auto page = refuse_web_page(request, services.config.server.listen))
        return refuse(name, request, http::to_response(*page));
    } else if (who == nullptr && !(found.route != nullptr && found.route->needs == Needs::nothing)) {
      http::Response response =
          http::to_response({401, "permission_denied",
                             "this needs the header 'Authorization: Bearer <token>' with server.token or a [[token]]"});
      response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"millrace\"");
      return refuse(name, request, std::move(response));
    }
    if (found.allowed.empty()) {
      return refuse(name, request,
                    http::to_response(
                        {404, "not_found", "nothing is at " + request.path + "; docs/http-api.md lists the calls"}));
    }
    if (found.route == nullptr) {
      http::Response response = http::to_response(
          {405, "method_not_allowed", request.method + " is not possible here; " + found.allowed + " is"});
      response.headers.emplace_back("Allow", found.allowed);
      return refuse(name, request, std::move(response));
    }
    try {
      check_scope(who, found.route->needs);
      if (found.route->reach == Reach::stream) check_stream(who, found.path.at("stream"));
      if (found.route->reach == Reach::store) check_store(who);
      static_cast<void>(Query(request.query, found.route->parameters));
      return limit_of(*found.route, request);
    } catch (const Error& error) {
      return refuse(name, request, http::to_response(http::problem_of(error)));
    } catch (const UnsupportedMediaType& type) {
      const std::string given =
          type.content_type.empty() ? "no Content-Type" : "Content-Type '" + type.content_type + "'";
      return refuse(
          name, request,
          http::to_response(
              {415, "unsupported_media_type",
               given + " is not understood here: send ce-* headers (binary mode), application/cloudevents+json, "
                       "application/cloudevents-batch+json or application/x-ndjson"}));
    }
  }

  http::BodyLimit limit_of(const Route& route, const http::Request& request) const {
    const auto& server = services.config.server;
    if (route.handler == &publish_events && publish_mode(request) == PublishMode::binary) {
      return {server.max_event_bytes, "max_event_bytes"};
    }
    return {server.max_batch_bytes, "max_batch_bytes"};
  }

  void handle(http::Request request, std::shared_ptr<http::Exchange> exchange) {
    Match found = match(routes(), request.method, request.path);
    if (found.route == nullptr) throw Error(Errc::not_found, request.method, request.path, "no such call");
    const Route& route = *found.route;
    const Principal* who = owner(request, found);
    // admit() refuses it before; here a null Principal would be one who may do everything.
    if (tokens.asked() && who == nullptr && route.needs != Needs::nothing) {
      throw Error(Errc::permission_denied, request.method, request.path, "this needs a token");
    }
    auto call =
        std::make_shared<Call>(metrics, route, std::move(found.path), std::move(request), std::move(exchange), who);
    Executor& pool = route.pool == Pool::ingest ? ingest : route.pool == Pool::watch ? watching : work;
    const bool taken = pool.try_post([this, call, &route] {
      guarded(call, [&] {
        if (route.reach == Reach::group) check_group(services, *call);
        route.handler(services, call);
      });
    });
    if (!taken)
      call->fail(Error(Errc::busy, call->request().method, call->request().path,
                       "too many requests wait already; try again later"));
  }

  Timer timer;
  Metrics metrics;
  std::atomic<bool> stopping{false};
  Executor ingest;
  Executor work;
  Executor watching;
  Probe probe;
  Schemas schemas;
  const Tokens tokens;
  const AccessTokens access_tokens;
  const Principal browser{"access token", {Scope::consume}, {}};
  std::uint64_t ticks = 0;  ///< of the timer's thread
  Services services;
  Claims claims;
  Tails tails;
  std::unique_ptr<Watch> watch;
};

Api::Api(Store& store, Bus& bus, const Config& config) : impl_(std::make_unique<Impl>(store, bus, config)) {}

Api::~Api() {
  end_waits();
  finish();
}

http::Admission Api::admit(const http::Request& request) {
  return impl_->admit(request);
}
void Api::handle(http::Request request, std::shared_ptr<http::Exchange> exchange) {
  impl_->handle(std::move(request), std::move(exchange));
}
void Api::set_server(std::function<http::Server::Stats()> stats) {
  impl_->services.server = std::move(stats);
}

void Api::end_waits() {
  impl_->stopping = true;
  impl_->claims.end();
  impl_->tails.end();
}

void Api::finish() {
  impl_->watch.reset();
  impl_->timer.stop();
  impl_->ingest.stop();
  impl_->work.stop();
  impl_->watching.stop();
}

}  // namespace millrace::daemon
