// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "millrace/key_value.hpp"
#include "store/redis/client.hpp"
#include "store/redis/keys.hpp"

namespace millrace::store::redis {

/// Keys and values on a server: `millrace:kv:<key>` is a hash of value, version and expiry, which Redis itself lets
/// expire; `millrace:kv` is an index of all keys in byte order, which may still name some that have expired. Several
/// processes share it.
class RedisKeyValue final : public KeyValue {
 public:
  RedisKeyValue(Client& client, const Keys& keys) : client_(client), keys_(keys) {}

  std::optional<KeyValueEntry> get(std::string_view key) override;
  std::uint64_t set(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) override;
  std::optional<std::uint64_t> set_if_absent(std::string_view key, std::string_view value,
                                             std::optional<Milliseconds> ttl) override;
  std::optional<std::uint64_t> compare_and_swap(std::string_view key, std::uint64_t expected, std::string_view value,
                                                std::optional<Milliseconds> ttl) override;
  bool erase(std::string_view key, std::optional<std::uint64_t> expected) override;
  std::vector<KeyValueEntry> scan(std::string_view prefix, std::string_view after, std::size_t limit) override;

  /// Takes expired keys out of a part of the index, beginning after a key. Where to go on; empty at the end.
  std::string clean(const std::string& after);

 private:
  std::optional<std::uint64_t> write(std::string_view operation, const std::string& when, std::string_view key,
                                     std::string_view value, std::optional<Milliseconds> ttl);

  Client& client_;
  const Keys& keys_;
};

}  // namespace millrace::store::redis
