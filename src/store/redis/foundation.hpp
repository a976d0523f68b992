// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The hash `millrace:meta`: that there is a store, of which format, since when.

#include <optional>

#include "store/redis/client.hpp"
#include "store/redis/keys.hpp"

namespace millrace::store::redis {

/// The format of everything that docs/redis-format.md describes. A newer one is refused.
inline constexpr std::int64_t kFormat = 1;

struct Foundation {
  std::int64_t format = 0;
  std::string made_at = {};  ///< microseconds: another one tells that it is another store
  bool made_now = false;
};

/// What is there; nullopt when nothing is and `make` is false. Else it is made.
/// \throws Error{unsupported_version} naming both formats; {corrupt}
std::optional<Foundation> look_at_foundation(Client& client, const Keys& keys, bool make);

}  // namespace millrace::store::redis
