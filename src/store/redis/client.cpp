// SPDX-License-Identifier: Apache-2.0
#include "store/redis/client.hpp"

#include <pthread.h>

#include <boost/asio/post.hpp>
#include <charconv>
#include <condition_variable>
#include <future>
#include <utility>

#include "base/log.hpp"
#include "store/redis/client_impl.hpp"
#include "store/redis/errors.hpp"

namespace millrace::store::redis {
namespace {

using std::chrono::steady_clock;

/// More than one where calls wait for each other's WAIT; appends keep their order on one.
constexpr std::size_t connections_for(Purpose purpose) {
  return purpose == Purpose::append ? 1 : 2;
}

constexpr Milliseconds kLookSoon{1'000};  // while writes are refused

void format_wait(const RedisUrl& url, std::string& out) {
  // It answers before we give up waiting, so that what is missing has a name.
  const auto patience = std::max<std::int64_t>(1, url.timeout.count() * 4 / 5);
  format_command(std::vector<std::string>{"WAIT", std::to_string(url.replicas), std::to_string(patience)}, out);
}

/// What happens to a running store is not what happens to who opens one: it passes, or somebody mends it.
Error passing(const Error& error) {
  return {Errc::unavailable, error.operation(), error.object(), error.message(), error.native()};
}

}  // namespace

std::string_view to_string(Purpose purpose) noexcept {
  switch (purpose) {
    case Purpose::append:
      return "append";
    case Purpose::ledger:
      return "ledger";
    case Purpose::key_value:
      return "key_value";
  }
  return "unknown";
}

// ---- life -----------------------------------------------------------------------------------------------------------

Client::Impl::Impl(RedisUrl url, Milliseconds again) : around{loop, std::move(url), nullptr}, look_again(again) {
  if (around.url.endpoint.tls) around.tls = io::load_client_tls(*around.url.endpoint.tls);
  for (const Purpose purpose : kPurposes) {
    pools.push_back(std::make_shared<Pool>(around, purpose, connections_for(purpose), events()));
    all_ += connections_for(purpose);
  }
  to_connect_ = all_;
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "redis");
    around.meter.handler_ended();
    while (loop.run_one() != 0) around.meter.handler_ended();
  });
  wait_until_connected();
}

Client::Impl::~Impl() {
  stop(Milliseconds{1'000});
}

void Client::Impl::wait_until_connected() {
  boost::asio::post(loop, [this] {
    for (const auto& each : pools) each->start();
    look_in(look_again);
  });
  std::unique_lock lock(mutex_);
  connected_.wait(lock, [this] { return to_connect_ == 0 || first_failure_; });
  if (!first_failure_) return;
  const Error failure = *first_failure_;
  lock.unlock();
  stop(Milliseconds{0});
  throw Error(failure);
}

void Client::Impl::stop(Milliseconds drain) {
  const std::lock_guard one(stop_mutex_);
  {
    const std::shared_lock alive(life_);
    if (ended_) return;
  }
  for (const auto& each : pools) each->refuse_more();
  const auto all_idle = [this] {
    bool idle = true;
    on_loop([&] {
      for (const auto& each : pools) idle = idle && each->idle();
    });
    return idle;
  };
  on_loop([this] {
    stopping_ = true;
    look_timer_.cancel();
    for (const auto& each : pools) each->stop();
  });
  const Steady until = steady_clock::now() + drain;
  while (steady_clock::now() < until && !all_idle()) std::this_thread::sleep_for(Milliseconds(1));
  on_loop([this] {
    const Error why(Errc::stopped, "", "", "the store was closed before the server answered");
    for (const auto& each : pools) each->close(why);
  });
  end_loop();
}

void Client::Impl::end_loop() {
  const std::unique_lock alive(life_);
  work.reset();
  loop.stop();
  thread_.join();
  ended_ = true;
}

void Client::Impl::on_loop(const std::function<void()>& action) {
  const std::shared_lock alive(life_);
  if (ended_ || std::this_thread::get_id() == thread_.get_id()) return action();
  std::promise<void> done;
  boost::asio::post(loop, [&] {
    action();
    done.set_value();
  });
  done.get_future().wait();
}

// ---- what the server is ---------------------------------------------------------------------------------------------

Connection::Events Client::Impl::events() {
  Connection::Events events;
  events.connected = [this](const Greeting& greeting) {
    ++greetings_;
    observe(greeting.time, greeting.asked, greeting.answered);
    learn(greeting.facts);
    const bool again = ++ready_ == all_ && to_connect_ == 0;
    if (again) log::info("redis_connected_again", around.url.describe(), "all connections are back");
    const std::lock_guard lock(mutex_);
    if (to_connect_ > 0 && --to_connect_ == 0) connected_.notify_all();
  };
  events.down = [this](const Error& why, bool was_connected) {
    if (was_connected && ready_-- == all_) log::warn("redis_connection_lost", around.url.describe(), why.message());
    const std::lock_guard lock(mutex_);
    if (to_connect_ == 0 || first_failure_) return;
    first_failure_ = why;
    connected_.notify_all();
  };
  events.time = [this](Timestamp time, Steady asked, Steady answered) { observe(time, asked, answered); };
  return events;
}

void Client::Impl::observe(Timestamp time, Steady asked, Steady answered) {
  clock.observe(time, asked, answered);
  if (clock.behind() > ServerClock::kSetBack) {
    log::warn("server_clock_set_back", around.url.describe(),
              "the server's clock is " + std::to_string(clock.behind().count() / 1000) +
                  " ms behind what it was; leases given before that last so much longer");
  }
}

void Client::Impl::learn(const ServerFacts& facts) {
  std::optional<Error> unfit = why_unfit(facts, around.url);
  const std::lock_guard lock(mutex_);
  if (unfit && !unfit_) log::write(log::Level::error, *unfit);
  if (!unfit && unfit_) log::info("server_fit_again", around.url.describe(), "writes are taken again");
  const std::optional<Store::Doubt> doubt = why_doubtful(facts);
  if (doubt && !why_doubtful(facts_)) {
    log::warn("server_settings", around.url.describe(), doubt->found + ": " + doubt->at_risk + "; " + doubt->to_do);
  }
  facts_ = facts;
  unfit_ = std::move(unfit);
  refusing_ = unfit_.has_value();
}

void Client::Impl::look_in(Milliseconds delay) {
  look_timer_.expires_after(delay);
  look_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopping_) look();
  });
}

