// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Small shared state beside the log: keys to bytes, with versions and expiry on the store's clock.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/types.hpp"

namespace millrace {

struct KeyValueEntry {
  std::string key = {};
  std::string value = {};
  std::uint64_t version = 0;  ///< grows with every write to any key; never reused
  std::optional<Timestamp> expires_at = {};
};

/// Thread-safe; every write is atomic and durable when it returns. Keys: 1 to 512 bytes. A `ttl` is at least 1 ms; an
/// expired key is absent. \throws Error{invalid_argument} for other keys and times.
class KeyValue {
 public:
  virtual ~KeyValue() = default;

  virtual std::optional<KeyValueEntry> get(std::string_view key) = 0;
  /// Returns the new version. Without `ttl` the key does not expire, even if it did before.
  virtual std::uint64_t set(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl = {}) = 0;
  /// The new version, or nullopt when the key is present.
  virtual std::optional<std::uint64_t> set_if_absent(std::string_view key, std::string_view value,
                                                     std::optional<Milliseconds> ttl = {}) = 0;
  /// The new version, or nullopt when the key's version is not `expected` (or it is absent).
  virtual std::optional<std::uint64_t> compare_and_swap(std::string_view key, std::uint64_t expected,
                                                        std::string_view value,
                                                        std::optional<Milliseconds> ttl = {}) = 0;
  /// True when it was there (and, if given, had that version) and is gone now.
  virtual bool erase(std::string_view key, std::optional<std::uint64_t> expected = {}) = 0;
  /// Entries whose key begins with `prefix` and is greater than `after`, in byte order.
  virtual std::vector<KeyValueEntry> scan(std::string_view prefix, std::string_view after = {},
                                          std::size_t limit = 100) = 0;
};

}  // namespace millrace
