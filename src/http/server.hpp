// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// An HTTP/1.1 server whose handlers answer later, from any thread. A slow, silent or waiting client costs a socket and
/// some memory, never a thread.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "http/message.hpp"
#include "millrace/types.hpp"

namespace millrace::http {

struct ServerOptions {
  std::string listen = "127.0.0.1:8420";  ///< host:port, `[::1]:8420`; port 0 picks a free one
  std::size_t threads = 2;                ///< that move bytes
  std::uint64_t max_header_bytes = 64 << 10;
  std::uint64_t max_connections = 10'000;  ///< beyond it a connection is answered 503 and closed
  Milliseconds request_timeout{30'000};    ///< to send a whole request once it began; idle keep-alive; write progress
  std::string tls_cert, tls_key;           ///< PEM files; both or none: then it speaks plain HTTP
  std::size_t stream_buffer = 1 << 20;     ///< a stream asks its writer to wait beyond so many unsent bytes
};

/// An answer that goes on: the body is sent as it is written. Thread-safe. Destroying it closes it.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Queues bytes. False when the stream is closed (nothing was queued).
  virtual bool write(std::string chunk) = 0;
  /// False while more than `stream_buffer` bytes are unsent: do not write more than a keep-alive then.
  [[nodiscard]] virtual bool writable() const = 0;
  /// Called on an I/O thread each time the stream becomes writable again. Must not block.
  virtual void on_writable(std::function<void()> callback) = 0;
  /// Called once, when the client is gone, at once if it already is. Must not block.
  virtual void on_closed(std::function<void()> callback) = 0;
  /// Ends the answer after what was written.
  virtual void close() = 0;
};

/// One request waiting for its answer. Thread-safe. The first answer counts, later ones are ignored (their `sent` gets
/// false). Destroyed without an answer, it answers 500.
class Exchange {
 public:
  virtual ~Exchange() = default;

  /// \param sent called once, on an I/O thread: true when the operating system took the whole answer; false when the
  /// client was seen to be gone before, or the write failed. Must not block.
  virtual void respond(Response response, std::function<void(bool)> sent = {}) = 0;
  /// Sends the head at once and keeps the connection for the stream. Null when the exchange was already answered.
  virtual std::shared_ptr<Stream> start_stream(unsigned status, std::vector<Header> headers) = 0;
  /// Called once when the client goes away before an answer was given; at once if it already has. Must not block.
  virtual void on_closed(std::function<void()> callback) = 0;
};

/// What to do with a request before its body is read.
struct BodyLimit {
  std::uint64_t bytes = 0;
  std::string setting;  ///< the name of the limit, for the 413
};
using Admission = std::variant<BodyLimit, Response>;

/// Runs from construction to destruction. Thread-safe.
class Server {
 public:
  /// Called on an I/O thread once the head is there (body empty). Must not block. A Response refuses the request.
  using Admit = std::function<Admission(const Request&)>;
  /// Called on an I/O thread with the whole request. Must not block. What it throws is answered.
  using Handler = std::function<void(Request, std::shared_ptr<Exchange>)>;

  /// Listens; requests are served when it returns.
  /// \throws Error{invalid_argument} for a malformed or unresolvable address, {busy} when the port is taken,
  /// {permission_denied}, {unavailable}; for certificate and key as load_tls (tls.hpp)
  Server(const ServerOptions& options, Admit admit, Handler handler);
  ~Server();  ///< stop(0)
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] std::string address() const;  ///< "127.0.0.1:8420", with the real port

  /// Reads certificate and key again, for new connections. \throws Error: the old pair stays
  void reload_tls();

  /// Accepts nothing more, closes idle connections, and closes each other one after its answer.
  void drain();
  /// Waits until no request is unanswered. False when `grace` ran out.
  bool wait_idle(Milliseconds grace);
  /// Cuts what is left and joins the threads. Exchanges may outlive it; their answers go nowhere.
  void stop();

  struct Stats {
    std::uint64_t connections = 0;  ///< open now
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;    ///< beyond max_connections
    std::uint64_t timed_out = 0;  ///< requests and writes that took too long
    std::uint64_t malformed = 0;
  };
  [[nodiscard]] Stats stats() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// Whether "host:port" names only this machine. \throws Error{invalid_argument}
bool is_loopback(const std::string& listen);

}  // namespace millrace::http
