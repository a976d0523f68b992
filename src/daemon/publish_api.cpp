// SPDX-License-Identifier: Apache-2.0
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"
#include "daemon/metrics.hpp"
#include "daemon/publish_body.hpp"

namespace millrace::daemon {
namespace {

Durability asked_durability(const Query& query) {
  const std::string text = query.text("durability").value_or("durable");
  if (text == "durable") return Durability::durable;
  if (text == "relaxed") return Durability::relaxed;
  throw Error(Errc::invalid_argument, "publish", "durability", "'" + text + "' is neither 'durable' nor 'relaxed'");
}

/// One for all of them: nothing of the request was stored.
http::Problem problem_of(const std::vector<Decoded::Bad>& bad, const PublishLimits& limits) {
  JsonWriter errors('[');
  for (const auto& one : bad) {
    errors.element(JsonWriter()
                       .number("index", one.index)
                       .text("code", to_string(one.code))
                       .text("object", one.object)
                       .text("detail", one.detail)
                       .finish());
  }
  const auto& first = bad.front();
  std::string limit;
  if (first.code == Errc::too_large) {
    limit = ",\"limit\":" + std::to_string(first.object == "data" ? limits.max_event_bytes : limits.max_header_bytes);
  }
  return {http::status_of(first.code),
          std::string(to_string(first.code)),
          "event " + std::to_string(first.index) + ": " + (first.object.empty() ? "" : first.object + ": ") +
              first.detail + "; nothing was stored",
          false,
          first.object,
          {},
          ",\"errors\":" + errors.finish() + limit};
}

std::string results_json(const std::vector<std::string>& ids, const std::vector<AppendResult>& results) {
  std::string out = "{\"results\":[";
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (i > 0) out += ',';
    out += "{\"id\":";
    append_json_string(out, ids[i]);
    out += ",\"status\":\"";
    out += to_string(results[i].status);
    out += "\",\"position\":";
    out += results[i].position ? "\"" + results[i].position->to_string() + "\"" : "null";
    // What is not there has reached no level.
    out += ",\"durability\":";
    out += results[i].position ? '"' + std::string(to_string(results[i].durability)) + '"' : "null";
    out += '}';
  }
  out += "]}";
  return out;
}

void fail_publish(const CallPtr& call, const Error& error, const std::vector<std::string>& ids) {
  http::Problem problem = http::problem_of(error);
  if (problem.status >= 500) {
    JsonWriter array('[');
    for (const std::string& id : ids) array.text({}, id);
    problem.extra = ",\"ids\":" + array.finish();
  }
  call->fail(problem);
}

}  // namespace

void publish_events(Services& services, const CallPtr& call) {
  const PublishOptions options{StreamName(call->path("stream")), asked_durability(call->query())};
  const PublishLimits limits{services.config.server.max_event_bytes, services.config.server.max_header_bytes};
  Decoded decoded = decode_publish(call->request(), publish_mode(call->request()), limits);
  if (!decoded.bad.empty()) return call->fail(problem_of(decoded.bad, limits));
  call->request().body = {};

  std::vector<std::string> ids;
  ids.reserve(decoded.events.size());
  for (const Event& event : decoded.events) ids.push_back(event.id);
  const auto began = std::chrono::steady_clock::now();
  const std::string stream = options.stream.str();
  services.bus.publish_async(std::move(decoded.events), options,
                             [&services, call, stream, ids = std::move(ids), began](AppendAnswer answer) {
                               if (const Error* error = std::get_if<Error>(&answer)) {
                                 // An unknown stream is no label: anybody could make up any number of them.
                                 if (error->code() != Errc::unknown_stream)
                                   services.metrics.publish_failed(stream, ids.size());
                                 return fail_publish(call, *error, ids);
                               }
                               const auto& results = std::get<std::vector<AppendResult>>(answer);
                               const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
                               services.metrics.published(stream, results);
                               if (!results.empty())
                                 services.metrics.publish_ack(results.front().durability, took.count());
                               call->json(results_json(ids, results));
                             });
}

}  // namespace millrace::daemon
