// SPDX-License-Identifier: Apache-2.0
#include "daemon/call.hpp"

#include "base/log.hpp"
#include "daemon/access.hpp"
#include "daemon/metrics.hpp"
#include "daemon/router.hpp"

namespace millrace::daemon {

void Services::soon(std::function<void()> task) {
  // Shared, because a refused task must still be there to be tried again.
  auto shared = std::make_shared<std::function<void()>>(std::move(task));
  if (work.try_post([shared] { (*shared)(); })) return;
  timer.after(std::chrono::milliseconds(20), [this, shared] { soon(std::move(*shared)); });
}

Call::Call(Metrics& metrics, const Route& route, std::map<std::string, std::string> path, http::Request request,
           std::shared_ptr<http::Exchange> exchange, const Principal* who)
    : metrics_(metrics),
      route_(route),
      path_(std::move(path)),
      request_(std::move(request)),
      exchange_(std::move(exchange)),
      who_(who),
      began_(std::chrono::steady_clock::now()) {}

Query Call::query() const {
  return {request_.query, route_.parameters};
}

void Call::count(unsigned status) {
  if (counted_.exchange(true)) return;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
  metrics_.request(route_.path, request_.method, status, took.count());
}

void Call::respond(http::Response response, std::function<void(bool)> sent) {
  count(response.status);
  exchange_->respond(std::move(response), std::move(sent));
}

void Call::json(std::string body, unsigned status, std::function<void(bool)> sent) {
  respond({status, {{"Content-Type", "application/json"}}, std::move(body)}, std::move(sent));
}

void Call::fail(const Error& error) {
  if (error.code() == Errc::internal || error.code() == Errc::corrupt) log::write(log::Level::error, error);
  fail(http::problem_of(error));
}

void Call::fail(const http::Problem& problem) {
  respond(http::to_response(problem));
}

std::shared_ptr<http::Stream> Call::start_stream(std::vector<http::Header> headers) {
  count(200);
  return exchange_->start_stream(200, std::move(headers));
}

void check_group(Services& services, const Call& call) {
  if (sees_all(call.who())) return;
  check_stream(call.who(), services.store.ledger().group(GroupName(call.path("group"))).stream.str());
}

void guarded(const std::shared_ptr<Call>& call, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    call->fail(error);
  } catch (const std::exception& error) {
    call->fail(Error(Errc::internal, call->request().method, call->request().path, error.what()));
  }
}

}  // namespace millrace::daemon
