// SPDX-License-Identifier: Apache-2.0
#include "io/stream.hpp"

#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

namespace millrace::io {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Local = asio::local::stream_protocol;
using Code = boost::system::error_code;
using Secured = asio::ssl::stream<tcp::socket>;

template <class Socket>
class Plain final : public Stream {
 public:
  explicit Plain(Socket socket) : socket_(std::move(socket)) {}
  void read_some(asio::mutable_buffer into, Done done) override { socket_.async_read_some(into, std::move(done)); }
  void write_some(asio::const_buffer from, Done done) override { socket_.async_write_some(from, std::move(done)); }
  void close() noexcept override {
    Code ignored;
    socket_.close(ignored);
  }

 private:
  Socket socket_;
};

class Secure final : public Stream {
 public:
  Secure(std::unique_ptr<Secured> stream, TlsContext context)
      : context_(std::move(context)), stream_(std::move(stream)) {}
  void read_some(asio::mutable_buffer into, Done done) override { stream_->async_read_some(into, std::move(done)); }
  void write_some(asio::const_buffer from, Done done) override { stream_->async_write_some(from, std::move(done)); }
  void close() noexcept override {
    Code ignored;
    stream_->next_layer().close(ignored);
  }

 private:
  TlsContext context_;
  std::unique_ptr<Secured> stream_;
};

/// Without these a peer that vanished is noticed after two hours, or when the next write gives up.
void set_options(tcp::socket& socket) {
  Code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  socket.set_option(asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPIDLE>(15), ignored);
  socket.set_option(asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPINTVL>(5), ignored);
  socket.set_option(asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPCNT>(3), ignored);
}

bool is_address(const std::string& host) {
  Code error;
  asio::ip::make_address(host, error);
  return !error;
}

class Attempt final : public Connecting, public std::enable_shared_from_this<Attempt> {
 public:
  Attempt(asio::io_context& loop, Endpoint endpoint, TlsContext tls, Milliseconds timeout, Done done)
      : loop_(loop),
        endpoint_(std::move(endpoint)),
        tls_(std::move(tls)),
        timeout_(timeout),
        done_(std::move(done)),
        timer_(loop),
        resolver_(loop),
        tcp_(loop),
        local_(loop) {}

  void start() {
    timer_.expires_after(timeout_);
    timer_.async_wait([self = shared_from_this()](const Code& error) {
      if (!error) self->ran_out();
    });
    if (!endpoint_.path.empty()) return connect_local();
    Code error;
    const asio::ip::address address = asio::ip::make_address(endpoint_.host, error);
    if (!error) {  // no resolver and its thread for what needs none
      step_ = "connecting";
      const tcp::endpoint target(address, endpoint_.port);
      tcp_.async_connect(target, [self = shared_from_this()](const Code& failed) { self->connected(failed); });
      return;
    }
    step_ = "looking up the name";
    resolver_.async_resolve(endpoint_.host, std::to_string(endpoint_.port), tcp::resolver::numeric_service,
                            [self = shared_from_this()](const Code& failed, tcp::resolver::results_type found) {
                              self->resolved(failed, std::move(found));
                            });
  }

  void cancel() override {
    done_ = nullptr;
    close();
  }

 private:
  void connect_local() {
    step_ = "connecting";
    const auto self = shared_from_this();
    try {
      const Local::endpoint target(endpoint_.path);
      local_.async_connect(target, [self](const Code& error) {
        if (!self->done_) return;
        if (error) return self->fail(error, "nobody listens on this socket; is the server running?");
        self->succeed(std::make_unique<Plain<Local::socket>>(std::move(self->local_)));
      });
    } catch (const boost::system::system_error& error) {  // a path longer than a socket's may be
      asio::post(loop_, [self, code = error.code()] { self->fail(code, "is no path of a Unix socket"); });
    }
  }

