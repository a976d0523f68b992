// SPDX-License-Identifier: Apache-2.0
#include "http/server.hpp"

#include <charconv>
#include <thread>
#include <utility>

#include "base/log.hpp"
#include "http/connection.hpp"

namespace millrace::http {

using boost::system::error_code;

namespace {

/// Beyond them an excess connection is closed without a word. A handshake costs much more than what is refused by it.
constexpr std::uint64_t kRefusalsAtOnce = 256, kTlsRefusalsAtOnce = 16;
constexpr std::chrono::milliseconds kAcceptPause{100};

std::vector<Tcp::endpoint> resolve(const std::string& listen) {
  const auto fail = [&](const std::string& why) -> Error {
    return {Errc::invalid_argument, "listen", listen, why + "; server.listen is <host>:<port>, e.g. 127.0.0.1:8420"};
  };
  const std::size_t colon = listen.rfind(':');
  if (colon == std::string::npos) throw fail("no port");
  std::string host = listen.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  std::uint16_t port = 0;
  const char* end = listen.data() + listen.size();
  const auto [stopped_at, bad] = std::from_chars(listen.data() + colon + 1, end, port);
  if (bad != std::errc{} || stopped_at != end) throw fail("the port is not a number from 0 to 65535");
  if (host.empty()) throw fail("no host");

  error_code error;
  const net::ip::address literal = net::ip::make_address(host, error);
  if (!error) return {Tcp::endpoint(literal, port)};
  net::io_context io;
  Tcp::resolver resolver(io);
  std::vector<Tcp::endpoint> out;
  for (const auto& entry : resolver.resolve(host, std::to_string(port), error)) out.push_back(entry.endpoint());
  if (error || out.empty()) throw fail("the host cannot be resolved: " + error.message());
  return out;
}

std::string text_of(const Tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(endpoint.port());
}

}  // namespace

bool is_loopback(const std::string& listen) {
  for (const Tcp::endpoint& endpoint : resolve(listen)) {
    if (!endpoint.address().is_loopback()) return false;
  }
  return true;
}

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  explicit Impl(const ServerOptions& options)
      : hub(std::make_shared<Hub>(options)),
        acceptor(net::make_strand(hub->io)),
        pause(acceptor.get_executor()),
        keep_running(net::make_work_guard(hub->io)) {}

  void listen() {
    const std::string& address = hub->options.listen;
    const Tcp::endpoint endpoint = resolve(address).front();
    const auto fail = [&](const char* step, const error_code& error) {
      if (error == net::error::address_in_use) {
        return Error(Errc::busy, "listen", address,
                     "another program listens there: stop it, or choose another address with server.listen "
                     "(--server-listen, MILLRACE_SERVER_LISTEN)",
                     error.message());
      }
      if (error == net::error::access_denied) {
        return Error(Errc::permission_denied, "listen", address,
                     "ports below 1024 need privileges: choose another with server.listen", error.message());
      }
      return Error(Errc::unavailable, "listen", address, std::string("cannot ") + step + "; check server.listen",
                   error.message());
    };
    error_code error;
    acceptor.open(endpoint.protocol(), error);
    if (error) throw fail("open a socket", error);
    acceptor.set_option(Tcp::acceptor::reuse_address(true), error);
    if (error) throw fail("set SO_REUSEADDR", error);
    acceptor.bind(endpoint, error);
    if (error) throw fail("bind", error);
    acceptor.listen(net::socket_base::max_listen_connections, error);
    if (error) throw fail("listen", error);
    bound = acceptor.local_endpoint(error);
    if (error) throw fail("ask for the port", error);
  }

  void accept() {
    acceptor.async_accept(net::make_strand(hub->io),
                          [self = shared_from_this()](const error_code& error, Tcp::socket socket) {
                            if (error == net::error::operation_aborted || !self->acceptor.is_open()) return;
                            if (error) return self->accept_later(error);
                            ++self->hub->accepted;
                            self->welcome(std::move(socket));
                            self->accept();
                          });
  }

  /// Out of descriptors, mostly: accepting again at once would spin.
  void accept_later(const error_code& error) {
    log::warn("accept_failed", text_of(bound), error.message());
    pause.expires_after(kAcceptPause);
    pause.async_wait([self = shared_from_this()](const error_code& cancelled) {
      if (!cancelled && self->acceptor.is_open()) self->accept();
    });
  }

  void welcome(Tcp::socket socket) {
    auto connection = std::make_shared<Connection>(hub, std::move(socket));
    if (hub->open() < hub->options.max_connections) return connection->start();
    ++hub->refused;
    if (refusing.load() >= (hub->options.tls_cert.empty() ? kRefusalsAtOnce : kTlsRefusalsAtOnce)) return;
    ++refusing;
    connection->refuse([self = shared_from_this()] { --self->refusing; });
  }

  void drain() {
    if (hub->draining.exchange(true)) return;
    net::dispatch(acceptor.get_executor(), [self = shared_from_this()] {
      error_code ignored;  // it is closed either way
      self->acceptor.close(ignored);
      self->pause.cancel();
    });
    for (const auto& connection : hub->connections()) connection->drain();
  }

  std::shared_ptr<Hub> hub;
  Tcp::acceptor acceptor;
  net::steady_timer pause;
  net::executor_work_guard<net::io_context::executor_type> keep_running;
  Tcp::endpoint bound;
  std::atomic<std::uint64_t> refusing{0};
  std::vector<std::thread> threads;
};

Server::Server(const ServerOptions& options, Admit admit, Handler handler) : impl_(std::make_shared<Impl>(options)) {
  impl_->hub->admit = std::move(admit);
  impl_->hub->handler = std::move(handler);
  if (!options.tls_cert.empty()) reload_tls();
  impl_->listen();
  net::dispatch(impl_->acceptor.get_executor(), [impl = impl_] { impl->accept(); });
  for (std::size_t i = 0; i < std::max<std::size_t>(options.threads, 1); ++i) {
    impl_->threads.emplace_back([hub = impl_->hub] { hub->io.run(); });
  }
}

Server::~Server() {
  stop();
}

std::string Server::address() const {
  return text_of(impl_->bound);
}
void Server::reload_tls() {
  const ServerOptions& options = impl_->hub->options;
  impl_->hub->set_tls(load_tls(options.tls_cert, options.tls_key));
}
void Server::drain() {
  impl_->drain();
}
bool Server::wait_idle(Milliseconds grace) {
  return impl_->hub->wait_no_work(grace);
}

void Server::stop() {
  if (impl_->threads.empty()) return;
  drain();
  impl_->hub->stopped = true;
  for (const auto& connection : impl_->hub->connections()) connection->cut();
  impl_->keep_running.reset();
  // A connection accepted while the list was taken is still open: it is cut by its own start when `stopped` is seen.
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
  impl_->hub->admit = nullptr;
  impl_->hub->handler = nullptr;
}

Server::Stats Server::stats() const {
  const Hub& hub = *impl_->hub;
  return {hub.open(), hub.accepted, hub.refused, hub.timed_out, hub.malformed};
}

}  // namespace millrace::http
