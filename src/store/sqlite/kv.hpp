// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "millrace/key_value.hpp"
#include "store/sqlite/readers.hpp"
#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {

/// Keys and values of one file. Reads go beside the writer; expiry is judged by the store's clock.
class SqliteKeyValue final : public KeyValue {
 public:
  SqliteKeyValue(Writer& writer, Readers& readers, const StoreClock& clock)
      : writer_(writer), readers_(readers), clock_(clock) {}

  std::optional<KeyValueEntry> get(std::string_view key) override;
  std::uint64_t set(std::string_view key, std::string_view value, std::optional<Milliseconds> ttl) override;
  std::optional<std::uint64_t> set_if_absent(std::string_view key, std::string_view value,
                                             std::optional<Milliseconds> ttl) override;
  std::optional<std::uint64_t> compare_and_swap(std::string_view key, std::uint64_t expected, std::string_view value,
                                                std::optional<Milliseconds> ttl) override;
  bool erase(std::string_view key, std::optional<std::uint64_t> expected) override;
  std::vector<KeyValueEntry> scan(std::string_view prefix, std::string_view after, std::size_t limit) override;

 private:
  Writer& writer_;
  Readers& readers_;
  const StoreClock& clock_;
};

}  // namespace millrace::store::sqlite
