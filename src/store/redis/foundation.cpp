// SPDX-License-Identifier: Apache-2.0
#include "store/redis/foundation.hpp"

#include "store/redis/group_rows.hpp"
#include "store/redis/scripts.hpp"

namespace millrace::store::redis {

std::optional<Foundation> look_at_foundation(Client& client, const Keys& keys, bool make) {
  const Reply reply = client.run(Purpose::ledger, scripts::open, {keys.meta()},
                                 {std::to_string(kFormat), make ? "1" : "0"}, make ? Access::write : Access::read);
  const auto& words = reply.as_array();
  const std::string& format = words.at(0).as_text();
  if (format.empty()) return std::nullopt;
  Foundation found{static_cast<std::int64_t>(decode_number(format, keys.meta())), words.at(1).as_text(),
                   words.at(2).as_integer() == 1};
  if (found.format > kFormat) {
    throw Error(Errc::unsupported_version, "open store", client.url().describe(),
                "the store has format " + format + ", and this Millrace knows formats up to " +
                    std::to_string(kFormat) + ": use a newer Millrace");
  }
  return found;
}

}  // namespace millrace::store::redis
