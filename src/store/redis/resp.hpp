// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The protocol (RESP 2). Answers are read by hiredis.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/redis/reply.hpp"

struct redisReader;

namespace millrace::store::redis {

/// Words of a command in the form in which they are sent: what many callers made is joined without being looked at
/// again.
struct EncodedWords {
  std::size_t count = 0;
  std::string bytes = {};

  void add(std::string_view word);
  void add(const EncodedWords& words);
};

/// Appends the bytes of one command. \throws Error{too_large}
void format_command(const std::vector<std::string_view>& command, std::string& out);
void format_command(const std::vector<std::string>& command, std::string& out);
/// A command of `head` and `rest`.
void format_command(const std::vector<std::string_view>& head, const EncodedWords& rest, std::string& out);

/// Makes replies of the bytes that came. After it threw, the connection they came from is of no use.
class ReplyReader {
 public:
  ReplyReader();
  ~ReplyReader();
  ReplyReader(const ReplyReader&) = delete;
  ReplyReader& operator=(const ReplyReader&) = delete;

  void feed(std::string_view bytes);
  /// The next whole reply. \throws Error{corrupt} when the bytes are no replies
  std::optional<Reply> next();

 private:
  struct Free {
    void operator()(redisReader* reader) const;
  };
  struct State;  ///< what hiredis builds
  struct Maker;  ///< how
  void begin_large();
  [[nodiscard]] std::string_view take_large(std::string_view bytes);
  void give(std::string_view bytes);

  std::unique_ptr<State> state_;
  std::unique_ptr<redisReader, Free> reader_;
  std::size_t large_missing_ = 0;  ///< bytes of a large text, and the end of its line, that have not come yet
};

}  // namespace millrace::store::redis
