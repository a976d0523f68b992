// SPDX-License-Identifier: Apache-2.0
#include "millrace/bus.hpp"

#include <atomic>
#include <utility>

#include "bus/door.hpp"
#include "bus/observer.hpp"
#include "millrace/error.hpp"
#include "replay/engine.hpp"
#include "replay/store_ports.hpp"

namespace millrace {

struct Observation::State {
  State(std::vector<std::string> types, ObserverFunction function, std::weak_ptr<bus::ObserverList> owner)
      : observer(std::move(types), std::move(function)), list(std::move(owner)) {}

  bus::Observer observer;
  std::weak_ptr<bus::ObserverList> list;  ///< the bus may be gone before the observation
};

Observation::Observation(Observation&&) noexcept = default;

Observation& Observation::operator=(Observation&& other) noexcept {
  if (this != &other) {
    cancel();
    state_ = std::move(other.state_);
  }
  return *this;
}

Observation::~Observation() {
  cancel();
}

void Observation::cancel() {
  if (state_ == nullptr) return;
  if (const auto list = state_->list.lock()) list->remove(&state_->observer);
  state_->observer.cancel();
}

Observation::Counts Observation::counts() const {
  return state_ == nullptr ? Counts{} : state_->observer.counts();
}

struct Bus::Impl {
  explicit Impl(Store* backing) : store(backing) {}

  Store* store;
  // Shared with completions that are under way and with observations: either may outlive the bus.
  struct Shared {
    bus::ObserverList observers;
    std::atomic<std::uint64_t> published{0};
    std::atomic<std::uint64_t> duplicates{0};
    std::atomic<std::uint64_t> conflicts{0};
    std::atomic<std::uint64_t> failed{0};

    /// Counts what became of each event and shows the new ones to the observers.
    void observe(const StreamName& stream, std::span<const Event> events, std::span<const AppendResult> results);
    std::vector<AppendResult> without_store(const StreamName& stream, std::span<const Event> events);
    AppendResult without_store(const StreamName& stream, const Event& event);
  };
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();

