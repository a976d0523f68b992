// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace millrace::store::redis {

/// One answer of a Redis server, owned. A status ("OK") is a text.
struct Reply {
  enum class Kind { nil, integer, text, array, error };
  Kind kind = Kind::nil;
  std::int64_t integer = 0;
  std::string text = {};          ///< of a text, and of an error: "ERR …"
  std::vector<Reply> items = {};  ///< of an array

  [[nodiscard]] bool is_nil() const noexcept { return kind == Kind::nil; }
  [[nodiscard]] bool is_error() const noexcept { return kind == Kind::error; }
  /// \throws Error{corrupt} when it is of another kind: what is stored there is not ours
  [[nodiscard]] const std::string& as_text() const;
  [[nodiscard]] std::int64_t as_integer() const;
  [[nodiscard]] const std::vector<Reply>& as_array() const;

  bool operator==(const Reply&) const = default;
};

}  // namespace millrace::store::redis
