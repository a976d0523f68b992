// SPDX-License-Identifier: Apache-2.0

// What the fuzzers found worth keeping, and every input that once broke something, run again by any compiler.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "fuzz.hpp"

namespace millrace::fuzz {
namespace {

const std::filesystem::path kCorpus = MILLRACE_FUZZ_CORPUS;

class Corpus : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Of, Corpus, testing::ValuesIn(targets().begin(), targets().end()),
                         [](const auto& target) { return std::string(target.param.name); });

TEST_P(Corpus, BreaksNothing) {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kCorpus / GetParam().name)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), {}};
    EXPECT_NO_THROW(GetParam().run(input)) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 0U) << "a target without a corpus shows nothing here";
}

TEST_P(Corpus, TakesNoInputAtAll) {
  EXPECT_NO_THROW(GetParam().run({}));
}

TEST(CorpusFolder, HoldsNothingThatNoTargetReads) {
  for (const auto& entry : std::filesystem::directory_iterator(kCorpus)) {
    EXPECT_TRUE(std::any_of(targets().begin(), targets().end(), [&](const Target& target) {
      return target.name == entry.path().filename().string();
    })) << entry.path();
  }
}

}  // namespace
}  // namespace millrace::fuzz
