// SPDX-License-Identifier: Apache-2.0
#include "cli/exit.hpp"
#include "cli/target.hpp"
#include "http/client.hpp"

#include <algorithm>

namespace millrace::cli {
namespace {

constexpr std::chrono::milliseconds kConnectPatience{5'000};

std::string path_and_query(const http::Request& request) {
  std::string out = request.path;
  char separator = '?';
  for (const auto& [name, value] : request.query) {
    out += separator + http::percent_encode(name) + '=' + http::percent_encode(value);
    separator = '&';
  }
  return out;
}

class HttpTarget final : public Target {
 public:
  HttpTarget(std::string url, const std::string& token, const std::string& ca_file, std::chrono::milliseconds patience)
      : url_(std::move(url)),
        patience_(patience),
        client_({.url = url_,
                 .token = token,
                 .connect_timeout = std::min(patience, kConnectPatience),
                 .ca_file = ca_file}) {}

  std::string name() const override { return url_; }

  http::Response send(const http::Request& request) override {
    return connected([&] {
      return client_.request(request.method, path_and_query(request), request.headers, request.body, patience_);
    });
  }

  void stream(const http::Request& request, const std::function<bool(std::string_view)>& chunk) override {
    const http::Response answer =
        connected([&] { return client_.stream(path_and_query(request), request.headers, chunk, kUsualPatience); });
    if (answer.status != 200) throw_problem(answer, "GET " + request.path);
  }

 private:
  template <class Call>
  http::Response connected(Call call) {
    try {
      return call();
    } catch (const Error& error) {
      if (error.code() != Errc::unavailable) throw;
      if (url_.starts_with("https:")) {  // the client knows whether it is the certificate
        throw CannotConnect(error.code(), error.operation(), url_, error.message(), error.native());
      }
      throw CannotConnect(
          error.code(), error.operation(), url_,
          "nobody answers there: start `millrace serve`, or name another daemon with --url or MILLRACE_URL",
          error.native().empty() ? error.message() : error.native());
    }
  }

  std::string url_;
  std::chrono::milliseconds patience_;
  http::Client client_;
};

}  // namespace

std::unique_ptr<Target> make_http_target(const std::string& url, const std::string& token, const std::string& ca_file,
                                         std::chrono::milliseconds patience) {
  return std::make_unique<HttpTarget>(url, token, ca_file, patience);
}

}  // namespace millrace::cli
