// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The server's certificate and key, and the bytes of one connection with or without them. Internal to src/http.

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace millrace::http {

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

/// A context for servers: TLS 1.2 or newer, no renegotiation, `http/1.1` for who asks by ALPN. An expired certificate
/// is taken and logged: clients refuse it, and say so.
/// \param cert PEM file: the certificate, then those that lead to its CA. \param key PEM file, not encrypted.
/// \throws Error{not_found, permission_denied, invalid_argument} naming the file
TlsContext load_tls(const std::string& cert, const std::string& key);

/// A socket that speaks TLS when it was given a context. One strand at a time; one read and one write may be pending.
class Wire {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Error = boost::system::error_code;

  Wire(Socket socket, TlsContext context) : socket_(std::move(socket)), context_(std::move(context)) {
    if (context_) tls_.emplace(socket_, *context_);
    secure_ = tls_.has_value();
  }

  Socket& socket() { return socket_; }
  [[nodiscard]] bool secure() const { return secure_; }
  /// From now on the bytes below TLS. Nothing but a read may be pending; it ends as a TLS one.
  void speak_plain() { secure_ = false; }

  template <class Handler>
  void handshake(Handler&& handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::forward<Handler>(handler));
  }

  /// Says that nothing more will be sent. Does not wait for the other side to say so too; a TLS read that is pending
  /// or comes later ends as if it had.
  template <class Handler>
  void say_end(Handler&& handler) {
    SSL_set_shutdown(tls_->native_handle(), SSL_get_shutdown(tls_->native_handle()) | SSL_RECEIVED_SHUTDOWN);
    tls_->async_shutdown(std::forward<Handler>(handler));
  }

  template <class Buffers, class Handler>
  void read_some(const Buffers& buffers, Handler&& handler) {
    if (secure_) return tls_->async_read_some(buffers, std::forward<Handler>(handler));
    socket_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <class Buffers, class Handler>
  void write_some(const Buffers& buffers, Handler&& handler) {
    if (secure_) return tls_->async_write_some(buffers, std::forward<Handler>(handler));
    socket_.async_write_some(buffers, std::forward<Handler>(handler));
  }
  /// Blocks: for what surely fits the socket's buffer.
  template <class Buffers>
  void write_now(const Buffers& buffers, Error& error) {
    if (secure_) {
      boost::asio::write(*tls_, buffers, error);
    } else {
      boost::asio::write(socket_, buffers, error);
    }
  }

 private:
  Socket socket_;
  TlsContext context_;
  std::optional<boost::asio::ssl::stream<Socket&>> tls_;
  bool secure_ = false;
};

/// Whether a handshake failed because the client speaks plain HTTP.
bool was_plain_http(const boost::system::error_code& error);

}  // namespace millrace::http
