// SPDX-License-Identifier: Apache-2.0
#include "http/connection.hpp"

#include <array>
#include <ctime>
#include <utility>

namespace millrace::http {

namespace beast = boost::beast;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t kReadAhead = 64 << 10;
constexpr std::chrono::seconds kLinger{2};

/// IMF-fixdate (RFC 9110 §5.6.7), made once a second.
const std::string& date_header() {
  thread_local std::time_t made_at = 0;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now != made_at || text.empty()) {
    made_at = now;
    std::tm utc{};
    gmtime_r(&now, &utc);
    std::array<char, 64> buffer{};
    std::strftime(buffer.data(), buffer.size(), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
    text = buffer.data();
  }
  return text;
}

}  // namespace

void Hub::add(Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.insert(connection);
}

void Hub::remove(Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.erase(connection);
}

std::vector<std::shared_ptr<Connection>> Hub::connections() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Connection>> out;
  for (Connection* connection : connections_) {
    if (auto alive = connection->weak_from_this().lock()) out.push_back(std::move(alive));
  }
  return out;
}

std::uint64_t Hub::open() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

void Hub::begin_work() {
  const std::lock_guard lock(mutex_);
  ++work_;
}

void Hub::end_work() {
  const std::lock_guard lock(mutex_);
  if (--work_ == 0) idle_.notify_all();
}

bool Hub::wait_no_work(Milliseconds grace) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, grace, [this] { return work_ == 0; });
}

void OnceSignal::set(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (dropped_) return;
    if (!fired_) {
      callback_ = std::move(callback);
      return;
    }
  }
  callback();
}

void OnceSignal::fire() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    if (fired_ || dropped_) return;
    fired_ = true;
    callback = std::exchange(callback_, nullptr);
  }
  if (callback) callback();
}

void OnceSignal::drop() {
  std::function<void()> callback;  // destroyed outside the lock: it may own what calls back here
  const std::lock_guard lock(mutex_);
  dropped_ = true;
  callback.swap(callback_);
}

Connection::Connection(std::shared_ptr<Hub> hub, Tcp::socket socket)
    : hub_(std::move(hub)), socket_(std::move(socket)), timer_(socket_.get_executor()) {
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
    self->read();
  });
}

void Connection::refuse(std::function<void()> ended) {
  net::dispatch(socket_.get_executor(), [self = shared_from_this(), ended = std::move(ended)]() mutable {
    self->ended_ = std::move(ended);
    self->state_ = State::handling;
    self->send(to_response({503, "busy",
                            "the server has reached server.max_connections (" +
                                std::to_string(self->hub_->options.max_connections) + "); try again later",
                            true}),
               true);
  });
}

void Connection::cut() {
  net::post(socket_.get_executor(), [self = shared_from_this()] { self->close(); });
}

void Connection::drain() {
  net::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->state_ == State::idle) self->close();
  });
}

// --- reading ---------------------------------------------------------------------------------------------------------

void Connection::read() {
  if (reading_ || eof_ || state_ == State::closed) return;
  const bool waiting = state_ == State::handling || state_ == State::writing || state_ == State::streaming;
  if (waiting && buffer_.size() >= kReadAhead) return;
  reading_ = true;
  chunk_.resize(state_ == State::body ? kReadAhead : std::size_t{4} << 10);
  socket_.async_read_some(net::buffer(chunk_), [self = shared_from_this()](const error_code& error, std::size_t bytes) {
    self->on_read(error, bytes);
  });
}

