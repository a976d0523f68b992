// SPDX-License-Identifier: Apache-2.0
#include "http/connection.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace millrace::http {

namespace beast = boost::beast;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t kReadAhead = 64 << 10;
constexpr std::chrono::seconds kRefusalPatience{2};  ///< for the handshake of who is refused behind it

}  // namespace

Connection::Connection(std::shared_ptr<Hub> hub, Tcp::socket socket)
    : hub_(std::move(hub)),
      wire_(std::move(socket), hub_->tls()),
      socket_(wire_.socket()),
      timer_(socket_.get_executor()) {
  error_code ignored;  // the peer may be gone already; then the address stays unknown and the first read says so
  const Tcp::endpoint peer = socket_.remote_endpoint(ignored);
  if (!ignored) remote_ = peer.address().to_string() + ":" + std::to_string(peer.port());
  socket_.set_option(Tcp::no_delay(true), ignored);
}

Connection::~Connection() {
  if (counted_) hub_->remove(this);
}

void Connection::start() {
  hub_->add(this);
  counted_ = true;
  net::dispatch(socket_.get_executor(), [self = shared_from_this()] {
    if (self->hub_->draining) return self->close();
    self->arm(self->hub_->options.request_timeout);
    self->begin();
  });
}

void Connection::begin() {
  if (!wire_.secure()) return read();
  state_ = State::handshaking;
  wire_.handshake([self = shared_from_this()](const error_code& error) {
    if (self->state_ == State::closed) return;
    if (!error && self->ended_) return self->say_full();
    if (!error) {
      self->state_ = State::idle;
      self->arm(self->hub_->options.request_timeout);
      return self->read();
    }
    if (error != net::error::eof && error != net::ssl::error::stream_truncated) ++self->hub_->malformed;
    if (!was_plain_http(error)) return self->close();
    self->wire_.speak_plain();
    self->refuse_request({400, "invalid_argument", "this port speaks TLS: ask with https://"});
  });
}

void Connection::refuse(std::function<void()> ended) {
  net::dispatch(socket_.get_executor(), [self = shared_from_this(), ended = std::move(ended)]() mutable {
    self->ended_ = std::move(ended);
    if (!self->wire_.secure()) return self->say_full();
    self->arm(std::min<Clock::duration>(self->hub_->options.request_timeout, kRefusalPatience));
    self->begin();
  });
}

void Connection::say_full() {
  refuse_request({503, "busy",
                  "the server has reached server.max_connections (" + std::to_string(hub_->options.max_connections) +
                      "); try again later",
                  true});
}

void Connection::cut() {
  net::post(socket_.get_executor(), [self = shared_from_this()] { self->close(); });
}

void Connection::drain() {
  net::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->state_ == State::handshaking) self->close();
    if (self->state_ == State::idle) self->leave();
  });
}

void Connection::read() {
  if (reading_ || eof_ || state_ == State::closed) return;
  const bool waiting = state_ == State::handling || state_ == State::writing || state_ == State::streaming;
  if (waiting && buffer_.size() >= kReadAhead) return;
  reading_ = true;
  chunk_.resize(state_ == State::body ? kReadAhead : std::size_t{4} << 10);
  wire_.read_some(net::buffer(chunk_), [self = shared_from_this()](const error_code& error, std::size_t bytes) {
    self->on_read(error, bytes);
  });
}

void Connection::on_read(const error_code& error, std::size_t bytes) {
  reading_ = false;
  if (state_ == State::closed) return;
  if (error) {
    if (state_ == State::lingering && wire_.secure() && socket_.is_open()) {
      wire_.speak_plain();  // close_notify is sent: what still comes is thrown away, whatever it says
      return read();
    }
    eof_ = true;
    peer_gone();
    return;
  }
  if (state_ != State::lingering) {
    buffer_.commit(net::buffer_copy(buffer_.prepare(bytes), net::buffer(chunk_, bytes)));
    process();
  }
  read();
}

/// While a request is worked on, its answer will still be tried: it may be a half-close.
void Connection::peer_gone() {
  switch (state_) {
    case State::handling:
      if (gone_) gone_->fire();
      break;
    case State::writing:
      break;
    default:
      close();
  }
}

void Connection::process() {
  while (parse()) {
  }
}

