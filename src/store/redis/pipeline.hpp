// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What is sent on one connection, and whose the answers are. Pure: no clock, no I/O; tested by exact sequences.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "millrace/error.hpp"
#include "millrace/types.hpp"
#include "store/redis/reply.hpp"
#include "store/redis/script.hpp"

namespace millrace::store::redis {

using Steady = std::chrono::steady_clock::time_point;

/// A call on its way.
struct Request {
  std::string bytes = {};      ///< one command or several
  std::size_t commands = 1;    ///< so many answers come
  std::string operation = {};  ///< what an Error says was being done
  bool writes = true;
  const Script* script = nullptr;  ///< it is run by its digest, and `bytes` is one EVALSHA
  std::size_t script_args = 0;     ///< where in `bytes` the digest ends
  bool confirm = false;            ///< the last answer is WAIT's: how many replicas have it
  Milliseconds patience{5'000};    ///< how long its answer is waited for
  bool ordered = false;            ///< goes to its purpose's first connection, whichever is free
  Steady queued_at{};
  std::function<void(std::variant<std::vector<Reply>, Error>)> done = {};

  // How it went so far.
  std::shared_ptr<const std::string> large = {};  ///< instead of `bytes`, once it was sent, when it is large
  Steady sent_at{};
  std::uint64_t sent_as = 0;  ///< counts what was sent on its connection
  int lost_scripts = 0;       ///< how often the server did not know the script
  bool lost = false;          ///< its connection was, once
  std::vector<Reply> replies = {};
};
using RequestPtr = std::unique_ptr<Request>;

/// What is to be sent: small requests gathered, or a large one as it is. That one is not copied: of some megabytes it
/// would take longer than anybody should wait.
struct Output {
  std::string gathered = {};
  std::shared_ptr<const std::string> large = {};
  [[nodiscard]] std::string_view view() const { return large ? std::string_view(*large) : gathered; }
};

/// The requests of one connection. One thread at a time. Calls `done` of requests that are through, which must not call
/// back into this.
class Pipeline {
 public:
  static constexpr std::size_t kFailuresPerTurn = 256;

  /// \param replicas how many must have a write (Request::confirm)
  /// \param server   the object of its errors
  Pipeline(std::string server, Milliseconds connect_timeout, unsigned replicas);

  void push(RequestPtr request);
  /// The bytes of the next requests, at most so many (but at least one request's); they count as sent.
  Output take_output(std::size_t limit, Steady now);
  void on_reply(Reply reply, Steady now);
  void on_connected();
  void on_bytes(Steady now);  ///< something came, if not a whole reply
  /// There is no connection, for this reason. What was sent has failed, except reads, which are sent once more on the
  /// next one. on_time says so to those who wait, and until it has, nothing is sent.
  void on_down(const Error& why, Steady now);
  /// Fails what was lost or has waited too long: so many at most, so that nobody else is kept waiting, and the rest is
  /// due at once. True when the connection should be given up: nothing at all has come since something was sent that is
  /// overdue.
  [[nodiscard]] bool on_time(Steady now, std::size_t most = kFailuresPerTurn);
  /// When on_time has something to do; nullopt while nothing waits.
  [[nodiscard]] std::optional<Steady> next_deadline() const;
  /// Fails what was not sent.
  void fail_unsent(const Error& why);
  /// Fails the rest of what was lost.
  void fail_lost();

  [[nodiscard]] std::size_t in_flight() const { return sent_.size() + lost_.size(); }
  [[nodiscard]] std::size_t unsent() const { return again_.size() + queue_.size(); }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  /// Since when the oldest request that is not through waits; nullopt when none does.
  [[nodiscard]] std::optional<Steady> oldest() const;

 private:
  void finish(RequestPtr request, std::variant<std::vector<Reply>, Error> outcome);
  void fail(RequestPtr request, Errc code, std::string message, std::string native = {});
  void complete(RequestPtr request, Steady now);
  void write(Request& request, std::size_t limit, Output& out);
  [[nodiscard]] Steady unsent_expiry(const Request& request) const;
  void fail_lost(std::size_t& most);
  void expire(std::deque<RequestPtr>& waiting, Steady now, std::size_t& most);

  std::string server_;
  Milliseconds connect_timeout_;
  unsigned replicas_;
  std::deque<RequestPtr> again_;  ///< goes before queue_: reads that were lost, scripts that were not known
  std::deque<RequestPtr> queue_;
  std::deque<RequestPtr> sent_;
  std::deque<RequestPtr> lost_;  ///< were sent on a connection that is no more, and are to fail
  std::string why_lost_;
  std::size_t overdue_ = 0;  ///< the first so many of sent_ were given up; their answers are thrown away
  std::map<std::string_view, std::uint64_t> script_sent_;  ///< digest → when its text was sent on this connection
  std::uint64_t counter_ = 0;
  std::uint64_t errors_ = 0;
  bool connected_ = false;
  Steady heard_{};
  std::string why_down_;
};

}  // namespace millrace::store::redis
