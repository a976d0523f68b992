// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace millrace {

/// RFC 4648 §4, with padding.
void append_base64(std::string& out, std::string_view bytes);
/// Only what append_base64 writes: padding needed, no white space, unused bits zero; nullopt otherwise.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace millrace
