// SPDX-License-Identifier: Apache-2.0
#include "cli/table.hpp"

#include <gtest/gtest.h>

namespace millrace::cli {
namespace {

TEST(Table, AlignsColumnsByCharactersNotBytes) {
  Table table({"NAME", "#N"});
  table.row({"Zoë", "1"});
  table.row({"Bob", "100"});
  EXPECT_EQ(table.text(false), "NAME    N\nZoë     1\nBob   100\n");
}

TEST(Table, LeavesNoBlanksAtTheEndOfALine) {
  Table table({"A", "B"});
  table.row({"x", "y"});
  table.row({"x", "long"});
  EXPECT_EQ(table.text(false), "A  B\nx  y\nx  long\n");
}

TEST(Table, ShortensTheWidestTextsToFitTheTerminalButNoNumber) {
  Table table({"SHORT", "LONG", "#NUMBER"});
  table.row({"abc", "a very long text that goes on", "1234567890"});
  EXPECT_EQ(table.text(false, 30), "SHORT  LONG             NUMBER\nabc    a very lon…  1234567890\n");
  EXPECT_EQ(table.text(false, 200), table.text(false));
}

TEST(Table, CutsALineThatCannotFit) {
  Table table({"#A", "#B"});
  table.row({"1234567890", "1234567890"});
  EXPECT_EQ(table.text(false, 15), "         A    …\n1234567890  12…\n");
}

TEST(Cell, ShowsWhatIsAbsentAsADash) {
  const auto value = boost::json::parse(R"({"a": {"b": null, "c": "", "d": 5, "e": ["x", "y"]}})");
  EXPECT_EQ(cell_at(value, "a.b"), "-");
  EXPECT_EQ(cell_at(value, "a.c"), "-");
  EXPECT_EQ(cell_at(value, "a.d"), "5");
  EXPECT_EQ(cell_at(value, "a.e"), "x, y");
  EXPECT_EQ(cell_at(value, "a.z"), "-");
  EXPECT_EQ(cell_at(value, "q.z"), "-");
}

TEST(Cell, LetsNoControlCharacterReachTheTerminal) {
  EXPECT_EQ(cell(boost::json::string("a\033[31mb")).find('\033'), std::string::npos);
}

TEST(Shortened, CutsBetweenCharacters) {
  EXPECT_EQ(shortened("abc", 3), "abc");
  EXPECT_EQ(shortened("äöüß", 3), "äö…");
}

TEST(HumanSeconds, NamesTheTwoLargestUnits) {
  EXPECT_EQ(human_seconds(0), "0.0s");
  EXPECT_EQ(human_seconds(61), "1m 1s");
  EXPECT_EQ(human_seconds(3700), "1h 1m");
  EXPECT_EQ(human_seconds(90'061), "1d 1h");
}

}  // namespace
}  // namespace millrace::cli
