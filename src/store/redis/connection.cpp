// SPDX-License-Identifier: Apache-2.0
#include "store/redis/connection.hpp"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/random.hpp"
#include "store/redis/clock.hpp"
#include "store/redis/errors.hpp"

namespace millrace::store::redis {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kWriteAtOnce = 64UL * 1024;      // so much of small requests is gathered
constexpr std::size_t kMostPerWrite = 256UL * 1024;    // so much of a large one is handed to the kernel in one turn
constexpr Milliseconds kQuiet{5'000};                  // then the connection is asked whether it lives
constexpr std::chrono::microseconds kLongTurn{1'000};  // then other connections have their turn
constexpr int kRepliesBetweenLooks = 32;

bool is_message(const Reply& reply) {
  return reply.kind == Reply::Kind::array && !reply.items.empty() &&
         (reply.items.front().text == "message" || reply.items.front().text == "pmessage");
}

}  // namespace

Connection::Connection(Surroundings& around, std::string name, Events events, bool subscribes)
    : around_(around),
      name_(std::move(name)),
      events_(std::move(events)),
      subscribes_(subscribes),
      pipeline_(around.url.describe(), around.url.connect_timeout, around.url.replicas),
      retry_(around.loop),
      timer_(around.loop) {}

Error Connection::failure(std::string message, std::string native) const {
  return {Errc::unavailable, "connect to", around_.url.describe(), std::move(message), std::move(native)};
}

void Connection::start() {
  try_connect();
}

void Connection::try_connect() {
  state_ = State::connecting;
  began_ = steady_clock::now();
  const auto self = shared_from_this();
  attempt_ = io::connect(around_.loop, around_.url.endpoint, around_.tls, around_.url.connect_timeout,
                         [self](std::unique_ptr<io::Stream> stream, const Error* error) {
                           const TurnMeter::Turn turn(self->around_.meter);
                           if (self->state_ != State::connecting) return;
                           if (error != nullptr) return self->lose(*error);
                           self->wire_ = std::make_shared<Wire>(std::move(stream));
                           self->greet(true);
                           self->read();
                         });
}

// ---- the greeting ---------------------------------------------------------------------------------------------------

/// HELLO says who we are in one step; a server whose administrator renamed it is asked piece by piece.
void Connection::greet(bool hello) {
  const RedisUrl& url = around_.url;
  state_ = State::greeting;
  said_hello_ = hello;
  std::vector<std::vector<std::string>> commands;
  const bool secret = !url.user.empty() || !url.password.empty();
  if (hello) {
    std::vector<std::string> command = {"HELLO", "2"};
    if (secret) command.insert(command.end(), {"AUTH", url.user.empty() ? "default" : url.user, url.password});
    command.insert(command.end(), {"SETNAME", name_});
    commands.push_back(std::move(command));
  } else {
    if (secret) {
      commands.push_back(url.user.empty() ? std::vector<std::string>{"AUTH", url.password}
                                          : std::vector<std::string>{"AUTH", url.user, url.password});
    }
    commands.push_back({"CLIENT", "SETNAME", name_});
  }
  commands.push_back({"SELECT", std::to_string(url.database)});
  commands.push_back({"CLIENT", "ID"});
  commands.push_back({"INFO"});
  commands.push_back(config_question());
  commands.push_back({"TIME"});

  greeting_.clear();
  greeting_size_ = commands.size();
  asked_ = steady_clock::now();
  for (const std::vector<std::string>& command : commands) format_command(command, wire_->out.gathered);
  write();
  arm();
}

void Connection::on_greeting() {
  const Steady now = steady_clock::now();
  const std::string server = around_.url.describe();
  std::vector<Reply> replies = std::exchange(greeting_, {});
  const std::size_t last = replies.size() - 1;  // TIME; before it CONFIG, INFO, CLIENT ID, SELECT
  if (said_hello_ && errc_of(replies.front().text) == Errc::unsupported_version && replies.front().is_error()) {
    return greet(false);
  }
  const auto refused = [&replies](std::size_t i) { return replies[i].is_error(); };
  for (std::size_t i = 0; i < last - 4; ++i) {  // who we are
    if (refused(i)) return lose(to_error(replies[i].text, "connect to", server));
  }
  Greeting greeting;
  greeting.facts = read_facts(said_hello_ ? replies.data() : nullptr, replies[last - 2], replies[last - 1]);
  if (const std::optional<Error> unfit = why_unfit(greeting.facts, around_.url)) return lose(*unfit);
  if (refused(last - 4)) return lose(to_error(replies[last - 4].text, "select the database", server));
  const std::optional<Timestamp> time = time_of(replies[last]);
  if (!time) return lose(to_error(replies[last].text, "ask for the time", server));
  greeting.time = *time;
  greeting.asked = asked_;
  greeting.answered = now;
  greeting.client_id = replies[last - 3].integer;
  become_ready(greeting);
}

void Connection::become_ready(const Greeting& greeting) {
  state_ = State::ready;
  attempt_.reset();
  backoff_.reset();
  ++connects_;
  last_error_.clear();
  since_ = steady_clock::now();
  look_ = since_ + kQuiet;
  pipeline_.on_connected();
  if (events_.connected) events_.connected(greeting);
  flush();
}

// ---- reading and writing --------------------------------------------------------------------------------------------

void Connection::read() {
  const auto self = shared_from_this();
  const WirePtr wire = wire_;
  wire->stream->read_some(boost::asio::buffer(wire->in),
                          [self, wire](const boost::system::error_code& error, std::size_t size) {
                            const TurnMeter::Turn turn(self->around_.meter);
                            if (wire == self->wire_) self->on_read(error, size);
                          });
}

void Connection::on_read(const boost::system::error_code& error, std::size_t size) {
  if (error) return lose(failure("the server closed the connection", error.message()));
  heard_ = steady_clock::now();
  pipeline_.on_bytes(heard_);
  wire_->reader.feed({wire_->in.data(), size});
  take_replies();
}

void Connection::take_replies() {
  const WirePtr wire = wire_;
  const Steady began = steady_clock::now();
  try {
    for (int count = 1;; ++count) {
      std::optional<Reply> reply = wire->reader.next();
      if (!reply) break;
      take_reply(std::move(*reply), began);
      if (wire != wire_) return;
      if (count % kRepliesBetweenLooks == 0 && steady_clock::now() - began > kLongTurn) {
        boost::asio::post(around_.loop, [self = shared_from_this(), wire] {
          const TurnMeter::Turn turn(self->around_.meter);
          if (wire == self->wire_) self->take_replies();
        });
        return;
      }
    }
  } catch (const Error& error) {
    if (wire == wire_) lose(failure(error.message(), error.native()));
    return;
  }
  write();  // scripts that have to be sent once more
  read();
}

void Connection::take_reply(Reply reply, Steady now) {
  if (state_ == State::greeting) {
    greeting_.push_back(std::move(reply));
    // A server that does not want us says so instead of answering, and hangs up.
    const bool turned_away = greeting_.size() == 1 && greeting_.front().is_error() &&
                             errc_of(greeting_.front().text) != Errc::unsupported_version;
    if (turned_away) return lose(to_error(greeting_.front().text, "connect to", around_.url.describe()));
    if (greeting_.size() == greeting_size_) on_greeting();
    return;
  }
  if (subscribes_ && is_message(reply)) {
    if (events_.message) events_.message(std::move(reply));
    return;
  }
  pipeline_.on_reply(std::move(reply), now);
}

void Connection::write() {
  if (!wire_ || wire_->writing) return;
  const WirePtr wire = wire_;
  if (wire->out_done == wire->out.view().size()) {
    wire->out = {};
    wire->out_done = 0;
    if (state_ == State::ready) wire->out = pipeline_.take_output(kWriteAtOnce, steady_clock::now());
    if (wire->out.view().empty()) return;
  }
  wire->writing = true;
  const auto self = shared_from_this();
  const std::string_view next = wire->out.view().substr(wire->out_done, kMostPerWrite);
  wire->stream->write_some(boost::asio::buffer(next.data(), next.size()),
                           [self, wire](const boost::system::error_code& error, std::size_t written) {
                             const TurnMeter::Turn turn(self->around_.meter);
                             if (wire == self->wire_) self->on_written(error, written);
                           });
}

void Connection::on_written(const boost::system::error_code& error, std::size_t size) {
  wire_->writing = false;
  // What the server said before it hung up is still to be read; the read ends with an error, too.
  if (error) return;
  wire_->out_done += size;
  write();
}

void Connection::push(RequestPtr request) {
  pipeline_.push(std::move(request));
}

void Connection::flush() {
  write();
  arm();
}

// ---- the end of a connection ----------------------------------------------------------------------------------------

void Connection::lose(const Error& why) {
  if (state_ == State::closed) return;
  const bool was_connected = state_ == State::ready;
  state_ = State::waiting;
  last_error_ = why.what();
  if (was_connected) since_ = steady_clock::now();
  attempt_.reset();
  if (wire_) wire_->stream->close();
  wire_.reset();
  pipeline_.on_down(why, steady_clock::now());
  if (events_.down) events_.down(why, was_connected);
  if (state_ == State::closed) return;
  if (stopping_) return close(why);
  retry_.expires_after(backoff_.next(random_unit()));
  retry_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && self->state_ == State::waiting) self->try_connect();
  });
  arm();
}

