// SPDX-License-Identifier: Apache-2.0
#include "http/connection.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <utility>

namespace millrace::http {

using boost::system::error_code;

namespace {

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
  wire_.write_some(buffers, [self = shared_from_this()](const error_code& error, std::size_t bytes) {
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

/// Closing a socket with unread bytes resets it, and the reset can overtake the answer: read on for a moment.
void Connection::linger() {
  state_ = State::lingering;
  buffer_.clear();
  arm(kLinger);
  const auto end_sending = [self = shared_from_this()](const error_code&) {
    if (self->state_ == State::closed) return;
    error_code ignored;  // not connected any more: the read says so
    self->socket_.shutdown(Tcp::socket::shutdown_send, ignored);
    if (self->eof_) self->close();
  };
  if (!wire_.secure()) {
    end_sending({});
  } else {
    wire_.say_end(end_sending);
  }
  read();
}

/// Ends an idle connection: over TLS not without saying so.
void Connection::leave() {
  if (wire_.secure() && !eof_) {
    linger();
  } else {
    close();
  }
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

}  // namespace millrace::http