bool Connection::parse() {
  if (state_ == State::idle) {
    // A server should ignore an empty line before the request line (RFC 9112 §2.2).
    while (buffer_.size() > 0) {
      const char c = *static_cast<const char*>(buffer_.data().data());
      if (c != '\r' && c != '\n') break;
      buffer_.consume(1);
    }
    if (buffer_.size() == 0) return false;
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(hub_->options.max_header_bytes));
    parser_->body_limit(boost::none);
    state_ = State::head;
    arm(hub_->options.request_timeout);
  }
  if (state_ != State::head && state_ != State::body) return false;
  if (buffer_.size() == 0) return false;

  error_code error;
  const std::size_t used = parser_->put(buffer_.data(), error);
  buffer_.consume(used);
  if (error == beast::http::error::need_more) return false;
  if (error) {
    on_parse_error(error);
    return false;
  }
  if (state_ == State::head && parser_->is_header_done()) on_head();
  if (state_ == State::body && parser_->is_done()) {
    on_request();
    return false;
  }
  return state_ == State::head || state_ == State::body;
}

void Connection::on_parse_error(const error_code& error) {
  ++hub_->malformed;
  using Reason = beast::http::error;
  if (error == Reason::header_limit) {
    refuse_request({431, "too_large",
                    "the request head exceeds server.max_header_bytes (" +
                        std::to_string(hub_->options.max_header_bytes) + " bytes)"});
  } else if (error == Reason::body_limit) {
    refuse_request(
        {413,
         "too_large",
         "the request body exceeds server." + limit_.setting + " (" + std::to_string(limit_.bytes) + " bytes)",
         false,
         limit_.setting,
         {},
         ",\"limit\":" + std::to_string(limit_.bytes)});
  } else if (error == Reason::bad_version) {
    refuse_request({505, "invalid_argument", "only HTTP/1.0 and HTTP/1.1 are spoken here"});
  } else {
    refuse_request({400, "invalid_argument", "not an HTTP request: " + error.message()});
  }
}

namespace {

/// What makes it doubtful what a request is or where it ends: another server on its way might read it differently.
std::optional<Problem> framing_problem(const Request& request, bool http10) {
  const auto refuse = [](unsigned status, std::string detail) {
    return Problem{status, "invalid_argument", std::move(detail)};
  };
  const auto hosts = std::count_if(request.headers.begin(), request.headers.end(),
                                   [](const Header& header) { return iequals(header.first, "Host"); });
  if (!http10 && hosts != 1) return refuse(400, "an HTTP/1.1 request needs exactly one Host header");
  if (const std::string* coding = request.header("Transfer-Encoding")) {
    if (http10) return refuse(400, "an HTTP/1.0 request has no Transfer-Encoding");  // RFC 9112 §6.1
    // The parser is content when chunked is the last of several; the others would stay on the body.
    if (!iequals(*coding, "chunked")) return refuse(501, "the only Transfer-Encoding understood is chunked");
  }
  const std::string* expect = request.header("Expect");
  if (expect != nullptr && !iequals(*expect, "100-continue")) {
    return refuse(417, "the only expectation understood is 100-continue");
  }
  return std::nullopt;
}

/// \throws Error{invalid_argument} for broken percent-encoding
void read_target(std::string_view target, Request& request) {
  const std::size_t scheme = target.find("://");
  if (!target.starts_with('/') && scheme != std::string_view::npos) {  // absolute form, RFC 9112 §3.2.2
    const std::size_t path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? std::string_view("/") : target.substr(path);
  }
  const std::size_t question = target.find('?');
  request.path = std::string(target.substr(0, question));
  if (question != std::string_view::npos) request.query = parse_query(target.substr(question + 1));
}

}  // namespace

void Connection::on_head() {
  const auto& message = parser_->get();
  request_ = {};
  limit_ = {};
  http10_ = message.version() < 11;
  keep_alive_ = parser_->keep_alive();
  head_only_ = message.method() == beast::http::verb::head;
  request_.method = std::string(message.method_string());
  request_.remote = remote_;
  for (const auto& field : message)
    request_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  if (const auto problem = framing_problem(request_, http10_)) {
    ++hub_->malformed;
    return refuse_request(*problem);
  }

  try {
    read_target(std::string_view(message.target().data(), message.target().size()), request_);
    Admission admission = hub_->admit(request_);
    if (Response* refusal = std::get_if<Response>(&admission)) {
      const bool has_body = !parser_->is_done();
      state_ = State::handling;
      return send(std::move(*refusal), has_body);
    }
    limit_ = std::get<BodyLimit>(std::move(admission));
  } catch (const Error& error) {
    return refuse_request(problem_of(error));
  } catch (const std::exception& error) {
    return refuse_request({500, "internal", error.what()});
  }
  expect_body();
}

void Connection::expect_body() {
  const auto length = parser_->content_length();
  if (length && *length > limit_.bytes) return on_parse_error(beast::http::error::body_limit);
  state_ = State::body;
  if (parser_->is_done()) return;
  parser_->body_limit(limit_.bytes);
  if (request_.header("Expect") != nullptr && !http10_ && buffer_.size() == 0) {
    // Small enough for any socket buffer that is empty, and this one is: nothing was sent since the last answer.
    error_code failed;
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    wire_.write_now(net::buffer(kContinue), failed);
    if (failed) close();
  }
}