  void resolved(const Code& error, tcp::resolver::results_type found) {
    if (!done_) return;
    if (error) return fail(error, "the host's name cannot be looked up");
    step_ = "connecting";
    addresses_ = std::move(found);
    asio::async_connect(tcp_, addresses_, [self = shared_from_this()](const Code& failed, const tcp::endpoint&) {
      self->connected(failed);
    });
  }

  void connected(const Code& error) {
    if (!done_) return;
    if (error) return fail(error, "nobody answers there; is the server running?");
    set_options(tcp_);
    if (!tls_) return succeed(std::make_unique<Plain<tcp::socket>>(std::move(tcp_)));
    shake_hands();
  }

  void shake_hands() {
    step_ = "the TLS handshake";
    secured_ = std::make_unique<Secured>(std::move(tcp_), *tls_);
    const std::string& wanted = endpoint_.tls->server_name;
    const std::string name = wanted.empty() ? endpoint_.host : wanted;
    if (!is_address(name)) SSL_set_tlsext_host_name(secured_->native_handle(), name.c_str());
    if (endpoint_.tls->verify) secured_->set_verify_callback(asio::ssl::host_name_verification(name));
    secured_->async_handshake(asio::ssl::stream_base::client, [self = shared_from_this()](const Code& error) {
      if (!self->done_) return;
      if (error) return self->fail_handshake(error);
      self->succeed(std::make_unique<Secure>(std::move(self->secured_), self->tls_));
    });
  }

  void fail_handshake(const Code& error) {
    const long verdict = SSL_get_verify_result(secured_->native_handle());
    const bool asked = endpoint_.tls->verify;
    if (asked && (verdict != X509_V_OK ||
                  ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_CERTIFICATE_VERIFY_FAILED)) {
      const char* why = verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : "it is for another name";
      return finish(Error(Errc::unavailable, "connect to", endpoint_.describe(),
                          "its certificate is not trusted: name the PEM file of its CA, and a host name that it is for",
                          why));
    }
    fail(error, "no TLS connection: does it speak TLS, and does it want a certificate of ours?");
  }

  void ran_out() {
    if (!done_) return;
    finish(Error(Errc::unavailable, "connect to", endpoint_.describe(),
                 "timed out: " + std::string(step_) + " took longer than " + std::to_string(timeout_.count()) + " ms"));
  }

  void fail(const Code& error, const char* advice) {
    if (!done_) return;
    const bool denied = error == asio::error::access_denied || error == asio::error::no_permission;
    finish(Error(denied ? Errc::permission_denied : Errc::unavailable, "connect to", endpoint_.describe(),
                 denied ? "the socket's permissions do not let us connect" : advice, error.message()));
  }

  void finish(const Error& error) {
    const Done done = std::exchange(done_, nullptr);
    close();
    done(nullptr, &error);
  }

  void succeed(std::unique_ptr<Stream> stream) {
    const Done done = std::exchange(done_, nullptr);
    timer_.cancel();
    done(std::move(stream), nullptr);
  }

  void close() {
    Code ignored;
    timer_.cancel();
    resolver_.cancel();
    tcp_.close(ignored);
    local_.close(ignored);
    if (secured_) secured_->next_layer().close(ignored);
  }

  asio::io_context& loop_;
  Endpoint endpoint_;
  TlsContext tls_;
  Milliseconds timeout_;
  Done done_;
  const char* step_ = "";
  asio::steady_timer timer_;
  tcp::resolver resolver_;
  tcp::resolver::results_type addresses_;
  tcp::socket tcp_;
  Local::socket local_;
  std::unique_ptr<Secured> secured_;
};

}  // namespace

std::shared_ptr<Connecting> connect(asio::io_context& loop, const Endpoint& endpoint, const TlsContext& tls,
                                    Milliseconds timeout, Connecting::Done done) {
  auto attempt = std::make_shared<Attempt>(loop, endpoint, tls, timeout, std::move(done));
  attempt->start();
  return attempt;
}

}  // namespace millrace::io