void Client::Impl::look() {
  RequestPtr request = make({{"INFO"}, config_question(), {"TIME"}}, Access::read);
  request->done = [this, asked = steady_clock::now()](const Replies& outcome) { on_look(outcome, asked); };
  try {
    submit(Purpose::key_value, std::move(request));
  } catch (const Error&) {
    look_in(kLookSoon);  // too much waits; whoever waits hears of it
  }
}

void Client::Impl::on_look(const Replies& outcome, Steady asked) {
  if (stopping_) return;
  const auto* replies = std::get_if<std::vector<Reply>>(&outcome);
  // When it failed, the connection is down or will be, and the next greeting says it all.
  if (replies != nullptr) {
    if (!(*replies)[0].is_error()) learn(read_facts(nullptr, (*replies)[0], (*replies)[1]));
    if (const std::optional<Timestamp> time = time_of((*replies)[2])) observe(*time, asked, steady_clock::now());
  }
  look_in(refusing_ ? std::min(kLookSoon, look_again) : look_again);
}

// ---- calls ----------------------------------------------------------------------------------------------------------

RequestPtr Client::Impl::make(const std::vector<Command>& commands, Access access) const {
  auto request = std::make_unique<Request>();
  for (const Command& command : commands) format_command(command, request->bytes);
  request->commands = commands.size();
  request->operation = commands.front().front();
  request->writes = access == Access::write;
  request->patience = around.url.timeout;
  if (request->writes && around.url.replicas > 0) {
    format_wait(around.url, request->bytes);
    ++request->commands;
    request->confirm = true;
  }
  return request;
}

RequestPtr Client::Impl::make(const Script& script, const std::vector<std::string>& keys,
                              const std::vector<std::string>& args, const EncodedWords& more, Access access) const {
  const std::string count = std::to_string(keys.size());
  std::vector<std::string_view> words = {"EVALSHA", script.sha1, count};
  words.insert(words.end(), keys.begin(), keys.end());
  words.insert(words.end(), args.begin(), args.end());
  auto request = std::make_unique<Request>();
  format_command(words, more, request->bytes);
  request->script = &script;
  request->script_args = request->bytes.find(script.sha1) + script.sha1.size() + 2;
  request->operation = std::string(script.name);
  request->writes = access == Access::write;
  request->patience = around.url.timeout;
  if (request->writes && around.url.replicas > 0) {
    format_wait(around.url, request->bytes);
    ++request->commands;
    request->confirm = true;
  }
  return request;
}

void Client::Impl::submit(Purpose purpose, RequestPtr request) {
  if (refusing_ && request->writes) {
    const std::lock_guard lock(mutex_);
    if (unfit_) throw Error(passing(*unfit_));
  }
  pool(purpose).submit(std::move(request));
}

