// SPDX-License-Identifier: Apache-2.0
#include "support/gate.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string_view>

namespace millrace::test {

using std::chrono::steady_clock;

struct Gate::Pair {
  int client = -1;
  int server = -1;
  bool broken = false;
  bool loses_answer = false;  ///< the next one
  /// Answers on their way, each not before its time.
  std::deque<std::pair<steady_clock::time_point, std::string>> answers;

  ~Pair() {
    ::close(client);
    if (server >= 0) ::close(server);
  }
};

namespace {

bool send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = ::send(fd, data, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return true;
}

}  // namespace

Gate::Gate(std::string target_socket) : target_(std::move(target_socket)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("the gate cannot listen");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

Gate::~Gate() {
  ending_ = true;
  thread_.join();
  ::close(listener_);
}

void Gate::open() {
  holding_ = false;
  refusing_ = false;
  cut_after_ = -1;
  delay_ms_ = 0;
}

void Gate::black_hole() {
  holding_ = true;
}
void Gate::refuse(bool on) {
  refusing_ = on;
}

void Gate::cut_now() {
  cutting_ = true;
  while (cutting_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void Gate::lose_answer_to(const std::string& words) {
  const std::lock_guard lock(mutex_);
  lost_words_ = words;
}

bool Gate::losing() const {
  const std::lock_guard lock(mutex_);
  return !lost_words_.empty();
}

/// False when this pair is through.
bool Gate::pump(Pair& pair, bool to_client) {
  std::array<char, 64UL * 1024> buffer;
  const ssize_t size = ::recv(to_client ? pair.server : pair.client, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  if (size == 0) return false;
  if (to_client && pair.loses_answer) {
    cutting_ = true;
    return false;
  }
  if (!to_client) {
    asked_bytes_ += size;
    const std::lock_guard lock(mutex_);
    const std::string_view request(buffer.data(), static_cast<std::size_t>(size));
    if (!lost_words_.empty() && request.find(lost_words_) != std::string_view::npos) {
      lost_words_.clear();
      pair.loses_answer = true;
    }
    return send_all(pair.server, buffer.data(), static_cast<std::size_t>(size));
  }
  pair.answers.emplace_back(steady_clock::now() + std::chrono::milliseconds(delay_ms_),
                            std::string(buffer.data(), static_cast<std::size_t>(size)));
  return true;
}

void Gate::run() {
  while (!ending_) {
    std::vector<pollfd> polled{{listener_, POLLIN, 0}};
    for (const auto& pair : pairs_) {
      polled.push_back({pair->client, POLLIN, 0});
      polled.push_back({pair->server, POLLIN, 0});
    }
    ::poll(polled.data(), holding_ ? 1 : polled.size(), 2);
    if (cutting_.exchange(false)) pairs_.clear();
    if (polled[0].revents != 0 && !holding_) {
      auto pair = std::make_unique<Pair>();
      pair->client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      pair->server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, target_.c_str(), sizeof address.sun_path - 1);
      const bool through =
          !refusing_ && ::connect(pair->server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
      ++accepted_;
      if (through) pairs_.push_back(std::move(pair));
    }
    if (holding_) continue;
    for (const auto& pair : pairs_) {
      pair->broken = !pump(*pair, false) || !pump(*pair, true);
      while (!pair->answers.empty() && pair->answers.front().first <= steady_clock::now()) {
        std::string answer = std::move(pair->answers.front().second);
        pair->answers.pop_front();
        if (cut_after_ >= 0) {
          const auto rest = std::min<std::int64_t>(cut_after_, static_cast<std::int64_t>(answer.size()));
          cut_after_ -= rest;
          pair->broken = pair->broken || static_cast<std::size_t>(rest) < answer.size() || cut_after_ == 0;
          answer.resize(static_cast<std::size_t>(rest));
        }
        pair->broken = !send_all(pair->client, answer.data(), answer.size()) || pair->broken;
      }
    }
    std::erase_if(pairs_, [](const auto& pair) { return pair->broken; });
  }
}

}  // namespace millrace::test
