// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace millrace::store::redis {

/// A Lua script, compiled in: src/store/redis/lua/<name>.lua is `scripts::<name>` in "store/redis/scripts.hpp", which
/// the build makes. A name is lower case letters, digits and underscores.
///
/// A script answers with tables. What it refuses it returns as
/// `redis.error_reply('MILLRACE <code> <object> <text>')`, where the code is the name of an Errc and the object one
/// word (`-` for none); the client throws that as an Error.
struct Script {
  std::string_view name;
  std::string_view source;
  std::string sha1;  ///< in hexadecimal, as EVALSHA wants it
};

}  // namespace millrace::store::redis
