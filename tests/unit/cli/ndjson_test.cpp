// SPDX-License-Identifier: Apache-2.0
#include "cli/ndjson.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

#include "millrace/error.hpp"

namespace millrace::cli {
namespace {

/// A pipe whose writing end a test feeds piece by piece.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe(ends_.data()), 0); }
  ~Pipe() {
    finish();
    close(ends_[0]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void write(const std::string& text) const {
    EXPECT_EQ(::write(ends_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void finish() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }
  [[nodiscard]] int reading_end() const { return ends_[0]; }

 private:
  std::array<int, 2> ends_{-1, -1};
};

TEST(LineReader, NumbersLinesAndLeavesOutEmptyOnes) {
  Pipe pipe;
  pipe.write("one\r\n\n  \ntwo\nlast");
  pipe.finish();
  LineReader reader(pipe.reading_end(), 100);
  EXPECT_EQ(reader.next(), "one");
  EXPECT_EQ(reader.line_number(), 1U);
  EXPECT_EQ(reader.next(), "two");
  EXPECT_EQ(reader.line_number(), 4U);
  EXPECT_EQ(reader.next(), "last");
  EXPECT_EQ(reader.line_number(), 5U);
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_EQ(reader.bytes_read(), 17U);
}

TEST(LineReader, IsReadyOnlyWhileMoreStandsInThePipe) {
  Pipe pipe;
  LineReader reader(pipe.reading_end(), 100);
  EXPECT_FALSE(reader.ready());
  pipe.write("one\ntwo\n");
  EXPECT_TRUE(reader.ready());
  EXPECT_EQ(reader.next(), "one");
  EXPECT_TRUE(reader.ready());
  EXPECT_EQ(reader.next(), "two");
  EXPECT_FALSE(reader.ready());
  pipe.finish();
  EXPECT_TRUE(reader.ready());
  EXPECT_EQ(reader.next(), std::nullopt);
}

TEST(LineReader, RefusesALineThatIsTooLongByItsNumber) {
  Pipe pipe;
  pipe.write("ok\n" + std::string(50, 'x') + '\n');
  LineReader reader(pipe.reading_end(), 20);
  EXPECT_EQ(reader.next(), "ok");
  try {
    reader.next();
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::too_large);
    EXPECT_EQ(error.object(), "line 2");
  }
}

TEST(LineReader, RefusesAnEndlessLineWithoutReadingItAll) {
  Pipe pipe;
  pipe.write(std::string(60'000, 'x'));
  LineReader reader(pipe.reading_end(), 20);
  EXPECT_THROW(reader.next(), Error);
}

}  // namespace
}  // namespace millrace::cli
