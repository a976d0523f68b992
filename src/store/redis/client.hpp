// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "millrace/error.hpp"
#include "millrace/types.hpp"
#include "store/redis/reply.hpp"
#include "store/redis/resp.hpp"
#include "store/redis/script.hpp"
#include "store/redis/server_facts.hpp"
#include "store/redis/turn_meter.hpp"
#include "store/redis/url.hpp"

namespace millrace::store::redis {

/// Each has connections of its own, so that one never delays another. For reads that block: Listener.
enum class Purpose { append, ledger, key_value };
inline constexpr Purpose kPurposes[] = {Purpose::append, Purpose::ledger, Purpose::key_value};
std::string_view to_string(Purpose purpose) noexcept;

/// Whether a command changes anything. One that only reads may be sent once more when the connection was lost.
enum class Access { read, write };

/// A command and its arguments, any bytes.
using Command = std::vector<std::string>;

/// A client of one Redis server. Thread-safe; has one thread of its own. Calls of many threads share connections and
/// are pipelined.
///
/// A call that fails says truthfully what may have happened: {unavailable} — it was never sent; {outcome_unknown} — a
/// write was sent and no answer came (of a read that is {unavailable}, too); {stopped} — never sent, because of stop().
/// A lost connection is made again in the background, with backoff; calls meanwhile wait at most `connect_timeout`.
class Client {
 public:
  using Outcome = std::variant<Reply, Error>;
  using Done = std::function<void(Outcome)>;

  /// Connects and checks the server. \throws Error{unavailable}; {permission_denied} for user, password and ACL;
  /// {unsupported_version} for an old server; {invalid_argument} for one whose settings do not do what the URL asks
  /// \param look_again how often the settings are read anew. While they give less than the URL asks for, writes are
  /// refused with {unavailable}.
  explicit Client(RedisUrl url, Milliseconds look_again = Milliseconds{60'000});
  ~Client();  ///< stop(1 s)
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Blocks. An error reply is thrown as errors.hpp maps it.
  Reply call(Purpose purpose, Command command, Access access = Access::write);

  /// Sends all in one go, in order; not atomic. An error reply is an item of Kind::error.
  std::vector<Reply> pipeline(Purpose purpose, std::vector<Command> commands, Access access = Access::write);

  /// The same without waiting; `get` throws as `pipeline`.
  std::future<std::vector<Reply>> pipeline_async(Purpose purpose, const std::vector<Command>& commands,
                                                 Access access = Access::write);

  /// Runs a script, by its digest; sends its text when the server does not have it (any more). An error reply is
  /// thrown.
  Reply run(Purpose purpose, const Script& script, std::vector<std::string> keys, std::vector<std::string> args,
            Access access = Access::write);

  /// The same without waiting. `done` is called exactly once, on the client's thread, in the order of the calls of its
  /// purpose (but when the server lost its scripts, those it still had may come first); on the caller's own thread when
  /// the call is refused before it was queued. It must not block, throw, or call anything of the client that blocks.
  /// Does not throw.
  void run_async(Purpose purpose, const Script& script, std::vector<std::string> keys, std::vector<std::string> args,
                 Done done, Access access = Access::write);
  /// With `more` arguments behind `args`.
  void run_async(Purpose purpose, const Script& script, std::vector<std::string> keys, std::vector<std::string> args,
                 const EncodedWords& more, Done done, Access access = Access::write);

  /// The server's clock: asked at every connect and at least once a minute, run on with our steady clock in between.
  /// Goes backwards only with it, by more than a second. Never blocks.
  [[nodiscard]] Timestamp now() const;

  /// The prefix and `name`.
  [[nodiscard]] std::string key(std::string_view name) const;

  [[nodiscard]] const RedisUrl& url() const noexcept;

  /// As of the last connect or the last minute.
  [[nodiscard]] ServerFacts facts() const;
  /// What a write that was answered has reached: the server's level, or the URL's where it cannot be read.
  [[nodiscard]] Level level() const;

  struct Figures {
    bool connected = false;        ///< all connections of the purpose
    Milliseconds since{};          ///< it has been connected, or not been, for so long
    std::uint64_t connects = 0;    ///< connections made
    std::uint64_t reconnects = 0;  ///< of them anew after one was lost
    std::uint64_t errors = 0;      ///< calls that failed without an answer, and error replies
    std::size_t in_flight = 0;     ///< calls sent and not answered
    std::size_t queued = 0;        ///< calls not sent yet
    Milliseconds oldest{};         ///< how long the oldest of both has waited
    std::string last_error = {};   ///< why it is not connected; empty when it is
  };
  [[nodiscard]] Figures figures(Purpose purpose) const;
  /// Why writes are refused at the moment, though there is a connection: the server gives less than the URL asks for.
  [[nodiscard]] std::optional<Error> refusal() const;
  /// How long the client's thread was busy without looking at its other connections.
  [[nodiscard]] TurnMeter::Figures turns() const;

  /// How many connections were made. When it has grown, the server may have lost what it had answered.
  [[nodiscard]] std::uint64_t greetings() const noexcept;

  /// Takes no more calls and fails those not sent yet with {stopped}; waits so long for the answers to the others.
  /// Idempotent. Not from the client's thread.
  void stop(Milliseconds drain);

 private:
  friend class Listener;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::store::redis
