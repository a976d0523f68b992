// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Store URLs: `<scheme>:<path>?<option>=<value>&…`, percent-encoded.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/store.hpp"

namespace millrace::store {

struct StoreUrl {
  std::string scheme;
  std::string path;  ///< decoded; everything between the scheme's colon and the question mark
  std::vector<std::pair<std::string, std::string>> options;  ///< decoded, in order
  std::string encoded_path = {};  ///< `path` as it was written, for those with a structure of its own; empty in a text
                                  ///< without a scheme
};

/// A text without a scheme is a path of the sqlite store, taken as it is; an empty one means `default_path()`.
/// \throws Error{invalid_argument}
StoreUrl parse_store_url(std::string_view text);

/// \throws Error{invalid_argument} naming `url`, of which `text` is a part, without its password
std::string percent_decoded(std::string_view text, std::string_view url);

/// `url` as it may be shown: with `***` for the password of `//user:password@host`, and for what may be meant as one.
/// Takes any text, also one that `parse_store_url` would refuse.
std::string without_password(std::string_view url);

/// `path` as a URL of the sqlite store.
std::string sqlite_url(std::string_view path);

/// `${XDG_DATA_HOME:-~/.local/share}/millrace/events.db`. \throws Error{invalid_argument} when neither it nor HOME is
/// set.
std::string default_path();

/// `options` with what the URL says laid over it. Every backend calls this once; one with options of its own takes them
/// out of `url.options` first. \throws Error{invalid_argument} naming an unknown option (and the known ones) or a bad
/// value.
StoreOptions with_url_options(const StoreUrl& url, StoreOptions options);

}  // namespace millrace::store
