// SPDX-License-Identifier: Apache-2.0
#include "cli/target.hpp"

#include <utility>

#include "cli/exit.hpp"

namespace millrace::cli {
namespace {

/// The code by its name; a condition of HTTP that has none is told apart by its status.
Errc code_of(std::string_view name, unsigned status) {
  for (int i = 0; i <= static_cast<int>(Errc::internal); ++i) {
    if (to_string(static_cast<Errc>(i)) == name) return static_cast<Errc>(i);
  }
  if (status == 401 || status == 403) return Errc::permission_denied;
  if (status == 404) return Errc::not_found;
  if (status == 413) return Errc::too_large;
  if (status == 429 || status == 503) return Errc::busy;
  return status < 500 ? Errc::invalid_argument : Errc::internal;
}

std::string text_of(const boost::json::object& object, std::string_view name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

boost::json::value call(Target& target, std::string method, const std::string& path, Query query, std::string body) {
  http::Request request;
  request.method = std::move(method);
  request.path = path;
  request.query = std::move(query);
  if (!body.empty()) request.headers.emplace_back("Content-Type", "application/json");
  request.body = std::move(body);
  const http::Response response = target.send(request);
  if (response.status >= 400) throw_problem(response, request.method + ' ' + path);
  boost::system::error_code bad;
  auto value = boost::json::parse(response.body, bad);
  if (bad) {
    throw Error(Errc::internal, request.method + ' ' + path, target.name(),
                "answered something that is not JSON: is it a Millrace?", bad.message());
  }
  return value;
}

}  // namespace

boost::json::value Target::get(const std::string& path, Query query) {
  return call(*this, "GET", path, std::move(query), {});
}

boost::json::value Target::post(const std::string& path, const boost::json::value& body) {
  return call(*this, "POST", path, {}, boost::json::serialize(body));
}

boost::json::value Target::patch(const std::string& path, const boost::json::value& body) {
  return call(*this, "PATCH", path, {}, boost::json::serialize(body));
}

boost::json::value Target::put(const std::string& path, std::string json) {
  return call(*this, "PUT", path, {}, std::move(json));
}

boost::json::value Target::remove(const std::string& path, Query query) {
  return call(*this, "DELETE", path, std::move(query), {});
}

std::string group_path(const std::string& group, std::string_view rest) {
  return "/v1/groups/" + http::percent_encode(group) + std::string(rest);
}

std::string stream_path(const std::string& stream, std::string_view rest) {
  return "/v1/streams/" + http::percent_encode(stream) + std::string(rest);
}

void throw_problem(const http::Response& response, const std::string& operation) {
  boost::system::error_code bad;
  const auto parsed = boost::json::parse(response.body, bad);
  const auto* problem = bad ? nullptr : parsed.if_object();
  if (problem == nullptr || !problem->contains("code")) {
    throw Error(code_of("", response.status), operation, "",
                "answered status " + std::to_string(response.status) + ": is it a Millrace?");
  }
  std::string message = text_of(*problem, "detail");
  if (response.status == 401) message += "; give it with --token or MILLRACE_TOKEN";
  throw Error(code_of(text_of(*problem, "code"), response.status), operation, text_of(*problem, "object"), message,
              text_of(*problem, "native"));
}

}  // namespace millrace::cli
