// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A subscription: a durable group, a handler, and the loop that runs one against the other.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "millrace/schema.hpp"
#include "millrace/store.hpp"

namespace millrace {

/// Answers for one delivery. Throwing is a retry with the exception's text as reason.
using Handler = std::function<Outcome(const Delivery&)>;

/// For handlers that do I/O: return at once, call `done` exactly once later, from any thread. Dropping it uncalled is a
/// retry ("handler gave no answer").
using HandlerDone = std::function<void(Outcome)>;
using AsyncHandler = std::function<void(const Delivery&, HandlerDone)>;

struct SubscriptionOptions {
  GroupName group;
  StreamName stream = kDefaultStream;
  std::vector<std::string> types = {};  ///< patterns; empty = all
  Start start = Start::end();           ///< where the group begins when this creates it
  OrderRule order = {};
  GroupSettings settings = {};
  std::string consumer = {};  ///< empty = "<host>-<pid>"
  /// Brings events up to date before the handler sees them, no further than the group's `max_dataversion`; a failure is
  /// the delivery's failure, with its reason. Absent: they are handed over as stored. The store remembers which steps
  /// it has, so that a daemon on the same store does not show an old shape.
  std::shared_ptr<const SchemaRegistry> schemas = {};

  std::size_t batch = 100;       ///< most events per claim, 1 … 10'000. More saves commits, less spreads work
  std::size_t concurrency = 1;   ///< handlers at once, 1 … 1'000
  Milliseconds timeout{30'000};  ///< per delivery; passing it is a transient failure; its late answer is ignored
  Milliseconds lease{3'000};     ///< of the session: how soon others take over after a crash; renewed at a third
  void validate() const;         ///< \throws Error{invalid_argument} naming field and value
};

namespace detail {
template <class F>
struct FirstParameter {};
template <class F>
requires requires {
  &F::operator();
}
struct FirstParameter<F> : FirstParameter<decltype(&F::operator())> {};
template <class R, class A, class... More, bool kNoexcept>
struct FirstParameter<R (*)(A, More...) noexcept(kNoexcept)> {
  using Type = std::remove_cvref_t<A>;
};
template <class C, class R, class A, class... More, bool kNoexcept>
struct FirstParameter<R (C::*)(A, More...) noexcept(kNoexcept)> : FirstParameter<R (*)(A, More...)> {};
template <class C, class R, class A, class... More, bool kNoexcept>
struct FirstParameter<R (C::*)(A, More...) const noexcept(kNoexcept)> : FirstParameter<R (*)(A, More...)> {};
template <class F>
using EventOf = typename FirstParameter<F>::Type;
}  // namespace detail

/// `Outcome(const AssetDiscovered&)` or `Outcome(const AssetDiscovered&, const Delivery&)`, for a type with a codec.
template <class F>
concept TypedHandler = TypedEvent<detail::EventOf<F>> &&
    (std::is_invocable_r_v<Outcome, F&, const detail::EventOf<F>&> ||
     std::is_invocable_r_v<Outcome, F&, const detail::EventOf<F>&, const Delivery&>);

/// Runs from construction until `stop`. Thread-safe.
class Subscription {
 public:
  /// Creates or joins the group and starts claiming. `store` must outlive it.
  /// \throws Error as Ledger::ensure_group, or {invalid_argument}
  Subscription(Store& store, SubscriptionOptions options, Handler handler);
  Subscription(Store& store, SubscriptionOptions options, AsyncHandler handler);
  /// With a handler of decoded events. Without `types` it gets those of the codec's type. Events are brought to the
  /// codec's version, even if newer ones are registered; one of another type or version, or that the codec cannot
  /// decode, is a failed delivery with that reason.
  template <TypedHandler F>
  Subscription(Store& store, SubscriptionOptions options, F handler)
      : Subscription(store, typed<detail::EventOf<F>>(std::move(options)),
                     Handler([handler = std::move(handler)](const Delivery& delivery) mutable -> Outcome {
                       using T = detail::EventOf<F>;
                       const T event = decode_event<T>(delivery.event);
                       if constexpr (std::is_invocable_r_v<Outcome, F&, const T&, const Delivery&>) {
                         return handler(event, delivery);
                       } else {
                         return handler(event);
                       }
                     }),
                     EventCodec<detail::EventOf<F>>::version) {}
  ~Subscription();  ///< stop(0): releases what is not answered

  /// Stops claiming, waits up to `grace` for running handlers, settles what they answered, releases the rest uncharged.
  /// A handler still running then may finish, but its answer is ignored; a sync one is joined before this returns.
  /// True when nothing had to be released. Idempotent.
  bool stop(Milliseconds grace = Milliseconds{10'000});

  void pause();  ///< this consumer only: claims nothing more until resume; what runs is finished
  void resume();
  /// Waits until the group has nothing ahead, in flight or waiting, or `timeout` passed. True when drained.
  bool drain(Milliseconds timeout);

  struct Stats {
    std::uint64_t delivered = 0;  ///< handler calls
    std::uint64_t acked = 0;
    std::uint64_t retried = 0;
    std::uint64_t rejected = 0;
    std::uint64_t released = 0;
    std::uint64_t timed_out = 0;
    std::uint64_t stale = 0;  ///< answers that came too late
    std::uint64_t store_errors = 0;
  };
  [[nodiscard]] Stats stats() const;

 private:
  /// \param newest  the newest version the handler knows
  Subscription(Store& store, SubscriptionOptions options, Handler handler, std::int32_t newest);
  void launch(Handler handler);

  template <class T>
  static SubscriptionOptions typed(SubscriptionOptions options) {
    if (options.types.empty()) options.types = {EventCodec<T>::type};
    return options;
  }

  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
