// SPDX-License-Identifier: Apache-2.0
#include "daemon.hpp"

#include <signal.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fstream>
#include <stdexcept>

namespace bench {
namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;

std::string empty_configuration(const std::string& dir) {
  const std::string path = dir + "/millrace.toml";
  std::ofstream(path).flush();
  return path;
}

}  // namespace

Daemon::Daemon(const std::string& program, const std::string& store_path, const std::string& dir)
    : log_(dir + "/daemon.log"),
      process_({program, "serve", "--config", empty_configuration(dir), "--store-url", "sqlite:" + store_path,
                "--server-listen", "127.0.0.1:0"},
               {.log = log_, .read_output = true}) {
  const std::string said = process_.line();  // "listening on http://127.0.0.1:41234"
  const auto colon = said.rfind(':');
  if (!said.starts_with("listening on ") || colon == std::string::npos)
    throw std::runtime_error("millrace serve did not start; see " + log_);
  port_ = said.substr(colon + 1);
}

void Daemon::stop() {
  process_.stop(SIGTERM);
  if (const int code = process_.wait(); code != 0)
    throw std::runtime_error("millrace serve ended with " + std::to_string(code) + "; see " + log_);
}

std::string post(const std::string& target, const std::string& content_type, const std::string& body) {
  return "POST " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: " + content_type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

struct Connection::Impl {
  net::io_context context{};
  net::ip::tcp::socket socket{context};
  boost::beast::flat_buffer buffer{};
};

Connection::Connection(const std::string& port) : impl_(std::make_unique<Impl>()) {
  impl_->socket.connect({net::ip::address_v4::loopback(), static_cast<std::uint16_t>(std::stoi(port))});
  impl_->socket.set_option(net::ip::tcp::no_delay(true));
}
Connection::~Connection() = default;

std::string Connection::call(const std::string& request) {
  net::write(impl_->socket, net::buffer(request));
  http::response<http::string_body> response;
  http::read(impl_->socket, impl_->buffer, response);
  if (response.result() != http::status::ok)
    throw std::runtime_error("millrace serve answered " + std::to_string(response.result_int()) + ": " +
                             response.body());
  return std::move(response.body());
}

}  // namespace bench
