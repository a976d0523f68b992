// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>

#include "cli/target.hpp"
#include "daemon/api.hpp"
#include "millrace/bus.hpp"
#include "millrace/store.hpp"

namespace millrace::cli {
namespace {

/// The pieces of an answer that goes on, from the API's threads to the command's.
class Pieces final : public http::Stream {
 public:
  bool write(std::string chunk) override {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    bytes_ += chunk.size();
    chunks_.push_back(std::move(chunk));
    changed_.notify_one();
    return true;
  }
  bool writable() const override {
    const std::lock_guard lock(mutex_);
    return bytes_ <= kMostBytes;
  }
  void on_writable(std::function<void()> callback) override {
    const std::lock_guard lock(mutex_);
    on_writable_ = std::move(callback);
  }
  void on_closed(std::function<void()> callback) override {
    {
      const std::lock_guard lock(mutex_);
      if (!hung_up_) {
        on_closed_ = std::move(callback);
        return;
      }
    }
    callback();
  }
  void close() override {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_one();
  }

  /// The next piece; nullopt when the other side ended it.
  std::optional<std::string> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !chunks_.empty(); });
    if (chunks_.empty()) return std::nullopt;
    std::string chunk = std::move(chunks_.front());
    chunks_.pop_front();
    const bool was_full = bytes_ > kMostBytes;
    bytes_ -= chunk.size();
    const auto callback = was_full && bytes_ <= kMostBytes ? on_writable_ : nullptr;
    lock.unlock();
    if (callback) callback();
    return chunk;
  }
  void hang_up() {
    std::function<void()> callback;
    {
      const std::lock_guard lock(mutex_);
      closed_ = hung_up_ = true;
      callback = std::exchange(on_closed_, nullptr);
    }
    if (callback) callback();
  }

 private:
  static constexpr std::size_t kMostBytes = 1 << 20;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> chunks_;
  std::size_t bytes_ = 0;
  bool closed_ = false, hung_up_ = false;
  std::function<void()> on_writable_, on_closed_;
};

using Answer = std::variant<http::Response, std::shared_ptr<Pieces>>;

/// One question to the API, waited for. The command is the client: it is gone only when the process is.
class Waiting final : public http::Exchange {
 public:
  ~Waiting() override { respond({500, {}, R"({"code":"internal","detail":"the call ended without an answer"})"}); }
  Waiting() = default;
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  void respond(http::Response response, std::function<void(bool)> sent = {}) override {
    const bool first = give(std::move(response));
    if (sent) sent(first);
  }
  std::shared_ptr<http::Stream> start_stream(unsigned, std::vector<http::Header>) override {
    auto pieces = std::make_shared<Pieces>();
    return give(pieces) ? pieces : nullptr;
  }
  void on_closed(std::function<void()>) override {}
  std::future<Answer> answer() { return answer_.get_future(); }

 private:
  bool give(Answer answer) {
    if (answered_.exchange(true)) return false;
    answer_.set_value(std::move(answer));
    return true;
  }
  std::atomic<bool> answered_{false};
  std::promise<Answer> answer_;
};

class StoreTarget final : public Target {
 public:
  explicit StoreTarget(std::unique_ptr<Store> store)
      : store_(std::move(store)), bus_(store_.get()), api_(*store_, bus_, config_) {}

  std::string name() const override { return store_->describe(); }

  http::Response send(const http::Request& request) override {
    Answer answer = ask(request);
    if (auto* response = std::get_if<http::Response>(&answer)) return std::move(*response);
    std::get<std::shared_ptr<Pieces>>(answer)->hang_up();
    throw Error(Errc::internal, request.method, request.path, "answered with a stream");
  }

  void stream(const http::Request& request, const std::function<bool(std::string_view)>& chunk) override {
    Answer answer = ask(request);
    if (const auto* response = std::get_if<http::Response>(&answer)) throw_problem(*response, "GET " + request.path);
    const auto pieces = std::get<std::shared_ptr<Pieces>>(answer);
    try {
      while (const auto piece = pieces->next()) {
        if (!chunk(*piece)) break;
      }
    } catch (...) {
      pieces->hang_up();
      throw;
    }
    pieces->hang_up();
  }

 private:
  Answer ask(const http::Request& request) {
    const http::Admission admission = api_.admit(request);
    if (const auto* refused = std::get_if<http::Response>(&admission)) return *refused;
    auto exchange = std::make_shared<Waiting>();
    auto answer = exchange->answer();
    api_.handle(request, std::move(exchange));
    return answer.get();
  }

  const daemon::Config config_;
  std::unique_ptr<Store> store_;
  Bus bus_;
  daemon::Api api_;
};

}  // namespace

std::unique_ptr<Target> open_store_target(const std::string& url) {
  StoreOptions options;
  options.url = url;
  options.access = StoreOptions::Access::tool;
  options.create = false;
  return std::make_unique<StoreTarget>(open_store(options));
}

}  // namespace millrace::cli