std::vector<Reply> Client::Impl::wait_for(Purpose purpose, RequestPtr request) {
  if (std::this_thread::get_id() == thread_.get_id()) {
    throw Error(Errc::internal, request->operation, "", "the client's thread cannot wait for itself");
  }
  const auto promise = std::make_shared<std::promise<Replies>>();
  std::future<Replies> answer = promise->get_future();
  request->done = [promise](Replies outcome) { promise->set_value(std::move(outcome)); };
  submit(purpose, std::move(request));
  Replies outcome = answer.get();
  if (const Error* error = std::get_if<Error>(&outcome)) throw Error(*error);
  return std::get<std::vector<Reply>>(std::move(outcome));
}

Error Client::Impl::error_of(const Reply& reply, const std::string& operation) const {
  return to_error(reply.text, operation, around.url.describe());
}

Client::Client(RedisUrl url, Milliseconds look_again) : impl_(std::make_unique<Impl>(std::move(url), look_again)) {}
Client::~Client() = default;

Reply Client::call(Purpose purpose, Command command, Access access) {
  const std::string operation = command.front();
  std::vector<Command> one;
  one.push_back(std::move(command));
  Reply reply = std::move(impl_->wait_for(purpose, impl_->make(one, access)).front());
  if (reply.is_error()) throw Error(impl_->error_of(reply, operation));
  return reply;
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): they end here
std::vector<Reply> Client::pipeline(Purpose purpose, std::vector<Command> commands, Access access) {
  if (commands.empty()) return {};
  return impl_->wait_for(purpose, impl_->make(commands, access));
}

std::future<std::vector<Reply>> Client::pipeline_async(Purpose purpose, const std::vector<Command>& commands,
                                                       Access access) {
  const auto promise = std::make_shared<std::promise<std::vector<Reply>>>();
  std::future<std::vector<Reply>> answer = promise->get_future();
  RequestPtr request = impl_->make(commands, access);
  request->done = [promise](Impl::Replies outcome) {
    if (const Error* error = std::get_if<Error>(&outcome))
      return promise->set_exception(std::make_exception_ptr(*error));
    promise->set_value(std::get<std::vector<Reply>>(std::move(outcome)));
  };
  impl_->submit(purpose, std::move(request));
  return answer;
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): they end here
Reply Client::run(Purpose purpose, const Script& script, std::vector<std::string> keys, std::vector<std::string> args,
                  Access access) {
  Reply reply = std::move(impl_->wait_for(purpose, impl_->make(script, keys, args, {}, access)).front());
  if (reply.is_error()) throw Error(impl_->error_of(reply, std::string(script.name)));
  return reply;
}

// NOLINTBEGIN(performance-unnecessary-value-param): they end here
void Client::run_async(Purpose purpose, const Script& script, std::vector<std::string> keys,
                       std::vector<std::string> args, Done done, Access access) {
  run_async(purpose, script, std::move(keys), std::move(args), EncodedWords{}, std::move(done), access);
}

void Client::run_async(Purpose purpose, const Script& script, std::vector<std::string> keys,
                       std::vector<std::string> args, const EncodedWords& more, Done done, Access access) {
  // NOLINTEND(performance-unnecessary-value-param)
  const auto give = std::make_shared<Done>(std::move(done));
  try {
    RequestPtr request = impl_->make(script, keys, args, more, access);
    request->ordered = true;
    request->done = [this, give, &script](Impl::Replies outcome) {
      if (Error* error = std::get_if<Error>(&outcome)) return (*give)(std::move(*error));
      Reply& reply = std::get<std::vector<Reply>>(outcome).front();
      if (reply.is_error()) return (*give)(impl_->error_of(reply, std::string(script.name)));
      (*give)(std::move(reply));
    };
    impl_->submit(purpose, std::move(request));
  } catch (const Error& error) {
    (*give)(error);
  }
}

Timestamp Client::now() const {
  return impl_->clock.now(steady_clock::now());
}

std::string Client::key(std::string_view name) const {
  return impl_->around.url.prefix + std::string(name);
}

const RedisUrl& Client::url() const noexcept {
  return impl_->around.url;
}

ServerFacts Client::facts() const {
  const std::lock_guard lock(impl_->mutex_);
  return impl_->facts_;
}

Level Client::level() const {
  return level_of(facts(), impl_->around.url);
}

Client::Figures Client::figures(Purpose purpose) const {
  Figures figures;
  impl_->on_loop([&] { figures = impl_->pool(purpose).figures(); });
  return figures;
}

std::optional<Error> Client::refusal() const {
  const std::lock_guard lock(impl_->mutex_);
  return impl_->unfit_;
}

TurnMeter::Figures Client::turns() const {
  return impl_->around.meter.figures();
}

std::uint64_t Client::greetings() const noexcept {
  return impl_->greetings_;
}

void Client::stop(Milliseconds drain) {
  impl_->stop(drain);
}

}  // namespace millrace::store::redis