void Connection::reset(const Error& why) {
  if (state_ == State::ready) lose(why);
}

void Connection::stop() {
  stopping_ = true;
  const Error stopped(Errc::stopped, "", "", "the store was closed");
  pipeline_.fail_unsent(stopped);
  if (state_ != State::ready) close(stopped);
}

void Connection::close(const Error& why) {
  if (state_ == State::closed) return;
  state_ = State::closed;
  if (attempt_) attempt_->cancel();
  if (wire_) wire_->stream->close();
  wire_.reset();
  retry_.cancel();
  timer_.cancel();
  pipeline_.on_down(why, steady_clock::now());
  pipeline_.fail_lost();
  pipeline_.fail_unsent(Error(Errc::stopped, "", "", "the store was closed"));
  attempt_.reset();
  events_ = {};
}

// ---- time -----------------------------------------------------------------------------------------------------------

void Connection::arm() {
  if (state_ == State::closed) return;
  Steady next = pipeline_.next_deadline().value_or(Steady::max());
  if (state_ == State::ready) next = std::min(next, look_);
  if (state_ == State::greeting) next = std::min(next, began_ + around_.url.connect_timeout);
  if (next >= armed_) return;
  armed_ = next;
  timer_.expires_at(next);
  timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (error) return;
    const TurnMeter::Turn turn(self->around_.meter);
    self->armed_ = Steady::max();
    self->on_timer(steady_clock::now());
    self->arm();
  });
}

