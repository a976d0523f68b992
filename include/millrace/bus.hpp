// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The front door: publish events, observe them in process.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "millrace/replay.hpp"
#include "millrace/schema.hpp"
#include "millrace/store.hpp"

namespace millrace {

struct PublishOptions {
  StreamName stream = kDefaultStream;
  Durability durability = Durability::durable;
};

/// What an observer sees: a new event (never a duplicate), already stored.
struct Observed {
  const StreamName& stream;
  Position position;
  const Event& event;
};
using ObserverFunction = std::function<void(const Observed&)>;

/// Keeps an observer registered for as long as it lives. Movable. After `cancel` or destruction returns, the observer
/// is not running and will not run again (called from inside that very observer, it only will not run again).
class Observation {
 public:
  Observation() = default;
  Observation(Observation&&) noexcept;
  Observation& operator=(Observation&&) noexcept;
  ~Observation();
  void cancel();

  struct Counts {
    std::uint64_t calls = 0;
    std::uint64_t failures = 0;  ///< calls that threw
  };
  [[nodiscard]] Counts counts() const;

 private:
  friend class Bus;
  struct State;
  std::shared_ptr<State> state_;
};

/// Thread-safe. Publishing stores and acknowledges, or fails; it never drops and never delivers what is not stored.
class Bus {
 public:
  /// `store` must outlive the bus; nullptr makes a bus without a store, which only calls observers: a signal/slot with
  /// patterns, for code that shares its observers with a durable bus. It acknowledges nothing (Durability::memory) and,
  /// since nothing is kept, validates nothing; its positions count 1, 2, 3 …
  explicit Bus(Store* store);
  ~Bus();

  /// Stores, waits for the asked durability, then calls observers inline, in order. Each event is validated first.
  /// \throws Error as EventLog::append, or {invalid_event}: then nothing of the call is stored.
  std::vector<AppendResult> publish(std::span<const Event> events, const PublishOptions& options = {});
  AppendResult publish(const Event& event, const PublishOptions& options = {});

  /// Publishes a C++ value: its codec (schema.hpp) says type, version and data, so that
  /// `bus.publish("/scanner", AssetDiscovered{…})` is all there is to write. \throws Error as make_event and publish
  template <TypedEvent T>
  AppendResult publish(std::string_view source, const T& value, const PublishOptions& options = {}) {
    return publish(make_event(source, value), options);
  }

  /// The same with a completion. Observers run before `done`, on a thread of the store.
  void publish_async(std::vector<Event> events, const PublishOptions& options, AppendCompletion done);

  /// Calls `observer` for each new event published through this bus whose type matches any of `types` (empty: all).
  /// Inline after the append, on the publisher's thread. What it throws is counted and logged, and harms nobody else.
  /// Safe to call, and to destroy observations, at any time, also from inside an observer: one added during a dispatch
  /// sees the next event; one removed sees no further event.
  [[nodiscard]] Observation observe(std::vector<std::string> types, ObserverFunction observer);

  /// Gives the events of a stream that the query asks for to a handler, another stream (there they are published, and
  /// observed, as new events) or one group; see replay.hpp. Returns when it is finished, told to stop, or an event
  /// failed and it is to stop then: the report says which. Progress is recorded at least every second, for a group
  /// after each batch; a process that dies repeats what it did since. \throws Error as the store, after recording how
  /// far it was; {already_exists}: the replay id is taken; {busy}: somebody else resumed it
  ReplayReport replay(const ReplayQuery& query, const ReplayTarget& target, const ReplayOptions& options = {});
  /// Goes on with the recorded replay `options.replayid`: query, pace and what happens on an error are as asked then,
  /// and the target must be the same. A finished one answers its report at once. Whoever ran it is ended with {busy}.
  /// \throws Error{not_found}, and as replay
  ReplayReport resume_replay(const ReplayTarget& target, const ReplayOptions& options);

  struct Stats {
    std::uint64_t published = 0;  ///< events newly stored
    std::uint64_t duplicates = 0;
    std::uint64_t conflicts = 0;
    std::uint64_t failed = 0;     ///< events of calls that threw
    std::uint64_t observers = 0;  ///< now
    std::uint64_t observer_failures = 0;
  };
  [[nodiscard]] Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