void Connection::on_read(const error_code& error, std::size_t bytes) {
  reading_ = false;
  if (state_ == State::closed) return;
  if (error) {
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

  const auto refuse_as = [this](unsigned status, std::string detail) {
    ++hub_->malformed;
    refuse_request({status, "invalid_argument", std::move(detail)});
  };
  if (!http10_ && message.count(beast::http::field::host) != 1) {
    return refuse_as(400, "an HTTP/1.1 request needs exactly one Host header");
  }
  if (message.count(beast::http::field::transfer_encoding) > 0 && !parser_->chunked()) {
    return refuse_as(501, "the only Transfer-Encoding understood is chunked");
  }
  const std::string* expect = request_.header("Expect");
  if (expect != nullptr && !iequals(*expect, "100-continue")) {
    return refuse_as(417, "the only expectation understood is 100-continue");
  }

  try {
    std::string_view target(message.target().data(), message.target().size());
    const std::size_t scheme = target.find("://");
    if (!target.starts_with('/') && scheme != std::string_view::npos) {  // absolute form, RFC 9112 §3.2.2
      const std::size_t path = target.find('/', scheme + 3);
      target = path == std::string_view::npos ? std::string_view("/") : target.substr(path);
    }
    const std::size_t question = target.find('?');
    request_.path = std::string(target.substr(0, question));
    if (question != std::string_view::npos) request_.query = parse_query(target.substr(question + 1));
    Admission admission = hub_->admit(request_);
    if (Response* refusal = std::get_if<Response>(&admission)) {
      const bool has_body = !parser_->is_done();
      state_ = State::handling;
      send(std::move(*refusal), has_body);
      return;
    }
    limit_ = std::get<BodyLimit>(std::move(admission));
  } catch (const Error& error) {
    refuse_request(problem_of(error));
    return;
  } catch (const std::exception& error) {
    refuse_request({500, "internal", error.what()});
    return;
  }
  const auto length = parser_->content_length();
  if (length && *length > limit_.bytes) return on_parse_error(beast::http::error::body_limit);
  state_ = State::body;
  if (parser_->is_done()) return;
  parser_->body_limit(limit_.bytes);
  if (expect != nullptr && !http10_ && buffer_.size() == 0) {
    // Small enough for any socket buffer that is empty, and this one is: nothing was sent since the last answer.
    error_code failed;
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    net::write(socket_, net::buffer(kContinue), failed);
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

// --- answering -------------------------------------------------------------------------------------------------------

void Connection::answer(std::uint64_t request, Response response, std::function<void(bool)> sent,
                        std::shared_ptr<Work> work) {
  if (hub_->stopped) {
    if (sent) sent(false);
    return;
  }
  net::post(socket_.get_executor(), [self = shared_from_this(), request, response = std::move(response),
                                     sent = std::move(sent), work = std::move(work)]() mutable {
    const bool pointless = self->state_ != State::handling || self->request_number_ != request;
    // An answer whose fate matters is not thrown at a client that was seen to hang up: the kernel would take it gladly.
    if (pointless || (sent && self->eof_)) {
      if (!pointless) self->close();
      if (sent) sent(false);
      return;
    }
    self->sent_ = std::move(sent);
    self->work_ = std::move(work);
    self->send(std::move(response), false);
  });
}

std::string Connection::head_of(unsigned status, const std::vector<Header>& headers,
                                std::optional<std::size_t> length) {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " ";
  head += reason_phrase(status);
  head += "\r\n";
  for (const Header& header : headers) {
    head += header.first;
    head += ": ";
    head += header.second;
    head += "\r\n";
  }
  if (length && status != 204) head += "Content-Length: " + std::to_string(*length) + "\r\n";
  if (!length && !http10_) head += "Transfer-Encoding: chunked\r\n";
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (http10_) {
    head += "Connection: keep-alive\r\n";
  }
  head += date_header();
  head += "\r\n";
  return head;
}

void Connection::send(Response response, bool close_after) {
  if (close_after || hub_->draining) keep_alive_ = false;
  state_ = State::writing;
  out_head_ = head_of(response.status, response.headers, response.body.size());
  out_body_ = head_only_ ? std::string() : std::move(response.body);
  out_done_ = 0;
  write_more();
}

void Connection::write_more() {
  std::array<net::const_buffer, 2> buffers{};
  const std::size_t in_head = std::min(out_done_, out_head_.size());
  buffers[0] = net::buffer(out_head_) + in_head;
  buffers[1] = net::buffer(out_body_) + (out_done_ - in_head);
  arm(hub_->options.request_timeout);
  socket_.async_write_some(buffers, [self = shared_from_this()](const error_code& error, std::size_t bytes) {
    if (self->state_ == State::closed) return;
    if (error) return self->close();
    self->out_done_ += bytes;
    if (self->out_done_ < self->out_head_.size() + self->out_body_.size()) return self->write_more();
    self->on_written();
  });
}

void Connection::on_written() {
  if (state_ == State::streaming) {
    stream_writing_ = false;
    return pump_stream();
  }
  if (auto sent = std::exchange(sent_, nullptr)) sent(true);
  work_.reset();
  out_head_.clear();
  out_body_ = {};
  gone_.reset();
  if (!keep_alive_ || hub_->draining) return linger();
  state_ = State::idle;
  arm(hub_->options.request_timeout);
  process();
  if (eof_ && (state_ == State::idle || state_ == State::head || state_ == State::body)) return close();
  read();
}

std::shared_ptr<StreamState> Connection::open_stream(std::uint64_t request, unsigned status,
                                                     std::vector<Header> headers, std::shared_ptr<Work> work) {
  auto stream = std::make_shared<StreamState>();
  const auto gone = [stream] {
    stream->closed = true;
    stream->gone.fire();
  };
  if (hub_->stopped) {
    gone();
    return stream;
  }
  net::post(socket_.get_executor(), [self = shared_from_this(), stream, request, status, gone,
                                     headers = std::move(headers), work = std::move(work)]() mutable {
    if (self->state_ != State::handling || self->request_number_ != request || self->eof_) {
      if (self->state_ == State::handling && self->request_number_ == request) self->close();
      return gone();
    }
    if (self->hub_->draining) self->keep_alive_ = false;
    if (self->http10_) self->keep_alive_ = false;
    self->work_ = std::move(work);
    self->state_ = State::streaming;
    self->stream_ = stream;
    self->stream_queue_.clear();
    self->stream_ending_ = self->head_only_;
    self->out_head_ = self->head_of(status, headers, std::nullopt);
    self->out_body_.clear();
    self->out_done_ = 0;
    self->stream_writing_ = true;
    self->write_more();
  });
  return stream;
}

void Connection::stream_write(std::shared_ptr<StreamState> stream, std::string chunk) {
  if (hub_->stopped) return;
  net::post(socket_.get_executor(), [self = shared_from_this(), stream = std::move(stream), chunk = std::move(chunk)] {
    if (self->stream_ != stream || self->stream_ending_) return;
    self->stream_queue_ += chunk;
    self->pump_stream();
  });
}

void Connection::stream_close(std::shared_ptr<StreamState> stream) {
  if (hub_->stopped) return;
  net::post(socket_.get_executor(), [self = shared_from_this(), stream = std::move(stream)] {
    if (self->stream_ != stream) return;
    self->stream_ending_ = true;
    self->pump_stream();
  });
}

void Connection::pump_stream() {
  if (stream_writing_) return;
  if (const std::size_t sent = std::exchange(stream_writing_bytes_, 0); sent > 0) {
    const std::size_t had = stream_->unsent.fetch_sub(sent);
    const std::size_t limit = hub_->options.stream_buffer;
    std::function<void()> writable;
    if (had >= limit && had - sent < limit) {
      const std::lock_guard lock(stream_->mutex);
      writable = stream_->writable;
    }
    if (writable) writable();
  }
  out_head_.clear();
  out_body_.clear();
  out_done_ = 0;
  if (!stream_queue_.empty() && !head_only_) {
    stream_writing_bytes_ = stream_queue_.size();
    if (http10_) {
      out_body_ = std::exchange(stream_queue_, {});
    } else {
      std::array<char, 32> size{};
      std::snprintf(size.data(), size.size(), "%zx\r\n", stream_queue_.size());
      out_head_ = size.data();
      out_body_ = std::exchange(stream_queue_, {});
      out_body_ += "\r\n";
    }
    stream_writing_ = true;
    return write_more();
  }
  if (stream_ending_) {
    auto stream = std::exchange(stream_, nullptr);
    stream->closed = true;
    stream->gone.fire();
    state_ = State::writing;
    if (!http10_ && !head_only_) out_head_ = "0\r\n\r\n";
    if (out_head_.empty()) return on_written();
    return write_more();
  }
  disarm();
}

// --- ending ----------------------------------------------------------------------------------------------------------

/// Closing a socket with unread bytes resets it, and the reset can overtake the answer: read on for a moment.
void Connection::linger() {
  error_code ignored;  // not connected any more: the read says so
  socket_.shutdown(Tcp::socket::shutdown_send, ignored);
  if (eof_) return close();
  state_ = State::lingering;
  buffer_.clear();
  arm(kLinger);
  read();
}

void Connection::close() {
  if (state_ == State::closed) return;
  const State was = std::exchange(state_, State::closed);
  error_code ignored;  // whatever it says, the descriptor is released
  socket_.close(ignored);
  timer_.cancel();
  if (was == State::handling && gone_) gone_->fire();
  if (auto stream = std::exchange(stream_, nullptr)) {
    stream->closed = true;
    stream->gone.fire();
  }
  if (auto sent = std::exchange(sent_, nullptr)) sent(false);
  work_.reset();
  gone_.reset();
  if (std::exchange(counted_, false)) hub_->remove(this);
  if (auto ended = std::exchange(ended_, nullptr)) ended();
}

// --- time ------------------------------------------------------------------------------------------------------------

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
  if (state_ == State::writing || state_ == State::streaming) ++hub_->timed_out;
  close();
}

}  // namespace millrace::http