  ReplayReport replay(Bus& bus, ReplayRecord record, const ReplayTarget& target, const ReplayOptions& options) const;
  /// \throws Error{invalid_argument} when there is none
  [[nodiscard]] Store& store_for(std::string_view operation) const;
};

void Bus::Impl::Shared::observe(const StreamName& stream, std::span<const Event> events,
                                std::span<const AppendResult> results) {
  std::uint64_t stored = 0;
  std::uint64_t known = 0;
  for (const AppendResult& result : results) {
    if (result.status == AppendStatus::stored) ++stored;
    if (result.status == AppendStatus::duplicate) ++known;
  }
  published.fetch_add(stored, std::memory_order_relaxed);
  if (known != 0) duplicates.fetch_add(known, std::memory_order_relaxed);
  if (stored + known != results.size()) {
    conflicts.fetch_add(results.size() - stored - known, std::memory_order_relaxed);
  }
  for (std::size_t i = 0; i < results.size() && i < events.size(); ++i) {
    if (results[i].status != AppendStatus::stored || !results[i].position) continue;
    observers.dispatch({stream, *results[i].position, events[i]});
  }
}

AppendResult Bus::Impl::Shared::without_store(const StreamName& stream, const Event& event) {
  const Position position{published.fetch_add(1, std::memory_order_relaxed) + 1};
  observers.dispatch({stream, position, event});
  return {AppendStatus::stored, position, Durability::memory};
}

std::vector<AppendResult> Bus::Impl::Shared::without_store(const StreamName& stream, std::span<const Event> events) {
  std::vector<AppendResult> results;
  results.reserve(events.size());
  for (const Event& event : events) results.push_back(without_store(stream, event));
  return results;
}

Bus::Bus(Store* store) : impl_(std::make_unique<Impl>(store)) {}
Bus::~Bus() = default;

std::vector<AppendResult> Bus::publish(std::span<const Event> events, const PublishOptions& options) {
  Impl::Shared& shared = *impl_->shared;
  if (impl_->store == nullptr) return shared.without_store(options.stream, events);
  std::vector<AppendResult> results;
  try {
    for (const Event& event : events) bus::check_incoming(event);
    results = impl_->store->log().append(options.stream, events, options.durability);
  } catch (...) {
    shared.failed.fetch_add(events.size(), std::memory_order_relaxed);
    throw;
  }
  shared.observe(options.stream, events, results);
  return results;
}

AppendResult Bus::publish(const Event& event, const PublishOptions& options) {
  if (impl_->store == nullptr) return impl_->shared->without_store(options.stream, event);
  return publish(std::span(&event, 1), options).at(0);
}

void Bus::publish_async(std::vector<Event> events, const PublishOptions& options, AppendCompletion done) {
  const std::size_t count = events.size();
  if (impl_->store == nullptr) {
    done(impl_->shared->without_store(options.stream, events));
    return;
  }
  try {
    for (const Event& event : events) bus::check_incoming(event);
  } catch (const Error& error) {
    impl_->shared->failed.fetch_add(count, std::memory_order_relaxed);
    done(error);
    return;
  }
  // The store takes the events; observers need them afterwards. A copy, but none when nobody observes.
  const auto shown =
      std::make_shared<const std::vector<Event>>(impl_->shared->observers.size() == 0 ? std::vector<Event>{} : events);
  impl_->store->log().append_async(
      options.stream, std::move(events), options.durability,
      [shared = impl_->shared, shown, count, stream = options.stream, done = std::move(done)](AppendAnswer answer) {
        if (const auto* results = std::get_if<std::vector<AppendResult>>(&answer)) {
          shared->observe(stream, *shown, *results);
        } else {
          shared->failed.fetch_add(count, std::memory_order_relaxed);
        }
        done(std::move(answer));
      });
}

Observation Bus::observe(std::vector<std::string> types, ObserverFunction observer) {
  if (observer == nullptr) throw Error(Errc::invalid_argument, "observe", "observer", "an observer must be callable");
  const std::shared_ptr<bus::ObserverList> list(impl_->shared, &impl_->shared->observers);
  Observation observation;
  observation.state_ = std::make_shared<Observation::State>(std::move(types), std::move(observer), list);
  list->add(std::shared_ptr<bus::Observer>(observation.state_, &observation.state_->observer));
  return observation;
}

ReplayReport Bus::Impl::replay(Bus& bus, ReplayRecord record, const ReplayTarget& target,
                               const ReplayOptions& options) const {
  replay::StorePorts ports(
      *store,
      [&bus](const StreamName& stream, std::span<const Event> copies) {
        return bus.publish(copies, {.stream = stream});
      },
      options.stop);
  replay::run(ports, record, target, {options.window, options.progress, options.schemas});
  return std::move(record.report);
}

Store& Bus::Impl::store_for(std::string_view operation) const {
  if (store != nullptr) return *store;
  throw Error(Errc::invalid_argument, std::string(operation), "bus", "a bus without a store has nothing to replay");
}

ReplayReport Bus::replay(const ReplayQuery& query, const ReplayTarget& target, const ReplayOptions& options) {
  static_cast<void>(impl_->store_for("replay"));
  return impl_->replay(*this, replay::new_record(query, target, options), target, options);
}

ReplayReport Bus::resume_replay(const ReplayTarget& target, const ReplayOptions& options) {
  options.validate();
  return impl_->replay(*this, replay_record(impl_->store_for("resume replay").kv(), options.replayid), target, options);
}

Bus::Stats Bus::stats() const {
  const Impl::Shared& shared = *impl_->shared;
  Stats stats;
  stats.published = shared.published.load(std::memory_order_relaxed);
  stats.duplicates = shared.duplicates.load(std::memory_order_relaxed);
  stats.conflicts = shared.conflicts.load(std::memory_order_relaxed);
  stats.failed = shared.failed.load(std::memory_order_relaxed);
  stats.observers = shared.observers.size();
  stats.observer_failures = shared.observers.failures();
  return stats;
}

}  // namespace millrace
