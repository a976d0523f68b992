// SPDX-License-Identifier: Apache-2.0
#include "cli/ndjson.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "millrace/error.hpp"

namespace millrace::cli {

std::optional<std::string> LineReader::next() {
  std::size_t searched = from_;
  for (;;) {
    const std::size_t found = buffer_.find('\n', searched);
    const std::size_t end = found == std::string::npos ? buffer_.size() : found;
    const bool whole = found != std::string::npos || ended_;
    if (ended_ && from_ == buffer_.size()) return std::nullopt;
    if (end - from_ > longest_) {
      throw Error(Errc::too_large, "read events", "line " + std::to_string(line_number_ + 1),
                  "is longer than " + std::to_string(longest_) + " bytes");
    }
    if (whole) {
      std::string line = buffer_.substr(from_, end - from_);
      from_ = searched = found == std::string::npos ? end : end + 1;
      ++line_number_;
      if (line.ends_with('\r')) line.pop_back();
      if (line.find_first_not_of(" \t") != std::string::npos) return line;
      continue;
    }
    buffer_.erase(0, from_);
    from_ = 0;
    searched = buffer_.size();
    ended_ = !fill();
  }
}

bool LineReader::ready() const {
  if (ended_ || buffer_.find('\n', from_) != std::string::npos) return true;
  pollfd input{descriptor_, POLLIN, 0};
  return poll(&input, 1, 0) > 0;
}

bool LineReader::fill() {
  std::array<char, 1 << 16> chunk{};
  for (;;) {
    const ssize_t got = read(descriptor_, chunk.data(), chunk.size());
    if (got > 0) {
      buffer_.append(chunk.data(), static_cast<std::size_t>(got));
      bytes_read_ += static_cast<std::uint64_t>(got);
      return true;
    }
    if (got == 0) return false;
    if (errno != EINTR) throw Error(Errc::unavailable, "read events", "stdin", "cannot be read", std::strerror(errno));
  }
}

}  // namespace millrace::cli
