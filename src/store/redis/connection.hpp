// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/backoff.hpp"
#include "io/stream.hpp"
#include "store/redis/pipeline.hpp"
#include "store/redis/resp.hpp"
#include "store/redis/server_facts.hpp"
#include "store/redis/turn_meter.hpp"
#include "store/redis/url.hpp"

namespace millrace::store::redis {

/// What a server said when it was connected to, or asked again.
struct Greeting {
  ServerFacts facts;
  std::int64_t client_id = 0;  ///< of our connection
  Timestamp time;
  Steady asked;
  Steady answered;
};

/// What the connections of a client share; lives longer than they.
struct Surroundings {
  boost::asio::io_context& loop;
  RedisUrl url;
  io::TlsContext tls;
  TurnMeter meter = {};
};

/// One connection: made again with backoff whenever it is lost, checked each time, pipelined. Everything on the loop's
/// thread; callbacks too.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Events {
    std::function<void(const Greeting&)> connected = {};              ///< and checked; requests are sent from now on
    std::function<void(const Error&, bool was_connected)> down = {};  ///< an attempt failed, or it was lost
    std::function<void(Reply)> message = {};                          ///< something nobody asked for: of a subscription
    std::function<void(Timestamp, Steady, Steady)> time = {};         ///< what it says to the TIME of a quiet moment
  };

  /// \param subscribes it will SUBSCRIBE: then a quiet moment is asked PING, and messages are told from answers
  Connection(Surroundings& around, std::string name, Events events, bool subscribes = false);

  void start();
  void push(RequestPtr request);
  void flush();  ///< sends what was pushed
  /// Connects no more, fails what was not sent.
  void stop();
  /// Fails what has no answer, too; ends everything. The events are not called any more.
  void close(const Error& why);
  void reset(const Error& why);  ///< as if it had been lost

  [[nodiscard]] bool connected() const { return state_ == State::ready; }
  [[nodiscard]] const Pipeline& pipeline() const { return pipeline_; }
  [[nodiscard]] std::uint64_t connects() const { return connects_; }
  [[nodiscard]] std::uint64_t reconnects() const { return connects_ > 0 ? connects_ - 1 : 0; }
  [[nodiscard]] const std::string& last_error() const { return last_error_; }
  [[nodiscard]] Steady since() const { return since_; }  ///< it has been connected, or not been, so long

 private:
  enum class State { waiting, connecting, greeting, ready, closed };
  /// One stream and its buffers. Whatever is pending on them keeps them, and is not for us once they are not `wire_`.
  struct Wire {
    explicit Wire(std::unique_ptr<io::Stream> made) : stream(std::move(made)) {}
    std::unique_ptr<io::Stream> stream;
    ReplyReader reader;
    std::array<char, 64UL * 1024> in{};
    Output out;
    std::size_t out_done = 0;  ///< of `out`
    bool writing = false;
  };
  using WirePtr = std::shared_ptr<Wire>;

  void try_connect();
  void greet(bool hello);
  void on_greeting();
  void become_ready(const Greeting& greeting);
  void read();
  void on_read(const boost::system::error_code& error, std::size_t size);
  void take_replies();
  void take_reply(Reply reply, Steady now);
  void write();
  void on_written(const boost::system::error_code& error, std::size_t size);
  void lose(const Error& why);
  void arm();
  void on_timer(Steady now);
  void ask_time(Steady now);
  [[nodiscard]] Error failure(std::string message, std::string native = {}) const;

  Surroundings& around_;
  std::string name_;
  Events events_;
  bool subscribes_;
  Pipeline pipeline_;
  State state_ = State::waiting;
  bool stopping_ = false;
  io::Backoff backoff_;
  std::shared_ptr<io::Connecting> attempt_;
  WirePtr wire_;

  bool said_hello_ = false;
  std::vector<Reply> greeting_;
  std::size_t greeting_size_ = 0;
  Steady began_{};  ///< the attempt
  Steady asked_{};  ///< the greeting

  Steady heard_{};
  Steady look_{};  ///< when to see whether it is quiet
  boost::asio::steady_timer retry_;
  boost::asio::steady_timer timer_;
  Steady armed_ = Steady::max();
  std::uint64_t connects_ = 0;
  Steady since_ = std::chrono::steady_clock::now();
  std::string last_error_;
};

}  // namespace millrace::store::redis
