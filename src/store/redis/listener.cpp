// SPDX-License-Identifier: Apache-2.0
#include "store/redis/listener.hpp"

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "store/redis/client_impl.hpp"
#include "store/redis/errors.hpp"
#include "store/redis/resp.hpp"

namespace millrace::store::redis {
namespace {

using Replies = std::variant<std::vector<Reply>, Error>;

constexpr Milliseconds kBlock{5'000};     // then every stream is looked at, for what XREAD cannot see (lower ids)
constexpr Milliseconds kShortBlock{250};  // where the ACL forbids to end a block
constexpr Milliseconds kAgain{100};       // after an error
constexpr Milliseconds kUnblockAgain{2};  // the block had not begun
constexpr const char* kNothing = "0-0";
constexpr std::size_t kLooksAtOnce = 256;

/// The id of the one entry that XREVRANGE or XREAD gave.
std::string first_id(const Reply& entries) {
  if (entries.kind != Reply::Kind::array || entries.items.empty()) return kNothing;
  const Reply& entry = entries.items.front();
  return entry.items.empty() ? kNothing : entry.items.front().text;
}

}  // namespace

/// Everything but the constructor's waiting belongs to the loop.
///
/// XREAD waits for entries after the last known one of each stream. It gives the first of possibly many; the last is
/// then asked for, and `changed` is called for both: the first is news at once, and whatever comes after the last is
/// what the next XREAD waits for. So nothing is missed, and a thousand appends cost a few round trips.
struct Listener::Impl : std::enable_shared_from_this<Listener::Impl> {
  Impl(Client::Impl& client_impl, std::string channel_name, Changed callback)
      : client(client_impl),
        channel(std::move(channel_name)),
        changed(std::move(callback)),
        retry(client_impl.loop),
        unblock_retry(client_impl.loop) {}

  struct Stream {
    std::string last = kNothing;
    bool look = true;      ///< its last entry is to be asked for
    bool announce = true;  ///< and then told, whether it is another one or not
    bool broken = false;   ///< it is no stream: XREAD of it would fail them all
  };

  void start() {
    Connection::Events reading;
    reading.connected = [this](const Greeting& greeting) { on_reader(greeting); };
    reading.down = [this](const Error& why, bool) { settle_start(&why); };
    reader = std::make_shared<Connection>(client.around, "millrace-listen", std::move(reading));
    Connection::Events subscribing;
    subscribing.connected = [this](const Greeting&) { subscribe(); };
    subscribing.down = [this](const Error& why, bool) { settle_start(&why); };
    subscribing.message = [this](const Reply& message) {
      if (message.items.size() >= 3) changed(message.items.back().text);
    };
    subscriber = std::make_shared<Connection>(client.around, "millrace-wake", std::move(subscribing), true);
    reader->start();
    subscriber->start();
  }

  void close() {
    closed = true;
    retry.cancel();
    unblock_retry.cancel();
    const Error why(Errc::stopped, "listen", "", "the store was closed");
    if (reader) reader->close(why);
    if (subscriber) subscriber->close(why);
  }

  /// Tells the constructor how a part of the start went.
  void settle_start(const Error* failure) {
    const std::lock_guard lock(mutex);
    if (to_start == 0 || start_failure) return;
    if (failure != nullptr) {
      start_failure = *failure;
    } else {
      --to_start;
    }
    started.notify_all();
  }

  // ---- the channel ----

  void subscribe() {
    RequestPtr request = question({{"SUBSCRIBE", channel}}, client.around.url.timeout);
    request->done = [this](const Replies& outcome) {
      if (closed) return;
      const auto* replies = std::get_if<std::vector<Reply>>(&outcome);
      if (replies == nullptr) return;  // it was lost, and comes again
      if (replies->front().is_error()) {
        const Error error = client.error_of(replies->front(), "subscribe to " + channel);
        if (!refused) log::write(log::Level::error, error);
        refused = true;
        return settle_start(&error);
      }
      refused = false;
      settle_start(nullptr);
      if (std::exchange(subscribed, true)) changed({});
    };
    subscriber->push(std::move(request));
  }

  // ---- the streams ----

  void on_reader(const Greeting& greeting) {
    client_id = greeting.client_id;
    asking = false;
    look_at_all();
    if (std::exchange(connected, true)) changed({});
    settle_start(nullptr);
    // After the connection has taken note that it is ready.
    boost::asio::post(client.loop, [self = shared_from_this()] { self->next(); });
  }

  void look_at_all() {
    for (auto& [key, stream] : streams) stream.look = true;
  }

  void next() {
    if (closed || asking || !reader->connected() || streams.empty()) return;
    std::vector<std::string> keys;
    for (const auto& [key, stream] : streams) {
      if (stream.look && keys.size() < kLooksAtOnce) keys.push_back(key);
    }
    if (!keys.empty()) return look(std::move(keys));
    wait();
  }

  void look(std::vector<std::string> keys) {
    std::vector<Command> commands;
    commands.reserve(keys.size());
    for (const std::string& key : keys) commands.push_back({"XREVRANGE", key, "+", "-", "COUNT", "1"});
    RequestPtr request = question(commands, client.around.url.timeout);
    request->done = [this, keys = std::move(keys)](const Replies& outcome) {
      asking = false;
      if (closed) return;
      const auto* replies = std::get_if<std::vector<Reply>>(&outcome);
      if (replies == nullptr) return try_again();
      for (std::size_t i = 0; i < keys.size(); ++i) on_last(keys[i], (*replies)[i]);
      next_soon();
    };
    ask(std::move(request));
  }

