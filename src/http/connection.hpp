// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One connection of the server. Internal to src/http: here Boost types may show.
///
/// Everything of a connection happens on its strand. There is always one read pending (unless 64 KiB wait unparsed), so
/// a client that goes away is noticed while its request is being worked on.

#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "http/problem.hpp"
#include "http/server.hpp"
#include "http/tls.hpp"

namespace millrace::http {

namespace net = boost::asio;
using Tcp = net::ip::tcp;

class Connection;

/// What all connections of a server share.
struct Hub {
  explicit Hub(ServerOptions given) : options(std::move(given)) {}

  const ServerOptions options;
  Server::Admit admit;
  Server::Handler handler;
  net::io_context io;

  [[nodiscard]] TlsContext tls() const;  ///< null: plain HTTP
  void set_tls(TlsContext tls);

  std::atomic<bool> draining{false};
  std::atomic<bool> stopped{false};
  std::atomic<std::uint64_t> accepted{0}, refused{0}, timed_out{0}, malformed{0};

  void add(Connection* connection);
  void remove(Connection* connection);
  std::vector<std::shared_ptr<Connection>> connections();
  std::uint64_t open() const;

  void begin_work();
  void end_work();
  bool wait_no_work(Milliseconds grace);

 private:
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_set<Connection*> connections_;
  TlsContext tls_;
  std::uint64_t work_ = 0;
};

/// Counts a request as unanswered for as long as it lives.
class Work {
 public:
  explicit Work(std::shared_ptr<Hub> hub) : hub_(std::move(hub)) { hub_->begin_work(); }
  ~Work() { hub_->end_work(); }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

 private:
  std::shared_ptr<Hub> hub_;
};

/// A callback that is called once, whoever comes first: the event or the one who wants to know.
class OnceSignal {
 public:
  void set(std::function<void()> callback);
  void fire();
  void drop();  ///< never call it, let go of what it holds
 private:
  std::mutex mutex_;
  bool fired_ = false;
  bool dropped_ = false;
  std::function<void()> callback_;
};

/// What a stream's writer and its connection share.
struct StreamState {
  std::atomic<bool> closed{false};
  std::atomic<std::size_t> unsent{0};
  OnceSignal gone;
  std::mutex mutex;
  std::function<void()> writable;  ///< under mutex
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Hub> hub, Tcp::socket socket);
  ~Connection();

  void start();
  /// Too many connections: says so, over TLS behind the handshake, and closes.
  void refuse(std::function<void()> ended);
  void cut();    ///< from any thread
  void drain();  ///< from any thread: closes when idle

  // For the exchange and stream of the current request; from any thread.
  void answer(std::uint64_t request, Response response, std::function<void(bool)> sent, std::shared_ptr<Work> work);
  std::shared_ptr<StreamState> open_stream(std::uint64_t request, unsigned status, std::vector<Header> headers,
                                           std::shared_ptr<Work> work);
  void stream_write(std::shared_ptr<StreamState> stream, std::string chunk);
  void stream_close(std::shared_ptr<StreamState> stream);
  Hub& hub() { return *hub_; }

 private:
  enum class State { handshaking, idle, head, body, handling, writing, streaming, lingering, closed };
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void begin();
  void say_full();
  void read();
  void on_read(const boost::system::error_code& error, std::size_t bytes);
  void process();
  bool parse();  ///< false: needs more bytes, or the request is over
  void on_head();
  void expect_body();
  void on_request();
  void on_parse_error(const boost::system::error_code& error);
  void refuse_request(const Problem& problem);
  void send(Response response, bool close_after);
  std::string head_of(unsigned status, const std::vector<Header>& headers, std::optional<std::size_t> length);
  void write_more();
  void on_written();
  void pump_stream();
  void linger();
  void leave();
  void close();
  void peer_gone();

  void arm(std::chrono::steady_clock::duration after);
  void disarm();
  void wait_timer();
  void on_timer();

  std::shared_ptr<Hub> hub_;
  Wire wire_;
  Tcp::socket& socket_;  ///< below wire_
  net::steady_timer timer_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::time_point::max();
  bool timer_running_ = false;

  State state_ = State::idle;
  std::string remote_;
  boost::beast::flat_buffer buffer_;
  std::string chunk_;  ///< where the pending read writes
  bool reading_ = false;
  bool eof_ = false;

  std::optional<Parser> parser_;
  Request request_;
  BodyLimit limit_;
  std::uint64_t request_number_ = 0;
  bool head_only_ = false;
  bool http10_ = false;
  bool keep_alive_ = false;
  bool counted_ = false;
  std::shared_ptr<OnceSignal> gone_;  ///< of the current exchange

  std::string out_head_, out_body_;
  std::size_t out_done_ = 0;
  std::function<void()> ended_;  ///< of a refused connection
  std::function<void(bool)> sent_;
  std::shared_ptr<Work> work_;
  std::shared_ptr<StreamState> stream_;
  std::string stream_queue_;
  bool stream_ending_ = false;
  bool stream_writing_ = false;
  std::size_t stream_writing_bytes_ = 0;
};

}  // namespace millrace::http
