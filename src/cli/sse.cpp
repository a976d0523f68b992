// SPDX-License-Identifier: Apache-2.0
#include "cli/sse.hpp"

namespace millrace::cli {

bool SseParser::feed(std::string_view chunk, const std::function<bool(const Message&)>& each) {
  const std::size_t searched = rest_.size();
  rest_ += chunk;
  std::size_t from = 0;
  for (std::size_t end = rest_.find('\n', searched); end != std::string::npos; end = rest_.find('\n', from)) {
    std::string_view line = std::string_view(rest_).substr(from, end - from);
    from = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) {
      if (any_ && !each(message_)) return false;
      message_ = {};
      any_ = false;
      continue;
    }
    const std::size_t colon = line.find(':');
    const std::string_view field = line.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    any_ = any_ || !field.empty();  // a line that begins with a colon is a comment
    if (field == "id") message_.id = value;
    if (field == "event") message_.event = value;
    if (field == "data") message_.data += (message_.data.empty() ? "" : "\n") + std::string(value);
  }
  rest_.erase(0, from);
  return true;
}

}  // namespace millrace::cli
