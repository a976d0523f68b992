// SPDX-License-Identifier: Apache-2.0
#include "store/redis/keys.hpp"

namespace millrace::store::redis {

std::string Keys::of_stream(const StreamName& stream, std::string_view what) const {
  return prefix_ + "millrace:stream:" + stream.str() + std::string(what);
}

std::string Keys::of_group(const GroupName& group, std::string_view what) const {
  return prefix_ + "millrace:group:" + group.str() + std::string(what);
}

}  // namespace millrace::store::redis
