// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the fuzzers and the replay of their corpus share: one function per target, from bytes to a judgement. A target
/// returns when all is well and throws `Broken` when a promise does not hold; whatever else it lets out is a bug, too.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "millrace/error.hpp"

namespace millrace::fuzz {

/// A promise that does not hold.
class Broken : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};
inline void require(bool holds, const std::string& promise) {
  if (!holds) throw Broken(promise);
}

struct Target {
  std::string_view name;  ///< also of its folder in the corpus
  void (*run)(std::string_view input);
};
std::span<const Target> targets();

/// What `read` answers, or nullopt when it refuses as a reader may: by `Error`, and never by "a bug in Millrace".
template <class Read>
auto value_or_refusal(Read&& read) -> std::optional<decltype(read())> {
  try {
    return read();
  } catch (const Error& error) {
    require(error.code() != Errc::internal, std::string("no internal error: ") + error.what());
    require(!error.message().empty(), "a refusal says what was wrong");
    return std::nullopt;
  }
}

/// Takes the input apart, from the front. Past its end there are only zeros.
class Bytes {
 public:
  explicit Bytes(std::string_view input) : rest_(input) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }
  std::size_t below(std::size_t bound) { return byte() % bound; }
  /// Up to the next newline, which is taken too.
  std::string_view line() {
    const std::size_t end = rest_.find('\n');
    const std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    return text;
  }
  std::string_view rest() { return std::exchange(rest_, {}); }

 private:
  std::string_view rest_;
};

// event_targets.cpp
void json_event(std::string_view input);
void json_batch(std::string_view input);
void http_binary(std::string_view input);
void schema_changes(std::string_view input);
// glob_target.cpp
void glob(std::string_view input);
// text_targets.cpp
void text_values(std::string_view input);
void range_set(std::string_view input);
void store_url(std::string_view input);
// daemon_targets.cpp
void publish_body(std::string_view input);
void params(std::string_view input);
void sse(std::string_view input);
void ndjson(std::string_view input);
// config_target.cpp
void config(std::string_view input);
// replay_target.cpp
void replay_record(std::string_view input);
// group_target.cpp
void group_operations(std::string_view input);
// store_target.cpp
void store_operations(std::string_view input);

}  // namespace millrace::fuzz
