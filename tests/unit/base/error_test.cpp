// SPDX-License-Identifier: Apache-2.0
#include "millrace/error.hpp"

#include <gtest/gtest.h>

#include <set>

namespace millrace {
namespace {

constexpr auto kLast = static_cast<int>(Errc::internal);

TEST(Error, GivesEachCodeItsOwnSnakeCaseName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= kLast; ++code) {
    const auto name = to_string(static_cast<Errc>(code));
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos) << name;
    names.insert(name);
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kLast + 1));
  EXPECT_EQ(to_string(Errc::outcome_unknown), "outcome_unknown");
}

TEST(Error, CallsExactlyFiveCodesTransient) {
  const std::set<Errc> transient{Errc::busy, Errc::store_full, Errc::unavailable, Errc::outcome_unknown,
                                 Errc::timed_out};
  for (int code = 0; code <= kLast; ++code) {
    EXPECT_EQ(is_transient(static_cast<Errc>(code)), transient.count(static_cast<Errc>(code)) == 1) << code;
  }
}

TEST(Error, SaysOperationObjectMessageCodeAndNativeWords) {
  const Error full(Errc::store_full, "append", "events", "the disk is full", "SQLITE_FULL");
  EXPECT_STREQ(full.what(), "append events: the disk is full [store_full; SQLITE_FULL]");
  EXPECT_EQ(full.code(), Errc::store_full);
  EXPECT_EQ(full.operation(), "append");
  EXPECT_EQ(full.object(), "events");
  EXPECT_EQ(full.message(), "the disk is full");
  EXPECT_EQ(full.native(), "SQLITE_FULL");
  EXPECT_STREQ(Error(Errc::stopped, "append", "", "too late").what(), "append: too late [stopped]");
}

}  // namespace
}  // namespace millrace
