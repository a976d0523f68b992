// SPDX-License-Identifier: Apache-2.0
#include "cli/sse.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace millrace::cli {
namespace {

constexpr std::string_view kStream =
    ": hello\n\nid: 1\ndata: {\"a\":\ndata: 1}\n\nid: 2\r\n\r\nevent: gap\ndata: {}\n\nid: 3\ndata: unfinished";

std::vector<std::string> parsed(std::size_t chunk) {
  SseParser parser;
  std::vector<std::string> out;
  for (std::size_t from = 0; from < kStream.size(); from += chunk) {
    parser.feed(kStream.substr(from, chunk), [&](const SseParser::Message& message) {
      out.push_back(message.id + '|' + message.event + '|' + message.data);
      return true;
    });
  }
  return out;
}

TEST(SseParser, GivesTheSameMessagesWhateverTheChunks) {
  const std::vector<std::string> expected{"1||{\"a\":\n1}", "2||", "|gap|{}"};
  for (std::size_t chunk = 1; chunk <= kStream.size(); ++chunk) EXPECT_EQ(parsed(chunk), expected) << chunk;
}

TEST(SseParser, StopsWhenToldTo) {
  SseParser parser;
  int seen = 0;
  EXPECT_FALSE(parser.feed("data: 1\n\ndata: 2\n\n", [&](const SseParser::Message&) { return ++seen < 1; }));
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace millrace::cli
