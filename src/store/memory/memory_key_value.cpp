// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "store/memory/memory_store.hpp"

namespace millrace::store::memory {

void MemoryKeyValue::drop(Entries::iterator it) {
  if (it->second.expires_at) expiries_.erase({*it->second.expires_at, it->first});
  entries_.erase(it);
}

void MemoryKeyValue::drop_expired() {
  const Timestamp now = shared_.clock.now();
  while (!expiries_.empty() && expiries_.begin()->first <= now) drop(entries_.find(expiries_.begin()->second));
}

std::uint64_t MemoryKeyValue::put(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) {
  const auto it = entries_.find(key);
  if (it != entries_.end()) drop(it);
  KeyValueEntry entry{std::string(key), std::string(value), ++version_, std::nullopt};
  if (ttl) {
    entry.expires_at = shared_.clock.now() + *ttl;
    expiries_.emplace(*entry.expires_at, entry.key);
  }
  entries_.emplace(entry.key, std::move(entry));
  return version_;
}

std::optional<KeyValueEntry> MemoryKeyValue::get(std::string_view key) {
  check_key(key, "get");
  const std::lock_guard lock(shared_.mutex);
  drop_expired();
  const auto it = entries_.find(key);
  if (it == entries_.end()) return std::nullopt;
  return it->second;
}

std::uint64_t MemoryKeyValue::set(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) {
  check_key(key, "set");
  check_ttl(ttl, "set");
  const std::lock_guard lock(shared_.mutex);
  drop_expired();
  return put(key, value, ttl);
}

std::optional<std::uint64_t> MemoryKeyValue::set_if_absent(std::string_view key, std::string_view value,
                                                           std::optional<Milliseconds> ttl) {
  check_key(key, "set if absent");
  check_ttl(ttl, "set if absent");
  const std::lock_guard lock(shared_.mutex);
  drop_expired();
  if (entries_.contains(key)) return std::nullopt;
  return put(key, value, ttl);
}

std::optional<std::uint64_t> MemoryKeyValue::compare_and_swap(std::string_view key, std::uint64_t expected,
                                                              std::string_view value, std::optional<Milliseconds> ttl) {
  check_key(key, "compare and swap");
  check_ttl(ttl, "compare and swap");
  const std::lock_guard lock(shared_.mutex);
  drop_expired();
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.version != expected) return std::nullopt;
  return put(key, value, ttl);
}

bool MemoryKeyValue::erase(std::string_view key, std::optional<std::uint64_t> expected) {
  check_key(key, "erase");
  const std::lock_guard lock(shared_.mutex);
  drop_expired();
  const auto it = entries_.find(key);
  if (it == entries_.end() || (expected && it->second.version != *expected)) return false;
  drop(it);
  return true;
}

std::vector<KeyValueEntry> MemoryKeyValue::scan(std::string_view prefix, std::string_view after, std::size_t limit) {
  const std::lock_guard lock(shared_.mutex);
  drop_expired();
  std::vector<KeyValueEntry> found;
  auto it = after < prefix ? entries_.lower_bound(prefix) : entries_.upper_bound(after);
  for (; it != entries_.end() && found.size() < limit && it->first.starts_with(prefix); ++it)
    found.push_back(it->second);
  return found;
}

}  // namespace millrace::store::memory
