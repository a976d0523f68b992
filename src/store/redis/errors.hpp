// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "millrace/error.hpp"

namespace millrace::store::redis {

/// The Errc of an error reply ("OOM command not allowed …").
Errc errc_of(std::string_view reply) noexcept;

/// An error reply as an Error. What a script refused ("MILLRACE <code> <object> <text>", the object `-` for none) keeps
/// the script's own code, object and text; else `server` is the object and the reply the native words.
Error to_error(std::string_view reply, std::string operation, const std::string& server);

}  // namespace millrace::store::redis
