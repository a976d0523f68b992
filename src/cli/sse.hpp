// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace millrace::cli {

/// Cuts a `text/event-stream` (WHATWG HTML §9.2) into messages, whatever the chunks.
class SseParser {
 public:
  struct Message {
    std::string id;  ///< empty when this block had none
    std::string event;
    std::string data;
  };
  /// Calls `each` for every complete block, also one without data; an answer of false stops and is returned.
  bool feed(std::string_view chunk, const std::function<bool(const Message&)>& each);

 private:
  std::string rest_;
  Message message_;
  bool any_ = false;
};

}  // namespace millrace::cli