  void on_last(const std::string& key, const Reply& reply) {
    const auto found = streams.find(key);
    if (found == streams.end()) return;
    Stream& stream = found->second;
    const std::string last = first_id(reply);
    const bool other = last != stream.last || stream.broken != reply.is_error();
    stream.broken = reply.is_error();
    stream.last = last;
    stream.look = false;
    if (std::exchange(stream.announce, false) || other) changed(key);
  }

  void wait() {
    Command command = {"XREAD", "COUNT", "1", "BLOCK", std::to_string(block.count()), "STREAMS"};
    std::vector<std::string> lasts;
    for (const auto& [key, stream] : streams) {
      if (stream.broken) continue;
      command.push_back(key);
      lasts.push_back(stream.last);
    }
    if (lasts.empty()) return try_again();
    command.insert(command.end(), lasts.begin(), lasts.end());
    RequestPtr request = question({std::move(command)}, block + client.around.url.timeout);
    request->done = [this](const Replies& outcome) {
      asking = false;
      blocked = false;
      if (closed) return;
      const auto* replies = std::get_if<std::vector<Reply>>(&outcome);
      if (replies == nullptr || replies->front().is_error()) {
        look_at_all();
        return try_again();
      }
      on_news(replies->front());
      next_soon();
    };
    blocked = true;
    ask(std::move(request));
  }

  void on_news(const Reply& news) {
    if (news.kind != Reply::Kind::array) return look_at_all();  // nothing came, or somebody is to be watched, too
    for (const Reply& one : news.items) {
      if (one.items.size() != 2) continue;
      const auto found = streams.find(one.items[0].text);
      if (found == streams.end()) continue;
      found->second.last = first_id(one.items[1]);
      found->second.look = true;
      changed(found->first);
    }
  }

  // ---- asking ----

  RequestPtr question(const std::vector<Command>& commands, Milliseconds patience) const {
    RequestPtr request = client.make(commands, Access::read);
    request->patience = patience;
    request->lost = true;  // asked anew, not again
    request->queued_at = std::chrono::steady_clock::now();
    return request;
  }

  void ask(RequestPtr request) {
    asking = true;
    reader->push(std::move(request));
    reader->flush();
  }

  /// Not from within an answer: the connection is not ready for the next question there.
  void next_soon() {
    boost::asio::post(client.loop, [self = shared_from_this()] { self->next(); });
  }

  void try_again() {
    retry.expires_after(kAgain);
    retry.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (error || self->closed) return;
      self->look_at_all();
      self->next();
    });
  }

  /// Ends the block of our other connection, so that it sees what is watched now.
  void unblock() {
    if (closed || !blocked) return next();
    if (block == kShortBlock) return;
    RequestPtr request = question({{"CLIENT", "UNBLOCK", std::to_string(client_id)}}, client.around.url.timeout);
    request->done = [self = shared_from_this()](const Replies& outcome) {
      const auto* replies = std::get_if<std::vector<Reply>>(&outcome);
      if (self->closed || replies == nullptr) return;
      if (replies->front().is_error()) {
        log::warn("listen_short", self->client.around.url.describe(),
                  "the ACL forbids CLIENT UNBLOCK: new streams are noticed later");
        self->block = kShortBlock;
      } else if (replies->front().integer == 0 && self->blocked) {
        self->unblock_retry.expires_after(kUnblockAgain);
        self->unblock_retry.async_wait([self](const boost::system::error_code& error) {
          if (!error) self->unblock();
        });
      }
    };
    try {
      client.submit(Purpose::key_value, std::move(request));
    } catch (const Error&) {
      // the client is stopped, or so busy that the end of the block comes first
    }
  }

  Client::Impl& client;
  std::string channel;
  Changed changed;
  std::shared_ptr<Connection> reader;
  std::shared_ptr<Connection> subscriber;
  std::map<std::string, Stream, std::less<>> streams;
  boost::asio::steady_timer retry;
  boost::asio::steady_timer unblock_retry;
  Milliseconds block = kBlock;
  std::int64_t client_id = 0;
  bool asking = false;      ///< a question of the reader is under way
  bool blocked = false;     ///< and it is XREAD
  bool connected = false;   ///< the reader was, once
  bool subscribed = false;  ///< the channel was, once
  bool refused = false;
  bool closed = false;

  std::mutex mutex;
  int to_start = 2;
  std::optional<Error> start_failure;
  std::condition_variable started;
};

Listener::Listener(Client& client, std::string channel, Changed changed)
    : impl_(std::make_shared<Impl>(*client.impl_, std::move(channel), std::move(changed))) {
  impl_->client.on_loop([this] { impl_->start(); });
  std::unique_lock lock(impl_->mutex);
  impl_->started.wait(lock, [this] { return impl_->to_start == 0 || impl_->start_failure; });
  if (!impl_->start_failure) return;
  const Error failure = *impl_->start_failure;
  lock.unlock();
  impl_->client.on_loop([this] { impl_->close(); });
  throw Error(failure);
}

Listener::~Listener() {
  impl_->client.on_loop([this] { impl_->close(); });
}

void Listener::watch(const std::string& key) {
  boost::asio::post(impl_->client.loop, [impl = impl_, key] {
    if (impl->closed) return;
    const bool added = impl->streams.try_emplace(key).second;
    if (added) impl->unblock();
  });
}

void Listener::forget(const std::string& key) {
  boost::asio::post(impl_->client.loop, [impl = impl_, key] { impl->streams.erase(key); });
}

Client::Figures Listener::figures() const {
  Client::Figures figures;
  impl_->client.on_loop([&] {
    figures = figures_of(std::array{impl_->reader, impl_->subscriber});
    figures.oldest = {};  // its questions wait at the server on purpose
    if (figures.connected && impl_->refused) {
      figures.connected = false;
      figures.last_error = "the ACL forbids the channel " + impl_->channel;
    }
  });
  return figures;
}

}  // namespace millrace::store::redis
