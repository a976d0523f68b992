// SPDX-License-Identifier: Apache-2.0
#include "store/redis/pool.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>

namespace millrace::store::redis {
namespace {

constexpr std::size_t kPerTurn = 1'000;

}  // namespace

Pool::Pool(Surroundings& around, Purpose purpose, std::size_t connections, const Connection::Events& events)
    : around_(around) {
  for (std::size_t i = 0; i < connections; ++i) {
    connections_.push_back(std::make_shared<Connection>(around, "millrace-" + std::string(to_string(purpose)), events));
  }
}

void Pool::submit(RequestPtr request) {
  const std::size_t size = request->bytes.size();
  if (pending_.fetch_add(size) + size > kMostPending && size < kMostPending) {
    pending_ -= size;
    throw Error(Errc::unavailable, request->operation, around_.url.describe(),
                "too much waits for the server's answers already (" + std::to_string(kMostPending >> 20) + " MiB)");
  }
  request->queued_at = std::chrono::steady_clock::now();
  request->done = [self = shared_from_this(), size, done = std::move(request->done)](auto outcome) {
    self->pending_ -= size;
    done(std::move(outcome));
  };
  const std::lock_guard lock(mutex_);
  if (stopped_) {
    pending_ -= size;
    throw Error(Errc::stopped, request->operation, around_.url.describe(), "the store was closed");
  }
  inbox_.push_back(std::move(request));
  if (!std::exchange(drain_posted_, true)) post_drain();
}

void Pool::post_drain() {
  boost::asio::post(around_.loop, [self = shared_from_this()] {
    const TurnMeter::Turn turn(self->around_.meter);
    self->drain(kPerTurn);
  });
}

Connection& Pool::choose(const Request& request) {
  if (request.ordered) return *connections_.front();
  const auto burden = [](const std::shared_ptr<Connection>& connection) {
    return std::pair(!connection->connected(), connection->pipeline().in_flight() + connection->pipeline().unsent());
  };
  return **std::min_element(connections_.begin(), connections_.end(),
                            [&burden](const auto& a, const auto& b) { return burden(a) < burden(b); });
}

void Pool::drain(std::size_t most) {
  std::vector<RequestPtr> taken;
  {
    const std::lock_guard lock(mutex_);
    taken.swap(inbox_);
    drain_posted_ = backlog_.size() + taken.size() > most;
    if (drain_posted_) post_drain();
  }
  std::move(taken.begin(), taken.end(), std::back_inserter(backlog_));
  for (std::size_t i = 0; i < most && !backlog_.empty(); ++i) {
    Connection& connection = choose(*backlog_.front());
    connection.push(std::move(backlog_.front()));
    backlog_.pop_front();
  }
  for (const auto& connection : connections_) connection->flush();
}

void Pool::refuse_more() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
}

void Pool::start() {
  for (const auto& connection : connections_) connection->start();
}

void Pool::stop() {
  drain(SIZE_MAX);
  for (const auto& connection : connections_) connection->stop();
}

void Pool::close(const Error& why) {
  for (const auto& connection : connections_) connection->close(why);
}

bool Pool::idle() const {
  return std::all_of(connections_.begin(), connections_.end(),
                     [](const auto& connection) { return connection->pipeline().in_flight() == 0; });
}

Client::Figures Pool::figures() const {
  Client::Figures all = figures_of(connections_);
  all.queued += backlog_.size();
  if (!backlog_.empty()) {
    const auto waits = std::chrono::steady_clock::now() - backlog_.front()->queued_at;
    all.oldest = std::max(all.oldest, std::chrono::duration_cast<Milliseconds>(waits));
  }
  return all;
}

Client::Figures figures_of(std::span<const std::shared_ptr<Connection>> connections) {
  const Steady now = std::chrono::steady_clock::now();
  const auto ago = [now](Steady time) { return std::chrono::duration_cast<Milliseconds>(now - time); };
  Client::Figures all;
  all.connected = std::all_of(connections.begin(), connections.end(), [](const auto& one) { return one->connected(); });
  bool first = true;
  for (const auto& connection : connections) {
    const Pipeline& pipeline = connection->pipeline();
    all.connects += connection->connects();
    all.reconnects += connection->reconnects();
    all.errors += pipeline.errors();
    all.in_flight += pipeline.in_flight();
    all.queued += pipeline.unsent();
    if (const std::optional<Steady> oldest = pipeline.oldest()) all.oldest = std::max(all.oldest, ago(*oldest));
    if (connection->connected() != all.connected) continue;
    // All are there since the last one is; not all are since the first one is not.
    const Milliseconds since = ago(connection->since());
    all.since = first ? since : all.connected ? std::min(all.since, since) : std::max(all.since, since);
    first = false;
    if (!all.connected) all.last_error = connection->last_error();
  }
  return all;
}

}  // namespace millrace::store::redis
