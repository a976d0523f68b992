// SPDX-License-Identifier: Apache-2.0
#include "store/redis/key_value.hpp"

#include <algorithm>
#include <charconv>

#include "store/common.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {
namespace {

/// At so many keys one script looks: the server does nothing else meanwhile.
constexpr std::size_t kLookAt = 500;

template <class Number>
Number number(const std::string& text, std::string_view key) {
  Number value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size()) {
    throw Error(Errc::corrupt, "get", std::string(key), "what stands under this key was not written by Millrace");
  }
  return value;
}

KeyValueEntry entry_of(std::string key, std::string value, const std::string& version, const std::string& expires_at) {
  KeyValueEntry entry{std::move(key), std::move(value), 0, std::nullopt};
  entry.version = number<std::uint64_t>(version, entry.key);
  if (!expires_at.empty()) {
    entry.expires_at = Timestamp{std::chrono::microseconds{number<std::int64_t>(expires_at, entry.key)}};
  }
  return entry;
}

/// Behind all keys that begin with `prefix`, as a bound of a range.
std::string end_of(std::string_view prefix) {
  const std::string next = after_prefix(prefix);
  return next.empty() ? "+" : "(" + next;
}

}  // namespace

std::optional<KeyValueEntry> RedisKeyValue::get(std::string_view key) {
  check_key(key, "get");
  const Reply reply =
      client_.call(Purpose::key_value, {"HMGET", keys_.kv(key), "value", "version", "expires_at"}, Access::read);
  const std::vector<Reply>& fields = reply.as_array();
  if (fields.at(1).is_nil()) return std::nullopt;
  return entry_of(std::string(key), fields.at(0).as_text(), fields.at(1).as_text(),
                  fields.at(2).is_nil() ? std::string{} : fields.at(2).as_text());
}

std::optional<std::uint64_t> RedisKeyValue::write(std::string_view operation, const std::string& when,
                                                  std::string_view key, std::string_view value,
                                                  std::optional<Milliseconds> ttl) {
  check_key(key, operation);
  check_ttl(ttl, operation);
  // Two hundred years; a script counts microseconds exactly for a little longer.
  constexpr Milliseconds kForever{200LL * 366 * 24 * 3600 * 1000};
  const Reply reply =
      client_.run(Purpose::key_value, scripts::kv_write, {keys_.kv(key), keys_.kv_index(), keys_.meta()},
                  {when, std::string(key), std::string(value),
                   ttl ? std::to_string(std::min(*ttl, kForever).count()) : std::string{}});
  if (reply.is_nil()) return std::nullopt;
  return static_cast<std::uint64_t>(reply.as_integer());
}

std::uint64_t RedisKeyValue::set(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) {
  return write("set", "always", key, value, ttl).value();
}

std::optional<std::uint64_t> RedisKeyValue::set_if_absent(std::string_view key, std::string_view value,
                                                          std::optional<Milliseconds> ttl) {
  return write("set if absent", "absent", key, value, ttl);
}

std::optional<std::uint64_t> RedisKeyValue::compare_and_swap(std::string_view key, std::uint64_t expected,
                                                             std::string_view value, std::optional<Milliseconds> ttl) {
  return write("compare and swap", std::to_string(expected), key, value, ttl);
}

bool RedisKeyValue::erase(std::string_view key, std::optional<std::uint64_t> expected) {
  check_key(key, "erase");
  return client_
             .run(Purpose::key_value, scripts::kv_erase, {keys_.kv(key), keys_.kv_index()},
                  {std::string(key), expected ? std::to_string(*expected) : std::string{}})
             .as_integer() == 1;
}

std::vector<KeyValueEntry> RedisKeyValue::scan(std::string_view prefix, std::string_view after, std::size_t limit) {
  std::vector<KeyValueEntry> entries;
  std::string begin = !after.empty() && after >= prefix ? "(" + std::string(after) : "[" + std::string(prefix);
  const std::string end = end_of(prefix);
  while (entries.size() < limit) {
    const std::size_t wanted = std::min(limit - entries.size(), kLookAt);
    const Reply reply =
        client_.run(Purpose::key_value, scripts::kv_scan, {keys_.kv_index()},
                    {keys_.kv({}), begin, end, std::to_string(wanted), std::to_string(kLookAt)}, Access::read);
    const std::vector<Reply>& words = reply.as_array();
    for (std::size_t i = 1; i + 3 < words.size(); i += 4) {
      entries.push_back(
          entry_of(words[i].as_text(), words[i + 1].as_text(), words[i + 2].as_text(), words[i + 3].as_text()));
    }
    const std::string& last = words.at(0).as_text();
    if (last.empty()) break;
    begin = "(" + last;
  }
  return entries;
}

std::string RedisKeyValue::clean(const std::string& after) {
  const Reply reply = client_.run(Purpose::key_value, scripts::kv_scan, {keys_.kv_index()},
                                  {keys_.kv({}), "(" + after, "+", "0", std::to_string(kLookAt)}, Access::read);
  return reply.as_array().at(0).as_text();
}

}  // namespace millrace::store::redis
