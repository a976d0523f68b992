// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The events every contender stores, and the proof afterwards that each of them is there once.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/event.hpp"
#include "millrace/store.hpp"

namespace bench {

/// Makes events with 256 bytes of data. The last 48 bits of an id are its number, so that a reader can tell which
/// events it has seen. Not thread-safe.
class Workload {
 public:
  enum class Ids {
    growing,  ///< UUIDv7
    random,   ///< UUIDv4, but for the number
  };
  /// \param sources events are spread over so many sources, in turn.
  explicit Workload(std::size_t sources = 1, Ids ids = Ids::growing);
  std::vector<millrace::Event> take(std::size_t count);
  millrace::Event next();
  [[nodiscard]] std::uint64_t taken() const { return number_; }

 private:
  Ids ids_;
  std::uint64_t number_ = 0;
  std::uint64_t first_ms_;
  std::uint64_t random_;
  std::vector<std::string> sources_;
  std::string noise_;
};

/// Marks off the events that were read back. Every figure ends with `check`: what was refused, answered as a duplicate
/// or lost cannot count as work.
class Roll {
 public:
  explicit Roll(std::uint64_t expected) : seen_(expected, false) {}
  void mark(std::string_view id);
  void check(std::string_view who) const;  ///< \throws std::runtime_error unless each was marked exactly once

 private:
  std::vector<bool> seen_;
  std::uint64_t marked_ = 0;
};

/// Reads a whole stream back and checks it. \throws std::runtime_error unless it holds exactly the first `count`
/// events.
void verify_log(millrace::Store& store, std::uint64_t count, std::string_view who);

/// What the raw file contenders write for an event: its attributes and data, length-prefixed.
void flatten(const millrace::Event& event, std::string& out);

}  // namespace bench