void Connection::refuse_request(const Problem& problem) {
  state_ = State::handling;
  send(to_response(problem), true);
}

namespace {

class LiveStream : public Stream {
 public:
  LiveStream(std::shared_ptr<Connection> connection, std::shared_ptr<StreamState> state)
      : connection_(std::move(connection)), state_(std::move(state)) {}
  ~LiveStream() override { close(); }

  bool write(std::string chunk) override {
    if (state_->closed) return false;
    if (chunk.empty()) return true;
    state_->unsent += chunk.size();
    connection_->stream_write(state_, std::move(chunk));
    return true;
  }
  bool writable() const override {
    return !state_->closed && state_->unsent < connection_->hub().options.stream_buffer;
  }
  void on_writable(std::function<void()> callback) override {
    const std::lock_guard lock(state_->mutex);
    state_->writable = std::move(callback);
  }
  void on_closed(std::function<void()> callback) override { state_->gone.set(std::move(callback)); }
  void close() override {
    state_->gone.drop();
    if (!state_->closed.exchange(true)) connection_->stream_close(state_);
  }

 private:
  std::shared_ptr<Connection> connection_;
  std::shared_ptr<StreamState> state_;
};

class LiveExchange : public Exchange {
 public:
  LiveExchange(std::shared_ptr<Connection> connection, std::uint64_t request, std::shared_ptr<OnceSignal> gone,
               std::shared_ptr<Work> work)
      : connection_(std::move(connection)), request_(request), gone_(std::move(gone)), work_(std::move(work)) {}
  ~LiveExchange() override {
    if (!answered_) respond(to_response({500, "internal", "the request was dropped without an answer"}), {});
  }

  void respond(Response response, std::function<void(bool)> sent) override {
    if (answered_.exchange(true)) {
      if (sent) sent(false);
      return;
    }
    gone_->drop();
    connection_->answer(request_, std::move(response), std::move(sent), std::exchange(work_, nullptr));
  }
  std::shared_ptr<Stream> start_stream(unsigned status, std::vector<Header> headers) override {
    if (answered_.exchange(true)) return nullptr;
    gone_->drop();
    auto state = connection_->open_stream(request_, status, std::move(headers), std::exchange(work_, nullptr));
    return std::make_shared<LiveStream>(connection_, std::move(state));
  }
  void on_closed(std::function<void()> callback) override { gone_->set(std::move(callback)); }

 private:
  std::shared_ptr<Connection> connection_;
  std::uint64_t request_;
  std::shared_ptr<OnceSignal> gone_;
  std::shared_ptr<Work> work_;
  std::atomic<bool> answered_{false};
};

}  // namespace

void Connection::on_request() {
  state_ = State::handling;
  disarm();
  request_.body = std::move(parser_->get().body());
  gone_ = std::make_shared<OnceSignal>();
  if (eof_) gone_->fire();
  auto exchange =
      std::make_shared<LiveExchange>(shared_from_this(), ++request_number_, gone_, std::make_shared<Work>(hub_));
  try {
    hub_->handler(std::move(request_), exchange);
  } catch (const Error& error) {
    exchange->respond(to_response(problem_of(error)), {});
  } catch (const std::exception& error) {
    exchange->respond(to_response({500, "internal", error.what()}), {});
  }
}

/// The timer runs on while deadlines move away, so that a busy connection does not touch it per request.
void Connection::arm(Clock::duration after) {
  deadline_ = Clock::now() + after;
  if (timer_running_ && timer_.expiry() <= deadline_) return;
  wait_timer();
}

void Connection::disarm() {
  deadline_ = Clock::time_point::max();
}

void Connection::wait_timer() {
  timer_running_ = true;
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (error || self->state_ == State::closed) return;
    self->timer_running_ = false;
    if (self->deadline_ == Clock::time_point::max()) return;
    if (Clock::now() < self->deadline_) return self->wait_timer();
    self->on_timer();
  });
}

void Connection::on_timer() {
  if (state_ == State::head || state_ == State::body) {
    ++hub_->timed_out;
    refuse_request({408, "timed_out",
                    "the request was not complete within server.request_timeout (" +
                        std::to_string(hub_->options.request_timeout.count()) + " ms)",
                    true});
    return;
  }
  if (state_ == State::idle) return leave();
  if (state_ == State::handshaking || state_ == State::writing || state_ == State::streaming) ++hub_->timed_out;
  close();
}

}  // namespace millrace::http
