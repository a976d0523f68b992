// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millrace/types.hpp"

namespace millrace {

/// A whole number and a unit, `ms`, `s`, `m`, `h` or `d`; a space between is allowed: "500ms", "10 m", "7d".
/// \throws Error{invalid_argument}
Milliseconds parse_duration(std::string_view text);
/// In the largest unit that divides it: "90s", "24h" as "1d", "0s". parse_duration reads it back.
std::string format_duration(Milliseconds duration);

/// A whole number of bytes, or with a unit `B`, `KiB`, `MiB`, `GiB` or `TiB`: "1024", "1MiB", "8 MiB".
/// \throws Error{invalid_argument}
std::uint64_t parse_size(std::string_view text);
/// In the largest unit that divides it: "8 MiB", "1000 B". parse_size reads it back.
std::string format_size(std::uint64_t bytes);

}  // namespace millrace