void Connection::on_timer(Steady now) {
  if (state_ == State::closed) return;
  if (state_ == State::greeting && began_ + around_.url.connect_timeout <= now) {
    return lose(failure("timed out: the server did not answer our greeting for " +
                        std::to_string(around_.url.connect_timeout.count()) + " ms"));
  }
  if (pipeline_.on_time(now) && state_ == State::ready) {
    return lose(failure("the server has stopped answering"));
  }
  write();  // it may have waited until all who lost something had heard of it
  if (state_ == State::ready && look_ <= now) {
    look_ = now + kQuiet;
    if (heard_ + kQuiet <= now + Milliseconds(100) && pipeline_.in_flight() == 0 && !stopping_) ask_time(now);
  }
}

void Connection::ask_time(Steady now) {
  auto request = std::make_unique<Request>();
  format_command(std::vector<std::string>{subscribes_ ? "PING" : "TIME"}, request->bytes);
  request->operation = "ask for the time";
  request->writes = false;
  request->lost = true;  // later it is of no use
  request->patience = around_.url.timeout;
  request->queued_at = now;
  request->done = [this, now](const std::variant<std::vector<Reply>, Error>& outcome) {
    const auto* replies = std::get_if<std::vector<Reply>>(&outcome);
    if (replies == nullptr || !events_.time) return;
    if (const std::optional<Timestamp> time = time_of(replies->front())) events_.time(*time, now, steady_clock::now());
  };
  push(std::move(request));
  flush();
}

}  // namespace millrace::store::redis
